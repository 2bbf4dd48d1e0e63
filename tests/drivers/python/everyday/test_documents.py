"""Reading and writing documents."""

import datetime
import decimal
import re
import uuid

import bson
import gridfs
from bson import Binary, Code, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from pymongo import DeleteMany, DeleteOne, InsertOne, ReplaceOne, ReturnDocument, UpdateMany, UpdateOne
from pymongo.errors import (
    BulkWriteError,
    DocumentTooLarge,
    DuplicateKeyError,
    OperationFailure,
    WriteError,
)
from pymongo.write_concern import WriteConcern

import place
import raw
from place import DATABASE, Case

MEBIBYTE = 1024 * 1024

# Of every BSON type one value or more, at the edges where there are some.
VALUES = {
    "double": [1.5, float("inf"), -0.0],
    "string": ["", "ä€😀", "a\0b"],
    "document": [{}, {"app_id": "mine, below the top level"}],
    "array": [[], [1, [2, {"app_id": 3}]]],
    "binary": [b"", Binary(b"\0\1", 128), Binary.from_uuid(uuid.UUID(int=7))],
    "objectId": [ObjectId("5f43a1b2c3d4e5f60718293a")],
    "bool": [True, False],
    "date": [datetime.datetime(1969, 12, 31, 23, 59, 59, 999000)],
    "null": [None],
    "regex": [Regex("^a.*$", "imsx")],
    "reference": [DBRef("c", 1, "d")],
    "code": [Code("1"), Code("x", {"x": 1})],
    "int32": [2**31 - 1, -(2**31)],
    "int64": [Int64(2**63 - 1), Int64(0)],
    "timestamp": [Timestamp(4294967295, 1)],
    "decimal": [Decimal128(decimal.Decimal("9.99")), Decimal128("NaN"), Decimal128("-0E+3")],
    "minKey": [MinKey()],
    "maxKey": [MaxKey()],
}


