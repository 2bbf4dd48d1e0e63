"""The same through PyMongo's asyncio API."""

import asyncio
import unittest

from pymongo import AsyncMongoClient, InsertOne
from pymongo.errors import OperationFailure

import place
from place import DATABASE


class Async(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        self.client = AsyncMongoClient(place.uri("shop"))
        self.addAsyncCleanup(self.client.close)
        self.collection = self.client[DATABASE][self.id().rsplit(".", 1)[1]]

    async def test_reads_and_writes(self):
        c = self.collection
        await c.insert_many([{"_id": i} for i in range(1000)])
        await c.bulk_write([InsertOne({"_id": i}) for i in range(1000, 3000)])
        ids = [document["_id"] async for document in c.find(sort=[("_id", 1)], batch_size=100)]
        self.assertEqual(ids, list(range(3000)))
        rows = await (await c.aggregate([{"$group": {"_id": None, "n": {"$sum": 1}}}])).to_list()
        self.assertEqual(rows, [{"_id": None, "n": 3000}])
        self.assertEqual((await c.delete_many({"_id": {"$lt": 1000}})).deleted_count, 1000)

    async def test_many_at_once(self):
        c = self.collection
        await asyncio.gather(*(c.update_one({"_id": i % 10}, {"$inc": {"n": 1}}, upsert=True) for i in range(500)))
        counted = [document["n"] async for document in c.find()]
        self.assertEqual(counted, [50] * 10)

    async def test_transactions(self):
        c = self.collection
        await c.insert_one({"_id": 1, "n": 0})

        async def body(session):
            value = (await c.find_one({"_id": 1}, session=session))["n"]
            await c.update_one({"_id": 1}, {"$set": {"n": value + 1}}, session=session)

        async def worker():
            async with self.client.start_session() as session:
                for _ in range(10):
                    await session.with_transaction(body)

        await asyncio.gather(worker(), worker(), worker())
        self.assertEqual((await c.find_one({"_id": 1}))["n"], 30)

    async def test_cancelled_commands_leave_nothing_behind(self):
        await self.collection.insert_many([{"_id": i} for i in range(1000)])
        slow = {"$expr": {"$gt": [{"$reduce": {"input": {"$range": [0, 20000]}, "initialValue": 0, "in": {"$add": ["$$value", 1]}}}, 0]}}
        for _ in range(5):
            with self.assertRaises((asyncio.TimeoutError, OperationFailure)):
                await asyncio.wait_for(self.collection.count_documents(slow), 0.2)
        self.assertEqual(await self.collection.count_documents({}), 1000)
