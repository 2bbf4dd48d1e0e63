"""A small shop with PyMongo's synchronous API; runs with PyMongo 3.11 as well as with the newest."""

import hashlib

import gridfs
from pymongo import ASCENDING, DeleteOne, InsertOne, MongoClient, ReadPreference, ReturnDocument, UpdateOne, monitoring
from pymongo.errors import BulkWriteError, DuplicateKeyError, OperationFailure
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from telling import CONTENT, DATABASE, URI, error, own, tell


class Sent(monitoring.CommandListener):
    """The numbered writes and the read preferences that went out."""

    def __init__(self):
        self.numbered, self.preferences = [], []

    def started(self, event):
        if "txnNumber" in event.command:
            self.numbered.append(event.command_name)
        if event.command_name == "find":
            self.preferences.append(event.command.get("$readPreference", {}).get("mode"))

    def succeeded(self, event):
        pass

    def failed(self, event):
        pass


def documents(db):
    products = db.products
    products.insert_one({"_id": own(1), "sku": "tea", "price": 3, "tags": ["hot", "leaf"]})
    products.insert_many([{"_id": own(n), "sku": f"cup-{n}", "price": n} for n in range(2, 6)])
    told = {"found": products.find_one({"sku": "tea"})}
    told["updated"] = products.update_many({"price": {"$gte": 4}}, {"$inc": {"price": 10}}).modified_count
    told["upserted"] = products.update_one({"_id": own(9)}, {"$set": {"sku": "jar"}}, upsert=True).upserted_id
    replacement = {"sku": "cup-2", "colour": "red"}
    told["replaced"] = products.replace_one({"_id": own(2)}, replacement).modified_count
    change = {"$push": {"tags": "green"}}
    told["after"] = products.find_one_and_update({"sku": "tea"}, change, return_document=ReturnDocument.AFTER)
    told["deleted"] = products.delete_one({"_id": own(9)}).deleted_count
    told["count"] = products.count_documents({})
    told["estimated"] = products.estimated_document_count()
    told["skus"] = sorted(products.distinct("sku"))
    told["batches"] = [one["_id"] for one in products.find(sort=[("_id", 1)], batch_size=2)]
    try:
        products.insert_one({"_id": own(1)})
    except DuplicateKeyError as failure:
        told["twice"] = error(failure)
    tell("documents", told)


def indexes(db):
    name = db.products.create_index([("sku", ASCENDING)], unique=True)
    db.products.create_index([("price", ASCENDING), ("tags", ASCENDING)], name="by_price", sparse=True)
    told = {"name": name, "listed": {k: dict(v) for k, v in db.products.index_information().items()}}
    try:
        db.products.insert_one({"_id": own("again"), "sku": "tea"})
    except DuplicateKeyError as failure:
        told["twice"] = error(failure)
    db.products.drop_index("by_price")
    told["left"] = sorted(db.products.index_information())
    try:
        db.products.drop_index("by_price")
    except OperationFailure as failure:
        told["gone"] = error(failure)
    tell("indexes", told)


def aggregation(db):
    sales = [{"_id": own(n), "sku": sku, "n": n} for n, sku in enumerate(["tea", "tea", "cup-3", "none"])]
    db.sales.insert_many(sales)
    joined = {"$lookup": {"from": "products", "localField": "sku", "foreignField": "sku", "as": "product"}}
    total = {"$group": {"_id": "$sku", "n": {"$sum": "$n"}, "products": {"$sum": {"$size": "$product"}}}}
    tell("aggregation", list(db.sales.aggregate([joined, total, {"$sort": {"_id": 1}}])))


