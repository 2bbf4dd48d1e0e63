"""Pipelines, joins included: what two apps store under one name stays apart in every stage."""

import itertools

from place import DATABASE, Case, client


class Aggregation(Case):
    def setUp(self):
        super().setUp()
        self.other = client("notes")
        self.addCleanup(self.other.close)
        foreign = self.other[DATABASE]
        self.orders, self.people = f"{self.name}_orders", f"{self.name}_people"
        foreign[self.orders].insert_many([{"who": i, "n": 1000 + i} for i in range(5)])
        foreign[self.people].insert_many([{"key": i, "boss": i - 1, "foreign": 1} for i in range(5)])
        self.db[self.orders].insert_many([{"_id": i, "who": i % 3, "n": i} for i in range(9)])
        self.db[self.people].insert_many([{"_id": i, "key": i, "boss": i - 1} for i in range(3)])

    def run_on_orders(self, *stages, **options):
        return list(self.db[self.orders].aggregate(list(stages), **options))

    def test_group_sort_project(self):
        rows = self.run_on_orders(
            {"$match": {"n": {"$gte": 3}}},
            {"$group": {"_id": "$who", "sum": {"$sum": "$n"}}},
            {"$sort": {"_id": 1}},
            {"$project": {"_id": 0, "who": "$_id", "sum": 1}},
        )
        self.assertEqual(rows, [{"sum": 9, "who": 0}, {"sum": 11, "who": 1}, {"sum": 13, "who": 2}])

    def test_counting_and_bucketing(self):
        self.assertEqual(self.run_on_orders({"$count": "n"}), [{"n": 9}])
        buckets = self.run_on_orders({"$bucket": {"groupBy": "$n", "boundaries": [0, 5, 2000]}})
        self.assertEqual([b["count"] for b in buckets], [5, 4])
        self.assertEqual(len(self.run_on_orders({"$sample": {"size": 100}})), 9)
        self.assertEqual(self.run_on_orders({"$sortByCount": "$who"})[0]["count"], 3)

    def test_whole_documents_do_not_show_the_owner(self):
        row = self.run_on_orders({"$match": {"_id": 1}}, {"$project": {"all": "$$ROOT"}})[0]
        self.assertEqual(row["all"], {"_id": 1, "who": 1, "n": 1})
        row = self.run_on_orders(
            {"$match": {"_id": 1}}, {"$project": {"names": {"$objectToArray": "$$ROOT"}}}
        )[0]
        self.assertEqual([field["k"] for field in row["names"]], ["_id", "who", "n"])
        row = self.run_on_orders({"$group": {"_id": None, "all": {"$push": "$$ROOT"}}})[0]
        self.assertTrue(all("app_id" not in document for document in row["all"]))

    def test_lookup(self):
        join = {"from": self.people, "localField": "who", "foreignField": "key", "as": "p"}
        rows = self.run_on_orders({"$lookup": join}, {"$unwind": "$p"})
        self.assertEqual(len(rows), 9)
        self.assertTrue(all(set(row["p"]) == {"_id", "key", "boss"} for row in rows))
        pipeline = [{"$match": {"$expr": {"$eq": ["$key", "$$w"]}}}, {"$project": {"_id": 0}}]
        join = {"from": self.people, "let": {"w": "$who"}, "pipeline": pipeline, "as": "p"}
        rows = self.run_on_orders({"$lookup": join}, {"$match": {"_id": 4}})
        self.assertEqual(rows[0]["p"], [{"key": 1, "boss": 0}])
        nested = [{"$lookup": {"from": self.orders, "pipeline": [{"$count": "n"}], "as": "o"}}]
        join = {"from": self.people, "pipeline": nested, "as": "p"}
        rows = self.run_on_orders({"$lookup": join}, {"$limit": 1})
        self.assertEqual([p["o"] for p in rows[0]["p"]], [[{"n": 9}]] * 3)

    def test_facet(self):
        join = {"from": self.people, "localField": "who", "foreignField": "key", "as": "p"}
        rows = self.run_on_orders(
            {"$facet": {"count": [{"$count": "n"}], "joined": [{"$lookup": join}, {"$limit": 2}]}}
        )
        self.assertEqual(rows[0]["count"], [{"n": 9}])
        self.assertEqual([len(row["p"]) for row in rows[0]["joined"]], [1, 1])

    def test_graph_lookup(self):
        walk = {"from": self.people, "startWith": "$who", "connectFromField": "boss"}
        walk |= {"connectToField": "key", "as": "chain", "depthField": "depth"}
        rows = self.run_on_orders({"$match": {"_id": 2}}, {"$graphLookup": walk})
        chain = sorted(rows[0]["chain"], key=lambda row: row["depth"])
        self.assertEqual([row["_id"] for row in chain], [2, 1, 0])
        self.assertTrue(all("app_id" not in row for row in chain))
        rows = self.run_on_orders({"$match": {"_id": 2}}, {"$graphLookup": walk}, {"$unwind": "$chain"})
        self.assertEqual(len(rows), 3)
        self.assertTrue(all("app_id" not in row["chain"] for row in rows))

    def test_union(self):
        rows = self.run_on_orders({"$unionWith": self.people})
        self.assertEqual(len(rows), 12)
        self.assertTrue(all("app_id" not in row and "foreign" not in row for row in rows))
        rows = self.run_on_orders(
            {"$unionWith": {"coll": self.people, "pipeline": [{"$count": "people"}]}}, {"$skip": 9}
        )
        self.assertEqual(rows, [{"people": 3}])

    def test_windows_and_small_batches(self):
        window = {"partitionBy": "$who", "sortBy": {"n": 1}}
        window["output"] = {"sum": {"$sum": "$n", "window": {"documents": ["unbounded", "current"]}}}
        rows = self.run_on_orders({"$setWindowFields": window}, {"$sort": {"_id": 1}}, batchSize=2)
        self.assertEqual([row["sum"] for row in rows], [0, 1, 2, 3, 5, 7, 9, 12, 15])

    def test_options(self):
        rows = self.run_on_orders(
            {"$match": {"$expr": {"$eq": ["$n", "$$wanted"]}}}, let={"wanted": 4}, allowDiskUse=True
        )
        self.assertEqual([row["_id"] for row in rows], [4])
        rows = self.run_on_orders({"$match": {"n": 4}}, collation={"locale": "en", "strength": 1})
        self.assertEqual(len(rows), 1)
        for order in itertools.permutations([{"$sort": {"n": 1}}, {"$skip": 1}, {"$limit": 5}]):
            self.assertTrue(all(row["n"] < 1000 for row in self.run_on_orders(*order)))

    def test_out_replaces_the_apps_documents_and_no_others(self):
        before = self.other[DATABASE][self.people].count_documents({})
        self.run_on_orders({"$match": {"n": {"$lt": 3}}}, {"$out": self.people})
        own = list(self.db[self.people].find(sort=[("_id", 1)]))
        self.assertEqual(own, [{"_id": i, "who": i % 3, "n": i} for i in range(3)])
        self.assertEqual(self.other[DATABASE][self.people].count_documents({}), before)
