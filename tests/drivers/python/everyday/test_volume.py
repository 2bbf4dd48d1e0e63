"""Bulk writes of 100,000 documents and cursors of 50,000."""

from bson import Int64
from pymongo import DeleteOne, InsertOne, ReplaceOne, UpdateOne
from pymongo.errors import CursorNotFound, OperationFailure

import place
from place import Case

WRITES = 100_000
DOCUMENTS = 50_000


class Bulk(Case):
    def test_a_mixed_bulk_write_of_100_000(self):
        model, operations = {}, []
        for i in range(WRITES):
            kind = i % 10
            if kind < 6:
                operations.append(InsertOne({"_id": i, "n": i}))
                model[i] = {"_id": i, "n": i}
            elif kind < 8:
                operations.append(UpdateOne({"_id": i - kind}, {"$inc": {"n": 1}, "$set": {f"k{kind}": i}}))
                model[i - kind]["n"] += 1
                model[i - kind][f"k{kind}"] = i
            elif kind == 8:
                operations.append(ReplaceOne({"_id": i - kind + 1}, {"r": i}))
                model[i - kind + 1] = {"_id": i - kind + 1, "r": i}
            else:
                operations.append(DeleteOne({"_id": i - kind + 2}))
                del model[i - kind + 2]
        result = self.collection.bulk_write(operations)
        self.assertEqual(result.inserted_count, WRITES * 6 // 10)
        self.assertEqual(result.modified_count, WRITES * 3 // 10)
        self.assertEqual(result.deleted_count, WRITES // 10)
        self.check(model)

    def test_a_batch_of_100_000_of_one_kind(self):
        for ordered in (True, False):
            with self.subTest(ordered=ordered):
                self.collection.delete_many({})
                documents = [{"_id": i, "n": i} for i in range(WRITES)]
                self.collection.insert_many(documents, ordered=ordered)
                updates = [UpdateOne({"_id": i}, {"$set": {"n": -i}}) for i in range(WRITES)]
                result = self.collection.bulk_write(updates, ordered=ordered)
                self.assertEqual(result.modified_count, WRITES - 1)
                deletes = [DeleteOne({"_id": i}) for i in range(0, WRITES, 2)]
                result = self.collection.bulk_write(deletes, ordered=ordered)
                self.assertEqual(result.deleted_count, WRITES // 2)
                self.check({i: {"_id": i, "n": -i} for i in range(1, WRITES, 2)})

    def check(self, model):
        found = {document["_id"]: document for document in self.collection.find()}
        self.assertEqual(len(found), len(model))
        self.assertTrue(found == model)
        self.assertEqual(self.server[place.DATABASE][self.name].count_documents({"app_id": "shop"}), len(model))


class Cursors(Case):
    def setUp(self):
        super().setUp()
        self.collection.insert_many([{"_id": i, "pad": "x" * 50} for i in range(DOCUMENTS)])
        self.addCleanup(self.server[place.DATABASE][self.name].drop)

    def test_50_000_documents_in_small_batches(self):
        ids = [document["_id"] for document in self.collection.find(sort=[("_id", 1)], batch_size=100)]
        self.assertEqual(ids, list(range(DOCUMENTS)))
        pipeline = [{"$match": {"_id": {"$gte": 0}}}, {"$sort": {"_id": 1}}]
        rows = self.collection.aggregate(pipeline, batchSize=137)
        self.assertEqual([row["_id"] for row in rows], list(range(DOCUMENTS)))

    def test_raw_batches(self):
        size = sum(len(batch) for batch in self.collection.find_raw_batches(batch_size=5000))
        self.assertGreater(size, DOCUMENTS * 50)

    def test_cursors_that_are_killed_are_gone(self):
        cursor = self.collection.find(batch_size=10)
        next(cursor)
        cursor_id = cursor.cursor_id
        cursor.close()
        with self.assertRaises(CursorNotFound) as caught:
            self.db.command({"getMore": cursor_id, "collection": self.name})
        self.assertEqual(caught.exception.code, 43)
        opened = Int64(self.db.command({"find": self.name, "batchSize": 1})["cursor"]["id"])
        reply = self.db.command({"killCursors": self.name, "cursors": [opened, Int64(4711)]})
        self.assertEqual((reply["cursorsKilled"], reply["cursorsNotFound"]), ([opened], [4711]))
        opened = Int64(self.db.command({"find": self.name, "batchSize": 1})["cursor"]["id"])
        with self.assertRaises(OperationFailure):
            self.db.command({"getMore": opened, "collection": "another"})

    def test_many_open_cursors(self):
        cursors = [self.collection.find(batch_size=2) for _ in range(200)]
        for _ in range(5):
            for cursor in cursors:
                next(cursor)
        for cursor in cursors:
            cursor.close()
