"""Indexes: each app has its own, under its own names."""

import datetime

from pymongo import ASCENDING, DESCENDING, GEO2D, GEOSPHERE, HASHED, TEXT, IndexModel
from pymongo.errors import DuplicateKeyError, OperationFailure

from place import DATABASE, Case, client

# What is asked for, and what `listIndexes` has to say beyond `v`, `key` and `name`.
KINDS = {
    "single": ([("a", ASCENDING)], {}),
    "compound": ([("a", ASCENDING), ("b", DESCENDING)], {}),
    "unique": ([("u", ASCENDING)], {"unique": True}),
    "sparse": ([("s", ASCENDING)], {"sparse": True}),
    "partial": ([("p", ASCENDING)], {"partialFilterExpression": {"p": {"$gt": 5}}}),
    "expiring": ([("when", ASCENDING)], {"expireAfterSeconds": 3600}),
    "hidden": ([("h", ASCENDING)], {"hidden": True}),
    "sphere": ([("place", GEOSPHERE)], {}),
    "plane": ([("flat", GEO2D)], {}),
    "hashed": ([("hash", HASHED)], {}),
    "wildcard": ([("w.$**", ASCENDING)], {}),
    "nested": ([("o.p.q", ASCENDING)], {}),
}


class Indexes(Case):
    def setUp(self):
        super().setUp()
        self.other = client("notes")
        self.addCleanup(self.other.close)
        self.foreign = self.other[DATABASE][self.name]

    def test_the_common_kinds(self):
        c = self.collection
        c.insert_one({"_id": 1, "a": 1})
        self.foreign.insert_one({"_id": 2, "a": [1], "b": [2], "u": 1, "place": "nowhere", "hash": [1]})
        self.foreign.insert_one({"_id": 3, "u": 1, "flat": "x", "when": datetime.datetime(2000, 1, 1)})
        for name, (keys, options) in KINDS.items():
            with self.subTest(name):
                self.assertEqual(c.create_index(keys, name=name, **options), name)
                self.assertEqual(c.create_index(keys, name=name, **options), name)
                found = c.index_information()[name]
                self.assertEqual([tuple(key) for key in found["key"]], keys)
                rest = {k: v for k, v in found.items() if k not in ("key", "v", "2dsphereIndexVersion")}
                self.assertEqual(rest, options)
        self.assertEqual(set(c.index_information()), {"_id_", *KINDS})
        self.assertEqual(set(self.foreign.index_information()), {"_id_"})
        # The kinds that would refuse or remove such documents bind their own app alone.
        self.foreign.insert_one({"u": 1, "a": [1], "b": [2], "place": 7, "flat": "x", "hash": [1, 2]})
        self.assertEqual(self.foreign.count_documents({}), 3)
        for name in KINDS:
            with self.subTest(drop=name):
                c.drop_index(name)
        self.assertEqual(set(c.index_information()), {"_id_"})

    def test_several_at_once_and_dropping(self):
        c = self.collection
        models = [IndexModel([("x", 1)]), IndexModel([("y", -1)], name="why"), IndexModel([("z", 1)])]
        self.assertEqual(c.create_indexes(models), ["x_1", "why", "z_1"])
        self.foreign.create_index("x")
        self.assertEqual([index["name"] for index in c.list_indexes()], ["_id_", "x_1", "why", "z_1"])
        c.drop_index([("z", 1)])
        with self.assertRaises(OperationFailure) as caught:
            c.drop_index("z_1")
        self.assertEqual(caught.exception.code, 27)
        c.drop_indexes()
        self.assertEqual(set(c.index_information()), {"_id_"})
        self.assertEqual(set(self.foreign.index_information()), {"_id_", "x_1"})

    def test_conflicts(self):
        self.collection.create_index("x", name="one")
        for keys, options, code in (
            ("x", {"name": "two"}, 85),
            ("y", {"name": "one"}, 86),
            ("app_id", {}, 67),
        ):
            with self.subTest(keys), self.assertRaises(OperationFailure) as caught:
                self.collection.create_index(keys, **options)
            with self.subTest(keys):
                self.assertEqual(caught.exception.code, code)

    def test_a_unique_index_binds_one_app(self):
        self.collection.create_index("e", unique=True)
        self.foreign.insert_many([{"e": 1}, {"e": 1}])
        self.collection.insert_one({"e": 1})
        with self.assertRaises(DuplicateKeyError):
            self.collection.insert_one({"e": 1})
        with self.assertRaises(DuplicateKeyError):
            self.foreign.create_index("e", unique=True)
        self.assertEqual(set(self.foreign.index_information()), {"_id_"})

    def test_hints(self):
        c = self.collection
        c.insert_many([{"x": i, "y": -i} for i in range(20)])
        c.create_index("x")
        c.create_index([("y", 1)], name="why")
        self.assertEqual(len(list(c.find({"x": {"$gt": 5}}).hint([("x", 1)]))), 14)
        self.assertEqual([d["x"] for d in c.find().hint("why")], list(range(19, -1, -1)))
        self.assertEqual(c.count_documents({"x": {"$gt": 5}}, hint="x_1"), 14)
        self.assertEqual(len(list(c.find({"_id": {"$exists": True}}).hint("_id_"))), 20)
        self.assertEqual([d["x"] for d in c.find().hint([("$natural", 1)])], list(range(20)))
        c.update_one({"x": 3}, {"$set": {"z": 1}}, hint="x_1")
        c.delete_one({"x": 4}, hint=[("x", 1)])
        self.assertEqual(len(list(c.aggregate([{"$match": {"x": 3}}], hint="x_1"))), 1)
        with self.assertRaises(OperationFailure) as caught:
            list(c.find().hint("nothing_1"))
        self.assertEqual(caught.exception.code, 2)

    def test_text_search(self):
        self.collection.create_index([("t", TEXT)])
        self.collection.insert_many([{"t": "coffee shop"}, {"t": "tea"}])
        self.foreign.insert_one({"t": "coffee notes"})
        found = list(self.collection.find({"$text": {"$search": "coffee"}}))
        self.assertEqual([d["t"] for d in found], ["coffee shop"])

    def test_near(self):
        self.collection.create_index([("at", GEOSPHERE)])
        point = {"type": "Point", "coordinates": [1, 1]}
        self.collection.insert_one({"_id": 1, "at": point})
        self.foreign.insert_one({"_id": 2, "at": point})
        found = self.collection.find({"at": {"$near": {"$geometry": point, "$maxDistance": 10}}})
        self.assertEqual([d["_id"] for d in found], [1])
        near = [{"$geoNear": {"near": point, "distanceField": "d", "spherical": True}}]
        try:
            self.assertEqual([d["_id"] for d in self.collection.aggregate(near)], [1])
        except OperationFailure as error:
            self.assertEqual(error.code, 13)

    def test_explain_names_the_apps_index(self):
        self.collection.insert_many([{"x": i} for i in range(10)])
        self.collection.create_index("x")
        plan = self.collection.find({"x": 3}).explain()
        text = repr(plan)
        self.assertIn("IXSCAN", text)
        self.assertIn("'x_1'", text)
        self.assertEqual(plan["queryPlanner"]["namespace"], f"{DATABASE}.{self.name}")
        for hidden in ("app_id", "'shop'", "shop."):
            self.assertNotIn(hidden, text)
        inner = {"aggregate": self.name, "pipeline": [{"$match": {"x": 1}}], "cursor": {}}
        for command in (inner, {"count": self.name, "query": {"x": 1}}, {"distinct": self.name, "key": "x"}):
            for verbosity in ("queryPlanner", "executionStats"):
                with self.subTest(command, verbosity=verbosity):
                    reply = self.db.command({"explain": command, "verbosity": verbosity})
                    self.assertNotIn("app_id", repr(reply))
