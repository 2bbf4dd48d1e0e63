"""Two apps and more on the same collections at once; then what is stored is compared with what each
app believes."""

import random
import threading
import unittest
from collections import Counter

import bson
from pymongo import DeleteOne, InsertOne, ReplaceOne, UpdateOne
from pymongo.errors import PyMongoError

import place
import raw
from place import APPS, DATABASE, client

COLLECTIONS = ["two_apps_a", "two_apps_b"]
THREADS_PER_APP = 2
ROUNDS = 400


class Worker(threading.Thread):
    """Writes as an app, at random, and keeps a model of its documents."""

    def __init__(self, app, index, seed):
        super().__init__()
        self.app, self.index = app, index
        self.random = random.Random(seed)
        self.model = {name: {} for name in COLLECTIONS}
        self.failure = None
        self.next_id = 0

    def run(self):
        try:
            with client(self.app) as there:
                for _ in range(ROUNDS):
                    name = self.random.choice(COLLECTIONS)
                    self.step(there[DATABASE][name], self.model[name])
        except (PyMongoError, AssertionError) as error:
            self.failure = f"{self.app}/{self.index}: {error!r}"

    def step(self, collection, model):
        actions = [self.insert, self.update, self.update_many, self.replace, self.modify, self.delete]
        actions += [self.upsert, self.bulk, self.pipeline, self.look]
        self.random.choice(actions)(collection, model)

    def fresh(self):
        self.next_id += 1
        return {
            "_id": f"{self.app}-{self.index}-{self.next_id}",
            "w": self.index,
            "group": self.random.randrange(5),
            "n": self.random.randrange(1000),
        }

    def known(self, model):
        return self.random.choice(list(model)) if model else "nothing"

    def insert(self, collection, model):
        documents = [self.fresh() for _ in range(self.random.randrange(1, 5))]
        collection.insert_many(documents)
        model.update({d["_id"]: d for d in documents})

    def update(self, collection, model):
        key = self.known(model)
        collection.update_one({"_id": key}, {"$inc": {"n": 1}, "$set": {"touched": True}})
        if key in model:
            model[key]["n"] += 1
            model[key]["touched"] = True

    def update_many(self, collection, model):
        group = self.random.randrange(5)
        result = collection.update_many({"w": self.index, "group": group}, {"$inc": {"n": 3}})
        mine = [d for d in model.values() if d["group"] == group]
        assert result.matched_count == len(mine), (result.matched_count, len(mine))
        for document in mine:
            document["n"] += 3

    def replace(self, collection, model):
        key = self.known(model)
        new = {**self.fresh(), "_id": key, "replaced": [1, {"app_id": "inner"}]}
        if collection.replace_one({"_id": key}, new).matched_count:
            model[key] = new

    def modify(self, collection, model):
        key = self.known(model)
        before = collection.find_one_and_update({"_id": key}, {"$set": {"n": 7}})
        assert before == model.get(key), (before, model.get(key))
        if key in model:
            model[key] = {**model[key], "n": 7}

    def delete(self, collection, model):
        key = self.known(model)
        assert collection.delete_one({"_id": key}).deleted_count == (key in model)
        model.pop(key, None)

    def upsert(self, collection, model):
        new = self.fresh()
        rest = {k: v for k, v in new.items() if k != "_id"}
        result = collection.update_one({"_id": new["_id"]}, {"$set": rest}, upsert=True)
        assert result.upserted_id == new["_id"]
        model[new["_id"]] = new

    def bulk(self, collection, model):
        new, other = self.fresh(), self.fresh()
        key = self.known(model)
        operations = [InsertOne(new), UpdateOne({"_id": new["_id"]}, {"$set": {"b": 1}})]
        operations += [ReplaceOne({"_id": other["_id"]}, other, upsert=True), DeleteOne({"_id": key})]
        collection.bulk_write(operations, ordered=True)
        model.pop(key, None)
        model[new["_id"]] = {**new, "b": 1}
        model[other["_id"]] = other

    def pipeline(self, collection, model):
        key = self.known(model)
        stages = [{"$set": {"n": {"$add": ["$n", 5]}}}, {"$replaceWith": {"$mergeObjects": ["$$ROOT", {"p": 1}]}}]
        collection.update_one({"_id": key}, stages)
        if key in model:
            model[key]["n"] += 5
            model[key]["p"] = 1

    def look(self, collection, model):
        found = list(collection.find({"w": self.index}, batch_size=20))
        assert {d["_id"]: d for d in found} == model, "a read differs from the model"


class TwoApps(unittest.TestCase):
    def test_each_app_has_exactly_what_it_believes(self):
        server = place.upstream()
        self.addCleanup(server.close)
        workers = [Worker(app, i, f"{app}{i}") for app in APPS for i in range(THREADS_PER_APP)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        self.assertEqual([w.failure for w in workers if w.failure], [])
        for name in COLLECTIONS:
            for app in APPS:
                with self.subTest(collection=name, app=app):
                    self.compare(server, name, app, [w for w in workers if w.app == app])
            total = sum(len(w.model[name]) for w in workers)
            self.assertEqual(server[DATABASE][name].count_documents({}), total)

    def compare(self, server, name, app, workers):
        believed = {key: d for w in workers for key, d in w.model[name].items()}
        with client(app) as there:
            seen = list(there[DATABASE][name].find())
        self.assertEqual({d["_id"]: d for d in seen}, believed)
        documents = place.stored(server, name, app)
        expected = [{"_id": k, "app_id": app} | {n: v for n, v in d.items() if n != "_id"} for k, d in believed.items()]
        found = Counter(canonical(bson.decode(document)) for document in documents)
        self.assertEqual(found, Counter(map(canonical, expected)))
        self.assertTrue(all(raw.names(d)[:2] == ["_id", "app_id"] for d in documents))


def canonical(document):
    return repr(sorted(document.items()))


class ZOwnership(unittest.TestCase):
    """Named so as to run last: after everything else in this folder, every document has one owner."""

    def test_no_document_without_owner(self):
        with place.upstream() as server:
            self.assertEqual(place.ownership_problems(server), Counter())
