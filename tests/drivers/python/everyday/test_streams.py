"""Change streams: the driver's own `watch`, of a collection, a database and the deployment."""

from place import DATABASE, Case, client


class Streams(Case):
    def setUp(self):
        super().setUp()
        self.other = client("notes")
        self.addCleanup(self.other.close)

    def disturb(self, n):
        """Another app in the same collection."""
        foreign = self.other[DATABASE][self.name]
        foreign.insert_one({"_id": f"other-{n}", "foreign": 1})
        foreign.update_one({"_id": f"other-{n}"}, {"$set": {"foreign": 2}})
        foreign.delete_one({"_id": f"other-{n}"})

    def read(self, stream, count):
        events = [next(stream) for _ in range(count)]
        self.assertNotIn("foreign", str(events))
        self.assertNotIn("app_id", str(events))
        return events

    def test_watch(self):
        collection = self.db[self.name]
        for place in (collection, self.db, self.db.client):
            with place.watch(full_document="updateLookup", max_await_time_ms=500) as stream:
                self.disturb(1)
                collection.insert_one({"_id": 1})
                collection.update_one({"_id": 1}, {"$set": {"x": 1}})
                self.disturb(2)
                collection.replace_one({"_id": 1}, {"x": 2})
                collection.delete_one({"_id": 1})
                events = self.read(stream, 4)
                kinds = [event["operationType"] for event in events]
                self.assertEqual(kinds, ["insert", "update", "replace", "delete"])
                self.assertEqual({event["ns"]["coll"] for event in events}, {self.name})
                self.assertIsNone(stream.try_next())

    def test_a_drop_ends_the_stream(self):
        collection = self.db[self.name]
        with collection.watch() as stream:
            collection.insert_many([{"_id": i} for i in range(3)])
            collection.drop()
            kinds = [event["operationType"] for event in stream]
        self.assertEqual(kinds, ["insert"] * 3 + ["drop", "invalidate"])
        self.assertFalse(stream.alive)

    def test_resume(self):
        collection = self.db[self.name]
        with collection.watch([{"$match": {"operationType": "insert"}}], max_await_time_ms=500) as stream:
            collection.insert_one({"_id": 1})
            first = next(stream)
            # The driver resumes by itself when its cursor is gone.
            self.db.command("killCursors", self.name, cursors=[stream._cursor.cursor_id])
            self.disturb(1)
            collection.insert_one({"_id": 2})
            self.assertEqual(next(stream)["documentKey"], {"_id": 2})
        with collection.watch(resume_after=first["_id"], max_await_time_ms=500) as stream:
            self.assertEqual(next(stream)["documentKey"], {"_id": 2})