class Documents(Case):
    def test_create_read_update_delete(self):
        c = self.collection
        self.assertEqual(c.insert_one({"_id": 1, "n": 1}).inserted_id, 1)
        ids = c.insert_many([{"n": n} for n in range(2, 12)]).inserted_ids
        self.assertEqual(len(ids), 10)
        self.assertEqual(c.find_one({"n": 1}), {"_id": 1, "n": 1})
        self.assertEqual([d["n"] for d in c.find({}, sort=[("n", -1)], skip=1, limit=3)], [10, 9, 8])
        self.assertEqual(c.find_one({"n": 5}, {"_id": 0}), {"n": 5})
        updated = c.update_many({"n": {"$gt": 5}}, {"$inc": {"n": 100}, "$set": {"big": True}})
        self.assertEqual((updated.matched_count, updated.modified_count), (6, 6))
        self.assertEqual(c.update_one({"_id": 1}, {"$set": {"n": 1}}).modified_count, 0)
        self.assertEqual(c.replace_one({"_id": 1}, {"r": 1}).modified_count, 1)
        self.assertEqual(c.find_one({"_id": 1}), {"_id": 1, "r": 1})
        upserted = c.update_one({"_id": "u", "k": 3}, {"$set": {"v": 4}}, upsert=True)
        self.assertEqual(upserted.upserted_id, "u")
        self.assertEqual(c.find_one({"_id": "u"}), {"_id": "u", "k": 3, "v": 4})
        c.update_one({"_id": "u"}, [{"$set": {"sum": {"$add": ["$k", "$v"]}}}])
        self.assertEqual(c.find_one({"_id": "u"})["sum"], 7)
        self.assertEqual(c.delete_one({"_id": "u"}).deleted_count, 1)
        self.assertEqual(c.delete_many({"big": True}).deleted_count, 6)
        self.assertEqual(c.count_documents({}), 5)
        self.assertEqual(c.estimated_document_count(), 5)
        self.assertEqual(len(place.stored(self.server, self.name, "shop")), 5)

    def test_find_and_modify(self):
        c = self.collection
        c.insert_many([{"_id": i, "n": i} for i in range(3)])
        before = c.find_one_and_update({"_id": 1}, {"$inc": {"n": 10}})
        self.assertEqual(before, {"_id": 1, "n": 1})
        after = c.find_one_and_update(
            {"n": {"$lt": 5}}, {"$inc": {"n": 10}}, sort=[("n", -1)], return_document=ReturnDocument.AFTER
        )
        self.assertEqual(after, {"_id": 2, "n": 12})
        replaced = c.find_one_and_replace(
            {"_id": 9}, {"x": 1}, upsert=True, return_document=ReturnDocument.AFTER
        )
        self.assertEqual(replaced, {"_id": 9, "x": 1})
        self.assertEqual(c.find_one_and_delete({"_id": 9}, {"_id": 0}), {"x": 1})
        self.assertIsNone(c.find_one_and_delete({"_id": 9}))

    def test_array_updates(self):
        c = self.collection
        c.insert_one({"_id": 1, "a": [{"k": 1, "v": 1}, {"k": 2, "v": 2}]})
        c.update_one({"_id": 1, "a.k": 2}, {"$set": {"a.$.v": 20}})
        c.update_one({"_id": 1}, {"$inc": {"a.$[e].v": 5}}, array_filters=[{"e.k": 1}])
        c.update_one({"_id": 1}, {"$push": {"a": {"$each": [{"k": 3}], "$sort": {"k": -1}}}})
        self.assertEqual(c.find_one()["a"], [{"k": 3}, {"k": 2, "v": 20}, {"k": 1, "v": 6}])
        self.assertEqual(c.find_one({}, {"a": {"$elemMatch": {"k": 2}}})["a"], [{"k": 2, "v": 20}])

    def test_every_bson_type_comes_back(self):
        for kind, values in VALUES.items():
            for index, value in enumerate(values):
                with self.subTest(kind=kind, index=index):
                    document = {"_id": f"{kind}-{index}", "v": value, "in": {"d": [value]}}
                    self.collection.insert_one(document)
                    mine = self.db.get_collection(self.name, codec_options=place.RAW)
                    found = mine.find_one({"_id": document["_id"]})
                    self.assertEqual(found.raw, bson.encode(document))

    def test_the_owner_is_stored_behind_the_id_and_never_shown(self):
        self.collection.insert_many([{"_id": 1, "a": 1}, {"b": 1}, {"a": 1, "_id": 3}])
        for document in place.stored(self.server, self.name):
            self.assertEqual(raw.names(document)[:2], ["_id", "app_id"])
        for document in self.collection.find():
            self.assertNotIn("app_id", document)

    def test_large_and_deep_documents(self):
        large = {"_id": "large", "v": b"x" * (15 * MEBIBYTE)}
        self.collection.insert_one(large)
        self.assertEqual(len(self.collection.find_one({"_id": "large"})["v"]), 15 * MEBIBYTE)
        self.collection.update_one({"_id": "large"}, {"$set": {"n": 1}})
        # mongod stores up to 180 levels, the document itself being one.
        deep = {}
        for _ in range(150):
            deep = {"d": deep}
        self.collection.insert_one({"_id": "deep", "v": deep})
        self.assertEqual(self.collection.find_one({"_id": "deep"})["v"], deep)
        for _ in range(100):
            deep = {"d": deep}
        with self.assertRaises(OperationFailure):
            self.collection.insert_one({"_id": "deeper", "v": deep})
        with self.assertRaises((DocumentTooLarge, WriteError, OperationFailure)):
            self.collection.insert_one({"v": b"x" * (16 * MEBIBYTE)})
        self.assertEqual(self.collection.count_documents({}), 2)

    def test_a_batch_of_large_documents(self):
        documents = [{"_id": i, "v": b"x" * MEBIBYTE} for i in range(60)]
        self.collection.insert_many(documents)
        self.assertEqual(sum(len(d["v"]) for d in self.collection.find()), 60 * MEBIBYTE)

    def test_mixed_bulk_write(self):
        c = self.collection
        result = c.bulk_write(
            [InsertOne({"_id": i, "n": i}) for i in range(10)]
            + [UpdateOne({"_id": 1}, {"$set": {"n": 100}}), UpdateMany({"n": {"$gt": 7}}, {"$inc": {"n": 1}})]
            + [ReplaceOne({"_id": "r"}, {"x": 1}, upsert=True), DeleteOne({"_id": 2})]
            + [DeleteMany({"n": {"$lt": 4}})]
        )
        counts = (result.inserted_count, result.modified_count, result.deleted_count)
        self.assertEqual(counts, (10, 4, 3))
        self.assertEqual(result.upserted_ids, {12: "r"})

    def test_write_errors_carry_their_index(self):
        with self.assertRaises(BulkWriteError) as caught:
            self.collection.insert_many([{"_id": 1}, {"_id": 1}, {"_id": 2}, {"_id": 1}], ordered=False)
        details = caught.exception.details
        self.assertEqual([(e["index"], e["code"]) for e in details["writeErrors"]], [(1, 11000), (3, 11000)])
        self.assertEqual(details["nInserted"], 2)

    def test_duplicate_keys_are_told_in_the_apps_words(self):
        self.collection.create_index([("mail", 1), ("n", 1)], unique=True, name="one_mail")
        self.collection.insert_one({"mail": "a@example.com", "n": 1})
        with self.assertRaises(DuplicateKeyError) as caught:
            self.collection.insert_one({"mail": "a@example.com", "n": 1})
        details = caught.exception.details
        self.assertEqual(details["keyPattern"], {"mail": 1, "n": 1})
        self.assertEqual(details["keyValue"], {"mail": "a@example.com", "n": 1})
        text = f"E11000 duplicate key error collection: {DATABASE}.{self.name} index: one_mail "
        self.assertEqual(details["errmsg"], text + 'dup key: { mail: "a@example.com", n: 1 }')
        self.collection.insert_one({"_id": 1})
        with self.assertRaises(DuplicateKeyError) as caught:
            self.collection.insert_one({"_id": 1})
        self.assertEqual(caught.exception.details["keyValue"], {"_id": 1})
        self.assertIn("index: _id_ dup key: { _id: 1 }", caught.exception.details["errmsg"])

    def test_unacknowledged_writes_keep_their_order(self):
        quick = self.db.get_collection(self.name, write_concern=WriteConcern(w=0))
        with self.client.start_session():
            quick.insert_one({"_id": 1, "seen": [0]})
            for n in range(1, 2000):
                quick.update_one({"_id": 1, "seen": n - 1}, {"$push": {"seen": n}})
            quick.insert_many([{"_id": f"m{n}"} for n in range(100)])
            quick.delete_one({"_id": "m0"})
        # One pool connection at a time, so the next command is behind them.
        self.assertEqual(self.collection.find_one({"_id": 1})["seen"], list(range(2000)))
        self.assertEqual(self.collection.count_documents({}), 100)

    def test_distinct_with_collation(self):
        self.collection.insert_many([{"v": v} for v in ("a", "A", "b", "á")])
        self.assertEqual(sorted(self.collection.distinct("v")), ["A", "a", "b", "á"])
        folded = self.collection.distinct("v", collation={"locale": "en", "strength": 1})
        self.assertEqual(len(folded), 2)
        found = self.collection.find({"v": "A"}, collation={"locale": "en", "strength": 2})
        self.assertEqual(sorted(d["v"] for d in found), ["A", "a"])
        self.assertEqual(self.collection.distinct("v", {"v": re.compile("^a")}), ["a"])

    def test_gridfs(self):
        bucket = gridfs.GridFSBucket(self.db, bucket_name=self.name)
        content = bytes(range(256)) * 4096 * 3
        file_id = bucket.upload_from_stream("a.bin", content, metadata={"k": 1})
        self.assertEqual(bucket.open_download_stream(file_id).read(), content)
        self.assertEqual([f.filename for f in bucket.find({"metadata.k": 1})], ["a.bin"])
        bucket.rename(file_id, "b.bin")
        self.assertEqual(bucket.open_download_stream_by_name("b.bin").length, len(content))
        bucket.delete(file_id)
        self.assertEqual(self.db[f"{self.name}.chunks"].count_documents({}), 0)
        files = gridfs.GridFS(self.db, collection=self.name)
        kept = files.put(b"hello", filename="c")
        self.assertEqual(files.get(kept).read(), b"hello")
        self.assertTrue(files.exists(filename="c"))
