// A small shop with the Node driver. It tells a line per step, see ../python/compare.py.
import { createHash } from "node:crypto";
import { Readable } from "node:stream";
import { buffer, text } from "node:stream/consumers";
import { pipeline } from "node:stream/promises";

import { mongodb } from "./place.mjs";

const { APP_URI, APP_DATABASE, APP_PREFIX } = process.env;
const content = Buffer.from("0123456789abcdef".repeat(40_000));

// Ids are unique over all apps of a collection, so each run has a prefix of its own.
const own = (name) => `${APP_PREFIX}-${name}`;
const tell = (step, outcome) => console.log(`${step}\t${mongodb.BSON.EJSON.stringify(outcome)}`);

// What applications act on in the error of a server; a refusal is expected.
async function refused(promise) {
  try {
    await promise;
  } catch (error) {
    if (error.code === undefined) throw error;
    const { code, codeName, keyPattern, keyValue, message, writeErrors } = error;
    return { code, codeName, keyPattern, keyValue, message, errors: writeErrors?.map?.(({ index, code, errmsg }) => [index, code, errmsg]) };
  }
  throw new Error("a server that refuses was expected");
}

async function documents(db) {
  const c = db.collection("products");
  await c.insertOne({ _id: own(1), sku: "tea", price: 3, tags: ["hot"] });
  await c.insertMany([2, 3, 4, 5].map((n) => ({ _id: own(n), sku: `cup-${n}`, price: n })));
  tell("documents", {
    updated: await c.updateMany({ price: { $gte: 4 } }, { $inc: { price: 10 } }),
    upserted: await c.updateOne({ _id: own(9) }, { $set: { sku: "jar" } }, { upsert: true }),
    replaced: await c.replaceOne({ _id: own(2) }, { sku: "cup-2", colour: "red" }),
    after: await c.findOneAndUpdate({ sku: "tea" }, { $push: { tags: "green" } }, { returnDocument: "after" }),
    deleted: await c.deleteOne({ _id: own(9) }),
    twice: await refused(c.insertOne({ _id: own(1) })),
    batches: await c.find().sort({ _id: 1 }).batchSize(2).toArray(),
    skus: await c.distinct("sku"),
    count: [await c.countDocuments(), await c.estimatedDocumentCount()],
  });
}

async function indexes(db) {
  const c = db.collection("products");
  const names = [await c.createIndex({ sku: 1 }, { unique: true }), await c.createIndex({ price: 1, tags: -1 }, { sparse: true })];
  const told = { names, listed: await c.listIndexes().toArray() };
  told.twice = await refused(c.insertOne({ _id: own("again"), sku: "tea" }));
  await c.dropIndex(names[1]);
  told.gone = await refused(c.dropIndex(names[1]));
  tell("indexes", { ...told, left: await c.listIndexes().toArray() });
}

async function aggregation(db) {
  await db.collection("sales").insertMany(["tea", "tea", "cup-3", "none"].map((sku, n) => ({ _id: own(n), sku, n })));
  const rows = db.collection("sales").aggregate([
    { $lookup: { from: "products", localField: "sku", foreignField: "sku", as: "product" } },
    { $group: { _id: "$sku", n: { $sum: "$n" }, products: { $sum: { $size: "$product" } } } },
    { $sort: { _id: 1 } },
  ]);
  tell("aggregation", await rows.toArray());
}

async function bulk(db) {
  const c = db.collection("bulk");
  const done = await c.bulkWrite([
    { insertOne: { document: { _id: own("b1") } } },
    { updateOne: { filter: { _id: own("b1") }, update: { $set: { n: 2 } } } },
    { updateOne: { filter: { _id: own("b2") }, update: { $set: { n: 3 } }, upsert: true } },
    { deleteOne: { filter: { _id: own("b1") } } },
  ]);
  const { insertedCount, matchedCount, deletedCount, upsertedIds } = done;
  const again = ["b2", "b3", "b2"].map((name) => ({ _id: own(name) }));
  const failed = await refused(c.insertMany(again, { ordered: false }));
  await c.insertMany(Array.from({ length: 5000 }, (_, n) => ({ _id: own(`m${n}`), n })));
  tell("bulk", { insertedCount, matchedCount, deletedCount, upsertedIds, failed, count: await c.countDocuments() });
}

