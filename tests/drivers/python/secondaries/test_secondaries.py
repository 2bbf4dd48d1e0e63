"""Reads from secondaries."""

from pymongo import ReadPreference
from pymongo.errors import OperationFailure
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

import place
from place import DATABASE, Case


class Secondaries(Case):
    def test_causal_consistency_on_secondaries(self):
        majority = {"write_concern": WriteConcern("majority"), "read_concern": ReadConcern("majority")}
        writer = self.db.get_collection(self.name, **majority)
        reader = writer.with_options(read_preference=ReadPreference.SECONDARY_PREFERRED)
        with self.client.start_session(causal_consistency=True) as session:
            for n in range(150):
                writer.update_one({"_id": 1}, {"$set": {"n": n}}, upsert=True, session=session)
                self.assertEqual(reader.find_one({"_id": 1}, session=session)["n"], n)
                self.assertEqual(reader.count_documents({"n": n}, session=session), 1)

    def test_every_read_preference(self):
        with self.client.start_session() as session:
            majority = self.db.get_collection(self.name, write_concern=WriteConcern(3))
            majority.insert_many([{"_id": i} for i in range(1000)], session=session)
            for mode in ("PRIMARY", "PRIMARY_PREFERRED", "SECONDARY", "SECONDARY_PREFERRED", "NEAREST"):
                with self.subTest(mode):
                    there = self.collection.with_options(read_preference=getattr(ReadPreference, mode))
                    found = list(there.find({}, session=session, batch_size=37))
                    self.assertEqual(len(found), 1000)
                    rows = there.aggregate([{"$sort": {"_id": 1}}], batchSize=37, session=session)
                    self.assertEqual([row["_id"] for row in rows], list(range(1000)))

    def test_secondaries_are_scoped_as_well(self):
        with place.client("notes") as other:
            there = other[DATABASE].get_collection(self.name, write_concern=WriteConcern(3))
            there.insert_many([{"_id": f"n{i}", "foreign": 1} for i in range(50)])
        reader = self.collection.with_options(read_preference=ReadPreference.SECONDARY)
        self.assertEqual(list(reader.find()), [])
        self.assertEqual(reader.count_documents({}), 0)
        self.assertEqual(list(reader.aggregate([{"$count": "n"}])), [])

    def test_writes_to_a_majority_survive(self):
        there = self.db.get_collection(self.name, write_concern=WriteConcern("majority", wtimeout=10000))
        there.insert_many([{"_id": i} for i in range(100)])
        self.assertEqual(there.with_options(read_concern=ReadConcern("majority")).count_documents({}), 100)
        with self.assertRaises(OperationFailure):
            strict = self.db.get_collection(self.name, write_concern=WriteConcern(9, wtimeout=500))
            strict.insert_one({})
