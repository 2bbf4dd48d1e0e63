"""The same shop with PyMongo's asyncio API: what differs there, streams and GridFS above all."""

import asyncio
import hashlib

from gridfs import AsyncGridFSBucket
from pymongo import AsyncMongoClient, InsertOne, UpdateOne
from pymongo.errors import BulkWriteError, DuplicateKeyError

from telling import CONTENT, DATABASE, URI, error, own, tell


async def documents(db):
    products = db.products
    await products.create_index([("sku", 1)], unique=True)
    await asyncio.gather(*(products.insert_one({"_id": own(n), "sku": f"cup-{n}", "n": 0}) for n in range(20)))
    # Many at once on the same documents.
    await asyncio.gather(*(products.update_one({"sku": f"cup-{n % 20}"}, {"$inc": {"n": 1}}) for n in range(100)))
    told = {"found": [one async for one in products.find(sort=[("_id", 1)], batch_size=3)]}
    try:
        await products.insert_one({"_id": own("again"), "sku": "cup-1"})
    except DuplicateKeyError as failure:
        told["twice"] = error(failure)
    tell("documents", told)


async def aggregation(db):
    await db.sales.insert_many([{"_id": own(n), "sku": f"cup-{n % 3}"} for n in range(7)])
    joined = {"$lookup": {"from": "products", "localField": "sku", "foreignField": "sku", "as": "product"}}
    total = {"$group": {"_id": "$sku", "n": {"$sum": 1}, "sum": {"$sum": {"$first": "$product.n"}}}}
    cursor = await db.sales.aggregate([joined, total, {"$sort": {"_id": 1}}])
    tell("aggregation", await cursor.to_list())


async def bulk(db):
    requests = [InsertOne({"_id": own("b1")}), UpdateOne({"_id": own("b1")}, {"$set": {"n": 1}}), InsertOne({"_id": own("b1")})]
    try:
        await db.bulk.bulk_write(requests)
    except BulkWriteError as failure:
        tell("bulk", error(failure))


async def transaction(db):
    async def sell(session):
        await db.products.update_one({"_id": own(3)}, {"$inc": {"n": -1}}, session=session)
        await db.sales.insert_one({"_id": own("sold")}, session=session)
        return await db.sales.count_documents({}, session=session)

    async with db.client.start_session() as session:
        told = {"inside": await session.with_transaction(sell)}
        async with await session.start_transaction():
            await db.sales.insert_one({"_id": own("cancelled")}, session=session)
            await session.abort_transaction()
    told["after"] = await db.sales.count_documents({})
    tell("transaction", told)


async def events(db):
    async with await db.events.watch([{"$match": {"operationType": "insert"}}]) as stream:
        await db.events.insert_many([{"_id": own(n)} for n in range(3)])
        first, token = (await stream.next())["documentKey"], stream.resume_token
    async with await db.events.watch(start_after=token) as stream:
        rest = [(await stream.next())["documentKey"] for _ in range(2)]
    tell("events", [first, *rest])


async def files(db):
    store = AsyncGridFSBucket(db, bucket_name="papers")
    for name in ("a", "b", "a"):
        async with store.open_upload_stream(name, chunk_size_bytes=50_000) as there:
            await there.write(CONTENT[:300_000])
            await there.write(CONTENT[300_000:])
    listed = [[one.filename, one.length] async for one in store.find({}).sort("filename", 1)]
    newest = await store.open_download_stream_by_name("a")
    digest = hashlib.sha256(await newest.read()).hexdigest()
    await store.rename(newest._id, "c")
    await store.delete(newest._id)
    tell("files", {"listed": listed, "whole": digest, "chunks": await db["papers.chunks"].count_documents({})})


async def everything(db):
    tell("everything", {name: await db[name].count_documents({}) for name in sorted(await db.list_collection_names())})


async def main():
    async with AsyncMongoClient(URI) as client:
        for step in (documents, aggregation, bulk, transaction, events, files, everything):
            await step(client[DATABASE])


if __name__ == "__main__":
    asyncio.run(main())