def bulk(db):
    requests = [InsertOne({"_id": own("b1"), "n": 1}), UpdateOne({"_id": own("b1")}, {"$set": {"n": 2}})]
    requests += [UpdateOne({"_id": own("b2")}, {"$set": {"n": 3}}, upsert=True), DeleteOne({"_id": own("b1")})]
    result = db.bulk.bulk_write(requests).bulk_api_result
    told = {name: result[name] for name in ("nInserted", "nMatched", "nModified", "nRemoved", "upserted")}
    try:
        again = [InsertOne({"_id": own("b2")}), InsertOne({"_id": own("b3")}), InsertOne({"_id": own("b2")})]
        db.bulk.bulk_write(again, ordered=False)
    except BulkWriteError as failure:
        told["failed"] = error(failure)
    db.bulk.bulk_write([InsertOne({"_id": own(f"m{n}"), "n": n}) for n in range(5000)], ordered=False)
    told["count"] = db.bulk.count_documents({})
    tell("bulk", told)


class Cancelled(Exception):
    pass


def transaction(db):
    with db.client.start_session() as session:

        def sell(session):
            taken = db.products.update_one({"_id": own(3), "price": 3}, {"$set": {"price": 0}}, session=session)
            db.sales.insert_one({"_id": own("sold"), "sku": "cup-3"}, session=session)
            inside = db.sales.count_documents({"sku": "cup-3"}, session=session)
            return [taken.modified_count, inside, db.sales.count_documents({"sku": "cup-3"})]

        def cancel(session):
            db.sales.insert_one({"_id": own("cancelled")}, session=session)
            raise Cancelled

        options = {"read_concern": ReadConcern("snapshot"), "write_concern": WriteConcern("majority")}
        told = {"sold": session.with_transaction(sell, **options)}
        try:
            session.with_transaction(cancel)
        except Cancelled:
            told["cancelled"] = db.sales.find_one({"_id": own("cancelled")})
        told["after"] = db.sales.count_documents({"sku": "cup-3"}, session=session)
    tell("transaction", told)


def events(db):
    def plain(event):
        return {name: event.get(name) for name in ("operationType", "ns", "documentKey", "fullDocument", "updateDescription")}

    db.events.insert_one({"_id": own("before")})
    with db.events.watch(full_document="updateLookup") as stream:
        db.events.insert_one({"_id": own("e1"), "n": 1})
        told = [plain(next(stream))]
        token = stream.resume_token
        db.events.update_one({"_id": own("e1")}, {"$set": {"n": 2}})
        db.events.delete_one({"_id": own("e1")})
    with db.events.watch(resume_after=token) as stream:
        told += [plain(next(stream)), plain(next(stream))]
    tell("events", told)


def files(db):
    store = gridfs.GridFSBucket(db, chunk_size_bytes=100_000)
    first = store.upload_from_stream("manual", CONTENT, metadata={"pages": 3})
    store.upload_from_stream("manual", b"short")
    told = {"listed": [[one.filename, one.length, one.metadata] for one in store.find(sort=[("length", 1)])]}
    told["whole"] = hashlib.sha256(store.open_download_stream(first).read()).hexdigest()
    told["newest"] = store.open_download_stream_by_name("manual").read().decode()
    there = store.open_download_stream(first)
    there.seek(250_000)
    told["part"] = there.read(5).hex()
    told["chunks"] = db["fs.chunks"].count_documents({})
    store.delete(first)
    told["left"] = [db["fs.files"].count_documents({}), db["fs.chunks"].count_documents({})]
    tell("files", told)


def numbered(db, sent):
    sent.numbered.clear()
    db.sales.insert_one({"_id": own("numbered")})
    db.sales.update_many({}, {"$set": {"seen": True}})
    db.sales.find_one_and_delete({"_id": own("numbered")})
    tell("retryable writes", sent.numbered)


def preferences(db, sent):
    sent.preferences.clear()
    near = db.get_collection("sales", read_preference=ReadPreference.NEAREST)
    told = {"found": near.find_one({"_id": own("sold")}), "sent": sent.preferences}
    tell("read preference", told)


def everything(db):
    counts = {name: db[name].count_documents({}) for name in sorted(db.list_collection_names())}
    tell("everything", counts)


def main():
    sent = Sent()
    with MongoClient(URI, event_listeners=[sent]) as client:
        db = client[DATABASE]
        for step in (documents, indexes, aggregation, bulk, transaction, events, files):
            step(db)
        numbered(db, sent)
        preferences(db, sent)
        everything(db)


if __name__ == "__main__":
    main()