async function transaction(db) {
  const [products, sales] = [db.collection("products"), db.collection("sales")];
  const cups = { sku: "cup-3" };
  await db.client.withSession(async (session) => {
    const sell = async () => {
      const taken = await products.updateOne({ _id: own(3), price: 3 }, { $set: { price: 0 } }, { session });
      await sales.insertOne({ _id: own("sold"), sku: "cup-3" }, { session });
      return [taken.modifiedCount, await sales.countDocuments(cups, { session }), await sales.countDocuments(cups)];
    };
    const sold = await session.withTransaction(sell, { readConcern: "snapshot", writeConcern: { w: "majority" } });
    session.startTransaction();
    await sales.insertOne({ _id: own("cancelled") }, { session });
    await session.abortTransaction();
    tell("transaction", { sold, cancelled: await sales.findOne({ _id: own("cancelled") }), after: await sales.countDocuments(cups) });
  });
}

async function events(db) {
  const c = db.collection("events");
  // Tokens and times are of the one run only.
  const plain = ({ operationType, ns, documentKey, fullDocument, updateDescription }) => ({ operationType, ns, documentKey, fullDocument, updateDescription });
  await c.insertOne({ _id: own("before") });
  const stream = c.watch([], { fullDocument: "updateLookup" });
  // The stream is opened by its first read.
  await stream.tryNext();
  await c.insertOne({ _id: own("e1"), n: 1 });
  const seen = [plain(await stream.next())];
  const { resumeToken } = stream;
  await c.updateOne({ _id: own("e1") }, { $set: { n: 2 } });
  await c.deleteOne({ _id: own("e1") });
  await stream.close();
  const resumed = c.watch([], { resumeAfter: resumeToken });
  seen.push(plain(await resumed.next()), plain(await resumed.next()));
  await resumed.close();
  tell("events", seen);
}

async function files(db) {
  const store = new mongodb.GridFSBucket(db, { chunkSizeBytes: 100_000 });
  const first = store.openUploadStream("manual", { metadata: { pages: 3 } });
  await pipeline(Readable.from([content]), first);
  await pipeline(Readable.from([Buffer.from("short")]), store.openUploadStream("manual"));
  const listed = await store.find().sort({ length: 1 }).project({ _id: 0, uploadDate: 0 }).toArray();
  const whole = createHash("sha256").update(await buffer(store.openDownloadStream(first.id))).digest("hex");
  const newest = await text(store.openDownloadStreamByName("manual"));
  const chunks = await db.collection("fs.chunks").countDocuments();
  await store.delete(first.id);
  tell("files", { listed, whole, newest, chunks, left: await db.collection("fs.chunks").countDocuments() });
}

async function sent(db) {
  const seen = [];
  const note = ({ command, commandName }) => seen.push([commandName, command.txnNumber !== undefined, command.$readPreference?.mode]);
  db.client.on("commandStarted", note);
  const sales = db.collection("sales");
  await sales.insertOne({ _id: own("numbered") });
  await sales.updateMany({}, { $set: { seen: true } });
  await sales.deleteOne({ _id: own("numbered") });
  tell("retryable writes", seen.splice(0));
  const found = await sales.findOne({ _id: own("sold") }, { readPreference: "nearest" });
  db.client.off("commandStarted", note);
  tell("read preference", { found, seen });
}

async function everything(db) {
  const names = (await db.listCollections({}, { nameOnly: true }).toArray()).map(({ name }) => name).sort();
  const counts = {};
  for (const name of names) counts[name] = await db.collection(name).countDocuments();
  tell("everything", counts);
}

const client = new mongodb.MongoClient(APP_URI, { monitorCommands: true });
try {
  const db = client.db(APP_DATABASE);
  for (const step of [documents, indexes, aggregation, bulk, transaction, events, files, sent, everything]) await step(db);
} finally {
  await client.close();
}
