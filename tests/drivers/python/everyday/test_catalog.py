"""What an app sees of databases, collections and the server."""

from bson import Int64
from pymongo.errors import CollectionInvalid, OperationFailure

from place import DATABASE, Case, client


class Catalog(Case):
    def setUp(self):
        super().setUp()
        self.other = client("notes")
        self.addCleanup(self.other.close)

    def test_databases(self):
        self.client["catalog_mine"]["c"].insert_one({})
        self.other["catalog_theirs"]["c"].insert_one({})
        names = self.client.list_database_names()
        self.assertIn("catalog_mine", names)
        for hidden in ("catalog_theirs", "admin", "local", "config", "mdb_runtime"):
            self.assertNotIn(hidden, names)
        found = list(self.client.list_databases(filter={"name": "catalog_mine"}))
        self.assertEqual([row["name"] for row in found], ["catalog_mine"])
        only = list(self.client.list_databases(filter={"name": {"$regex": "^catalog"}}, nameOnly=True))
        self.assertEqual(only, [{"name": "catalog_mine"}])

    def test_collections(self):
        self.db.create_collection("catalog_made")
        self.db["catalog_filled"].insert_one({})
        self.other[DATABASE]["catalog_foreign"].insert_one({})
        names = self.db.list_collection_names()
        self.assertIn("catalog_made", names)
        self.assertIn("catalog_filled", names)
        self.assertNotIn("catalog_foreign", names)
        found = self.db.list_collection_names(filter={"name": {"$regex": "^catalog_"}})
        self.assertEqual(sorted(found), ["catalog_filled", "catalog_made"])
        row = list(self.db.list_collections(filter={"name": "catalog_made"}))[0]
        self.assertEqual((row["name"], row["type"]), ("catalog_made", "collection"))
        self.assertEqual(row["options"], {})
        with self.assertRaises(CollectionInvalid):
            self.db.create_collection("catalog_made")
        with self.assertRaises(OperationFailure) as caught:
            self.db.command("create", "catalog_made")
        self.assertEqual(caught.exception.code, 48)

    def test_drop_takes_the_apps_own_documents_only(self):
        self.collection.insert_many([{"x": 1}, {"x": 2}])
        self.collection.create_index("x")
        foreign = self.other[DATABASE][self.name]
        foreign.insert_one({"_id": "kept"})
        foreign.create_index("x")
        self.collection.drop()
        self.assertNotIn(self.name, self.db.list_collection_names())
        self.assertEqual(self.collection.count_documents({}), 0)
        self.assertEqual(foreign.find_one(), {"_id": "kept"})
        self.assertEqual(set(foreign.index_information()), {"_id_", "x_1"})
        self.collection.insert_one({"again": 1})
        self.assertEqual(set(self.collection.index_information()), {"_id_"})

    def test_dropping_a_database_leaves_the_other_app_whole(self):
        self.client["catalog_dropped"]["c"].insert_one({"x": 1})
        self.other["catalog_dropped"]["c"].insert_one({"_id": "kept"})
        try:
            self.client.drop_database("catalog_dropped")
            self.assertNotIn("catalog_dropped", self.client.list_database_names())
        except OperationFailure as error:
            # Refusing is allowed, taking another's documents is not.
            self.assertEqual(error.code, 13)
        self.assertEqual(self.other["catalog_dropped"]["c"].find_one(), {"_id": "kept"})

    def test_server_information(self):
        self.assertRegex(self.client.server_info()["version"], r"^\d+\.\d+\.\d+")
        hello = self.client.admin.command("hello")
        self.assertEqual(hello["msg"], "isdbgrid")
        for hidden in ("setName", "hosts", "me", "primary", "setVersion", "electionId", "lastWrite"):
            self.assertNotIn(hidden, hello)

    def test_names_that_are_not_an_apps(self):
        for database in ("admin", "local", "config", "mdb_runtime"):
            for name in ("things", "system.users", "keys", "oplog.rs", "catalog"):
                with self.subTest(database=database, name=name):
                    try:
                        self.assertEqual(list(self.client[database][name].find()), [])
                    except OperationFailure as error:
                        self.assertIn(error.code, (13, 26, 73))


class ErrorTexts(Case):
    # The command, and the code a bare mongod answers.
    MISTAKES = [
        ({"find": "c", "filter": {"x": {"$frobnicate": 1}}}, 2),
        ({"find": "c", "unheard": 1}, 40415),
        ({"find": 7}, 73),
        ({"find": ""}, 73),
        ({"aggregate": "c", "pipeline": [{"$frobnicate": {}}], "cursor": {}}, 40324),
        ({"aggregate": "c", "pipeline": [{"$match": {}, "$limit": 1}], "cursor": {}}, 40323),
        ({"aggregate": "c", "pipeline": [{"$project": {"x": {"$frobnicate": 1}}}], "cursor": {}}, 31325),
        ({"aggregate": "c", "pipeline": [{"$group": {"_id": {"$frobnicate": 1}}}], "cursor": {}}, 168),
        ({"aggregate": "c", "pipeline": []}, 9),
        ({"update": "c", "updates": [{"q": {}, "u": {"$frobnicate": {"x": 1}}}]}, 9),
        ({"update": "c", "updates": [{"q": {"_id": 1}, "u": {"$set": {"_id": 2}}}]}, None),
        ({"insert": "c", "documents": []}, 16),
        ({"delete": "c", "deletes": [{"q": {}}]}, 40414),
        ({"distinct": "c"}, 40414),
        ({"frobnicate": 1}, 59),
        ({"getMore": Int64(1), "collection": "c"}, 43),
        ({"find": "c", "limit": -1}, 51024),
        ({"find": "c", "collation": {"locale": "xx"}}, 2),
        ({"find": "c", "filter": {"$text": {"$search": "x"}}}, 27),
        ({"find": "c", "projection": {"a": 1, "b": 0}}, 31254),
        ({"findAndModify": "c", "query": {}}, 9),
        ({"commitTransaction": 1}, None),
        ({"count": "c", "query": 7}, 14),
    ]

    def test_mistakes_are_told_as_mongod_tells_them(self):
        self.db["c"].insert_one({"_id": 1})
        bare = self.server["direct"]
        bare["c"].insert_one({"_id": 1})
        self.addCleanup(self.server.drop_database, "direct")
        for command, code in self.MISTAKES:
            with self.subTest(command):
                reply = self.db.command(dict(command), check=False)
                native = bare.command(dict(command), check=False)
                if code is not None:
                    self.assertEqual(native.get("code", self.write_code(native)), code, "the case is wrong")
                # A refused statement refuses its whole command, so a write error may stand on top.
                expected = native.get("code", self.write_code(native))
                found = reply.get("code", self.write_code(reply))
                self.assertEqual(found, expected, reply.get("errmsg"))
                self.assertNotIn("app_id", repr(reply))

    @staticmethod
    def write_code(reply):
        errors = reply.get("writeErrors")
        return errors[0]["code"] if errors else None
