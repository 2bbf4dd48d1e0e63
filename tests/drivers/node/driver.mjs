// What any application does with the Node driver, as an app behind the proxy.
import assert from "node:assert/strict";
import { test } from "node:test";

import { database, mongodb, uri, withClient, withUpstream } from "./place.mjs";

const WRITES = 100_000;
const DOCUMENTS = 50_000;

test("documents", async () => {
  await withClient("shop", async (db) => {
    const c = db.collection("node_documents");
    assert.equal((await c.insertOne({ _id: 1, n: 1 })).insertedId, 1);
    assert.equal((await c.insertMany([{ n: 2 }, { n: 3 }, { n: 4 }])).insertedCount, 3);
    assert.deepEqual(await c.findOne({ _id: 1 }), { _id: 1, n: 1 });
    assert.deepEqual((await c.find().sort({ n: -1 }).limit(2).toArray()).map((d) => d.n), [4, 3]);
    assert.equal((await c.updateMany({ n: { $gt: 2 } }, { $inc: { n: 10 } })).modifiedCount, 2);
    assert.equal((await c.replaceOne({ _id: 1 }, { r: 1 })).modifiedCount, 1);
    const after = await c.findOneAndUpdate({ _id: 9 }, { $set: { x: 1 } }, { upsert: true, returnDocument: "after" });
    assert.deepEqual(after, { _id: 9, x: 1 });
    assert.deepEqual(await c.findOneAndDelete({ _id: 9 }), { _id: 9, x: 1 });
    assert.equal((await c.deleteMany({ n: 2 })).deletedCount, 1);
    assert.equal(await c.countDocuments(), 3);
    assert.equal(await c.estimatedDocumentCount(), 3);
    assert.deepEqual((await c.distinct("n")).sort(), [13, 14]);
    await assert.rejects(c.insertOne({ _id: 1 }), (error) => {
      assert.equal(error.code, 11000);
      assert.deepEqual(error.keyPattern, { _id: 1 });
      assert.deepEqual(error.keyValue, { _id: 1 });
      return true;
    });
  });
});

test("values", async () => {
  const { Binary, Decimal128, Double, Int32, Long, MaxKey, MinKey, ObjectId, Timestamp, UUID } = mongodb;
  const values = [new Double(1), new Int32(2), Long.MAX_VALUE, Decimal128.fromString("9.99"), new MinKey(), new MaxKey()];
  values.push(new ObjectId(), new Timestamp({ t: 1, i: 2 }), new UUID(), new Binary(Buffer.from("x"), 128), /a/i, null);
  values.push(new Date(0), "ä€😀", { app_id: "below the top" }, [[]], true);
  await withClient("shop", async (db) => {
    const c = db.collection("node_values");
    await c.insertOne({ _id: 1, values });
    const found = await c.findOne({ _id: 1 }, { promoteValues: false, bsonRegExp: false });
    assert.equal(mongodb.BSON.EJSON.stringify(found, { relaxed: false }), mongodb.BSON.EJSON.stringify({ _id: 1, values }, { relaxed: false }));
  });
});

test("aggregation", async () => {
  await withClient("notes", (db) => db.collection("node_people").insertMany([{ k: 1, foreign: true }, { k: 2, foreign: true }]));
  await withClient("shop", async (db) => {
    await db.collection("node_people").insertMany([{ _id: 1, k: 1, boss: 0 }, { _id: 2, k: 2, boss: 1 }]);
    const c = db.collection("node_orders");
    await c.insertMany([{ _id: 1, k: 1, n: 5 }, { _id: 2, k: 2, n: 6 }]);
    const joined = await c
      .aggregate([
        { $lookup: { from: "node_people", localField: "k", foreignField: "k", as: "p" } },
        { $facet: { rows: [{ $sort: { _id: 1 } }], sum: [{ $group: { _id: null, n: { $sum: "$n" } } }] } },
      ])
      .toArray();
    assert.deepEqual(joined[0].rows[0], { _id: 1, k: 1, n: 5, p: [{ _id: 1, k: 1, boss: 0 }] });
    assert.deepEqual(joined[0].sum, [{ _id: null, n: 11 }]);
    const graph = { from: "node_people", startWith: "$k", connectFromField: "boss", connectToField: "k", as: "chain" };
    const walked = await c.aggregate([{ $match: { _id: 2 } }, { $graphLookup: graph }]).toArray();
    assert.deepEqual(walked[0].chain.map((d) => d._id).sort(), [1, 2]);
    assert.equal((await c.aggregate([{ $unionWith: "node_people" }]).toArray()).length, 4);
  });
});

test("a bulk write of 100,000", async () => {
  await withClient("shop", async (db) => {
    const c = db.collection("node_bulk");
    const inserts = Array.from({ length: WRITES / 2 }, (_, i) => ({ insertOne: { document: { _id: i, n: 0 } } }));
    const rest = Array.from({ length: WRITES / 2 }, (_, i) =>
      i % 5 === 0 ? { deleteOne: { filter: { _id: i } } } : { updateOne: { filter: { _id: i }, update: { $inc: { n: i } } } },
    );
    const result = await c.bulkWrite([...inserts, ...rest]);
    assert.deepEqual([result.insertedCount, result.matchedCount, result.deletedCount], [WRITES / 2, WRITES * 0.4, WRITES / 10]);
    const wrong = (await c.find().toArray()).filter((d) => d.n !== d._id || d._id % 5 === 0);
    assert.deepEqual(wrong, []);
    assert.equal(await c.countDocuments(), WRITES * 0.4);
  });
});

test("a cursor of 50,000 documents", async () => {
  await withClient("shop", async (db) => {
    const c = db.collection("node_cursor");
    await c.insertMany(Array.from({ length: DOCUMENTS }, (_, i) => ({ _id: i })));
    let next = 0;
    for await (const document of c.find().sort({ _id: 1 }).batchSize(100)) {
      assert.equal(document._id, next++);
    }
    assert.equal(next, DOCUMENTS);
    const abandoned = c.find().batchSize(10);
    await abandoned.next();
    await abandoned.close();
    const pieces = await c.find().stream();
    pieces.destroy();
    assert.equal((await c.aggregate([{ $match: {} }], { batchSize: 101 }).toArray()).length, DOCUMENTS);
  });
});

test("transactions", async () => {
  await withClient("shop", async (db, client) => {
    const c = db.collection("node_transactions");
    await c.insertOne({ _id: 1, n: 0 });
    const add = (session) =>
      session.withTransaction(async () => {
        const { n } = await c.findOne({ _id: 1 }, { session });
        await c.updateOne({ _id: 1 }, { $set: { n: n + 1 } }, { session });
      });
    const worker = () =>
      client.withSession(async (session) => {
        for (let i = 0; i < 10; i++) await add(session);
      });
    await Promise.all([worker(), worker()]);
    assert.deepEqual(await c.findOne({ _id: 1 }), { _id: 1, n: 20 });
    await client.withSession(async (session) => {
      session.startTransaction();
      await c.insertOne({ _id: 2 }, { session });
      assert.equal(await c.countDocuments({}), 1);
      await session.abortTransaction();
    });
    assert.equal(await c.countDocuments({}), 1);
  });
});

test("causally consistent sessions", async () => {
  await withClient("shop", async (db, client) => {
    const c = db.collection("node_sessions");
    await client.withSession({ causalConsistency: true }, async (session) => {
      for (let n = 0; n < 100; n++) {
        await c.updateOne({ _id: 1 }, { $set: { n } }, { upsert: true, session });
        const read = await c.findOne({ _id: 1 }, { session, readPreference: "secondaryPreferred" });
        assert.equal(read.n, n);
      }
    });
  });
});

test("indexes", async () => {
  await withClient("shop", async (db) => {
    const c = db.collection("node_indexes");
    assert.equal(await c.createIndex({ a: 1, b: -1 }), "a_1_b_-1");
    assert.equal(await c.createIndex({ mail: 1 }, { unique: true, name: "one_mail" }), "one_mail");
    assert.deepEqual((await c.indexes()).map(({ name, key }) => [name, key]), [
      ["_id_", { _id: 1 }],
      ["a_1_b_-1", { a: 1, b: -1 }],
      ["one_mail", { mail: 1 }],
    ]);
    await c.insertOne({ mail: "x", a: 1 });
    await assert.rejects(c.insertOne({ mail: "x" }), { code: 11000, keyPattern: { mail: 1 } });
    assert.equal((await c.find({ a: 1 }).hint({ a: 1, b: -1 }).toArray()).length, 1);
    assert.equal(JSON.stringify(await c.find({ a: 1 }).explain()).includes("app_id"), false);
    await c.dropIndex("one_mail");
    assert.equal((await c.listIndexes().toArray()).length, 2);
  });
});

test("a wrong password", async () => {
  for (const address of [uri("shop", "wrong"), uri("nobody", "wrong")]) {
    const client = new mongodb.MongoClient(address);
    await assert.rejects(client.connect(), (error) => {
      assert.equal(error.name, "MongoServerError");
      assert.deepEqual([error.code, error.codeName, error.message], [18, "AuthenticationFailed", "Authentication failed."]);
      return true;
    });
    await client.close();
  }
});

test("roles", async () => {
  await withClient("shop-reports", async (db) => {
    await db.collection("node_documents").findOne();
    await assert.rejects(db.collection("node_documents").insertOne({}), { code: 13, codeName: "Unauthorized" });
  });
});

test("the topology", async () => {
  const client = new mongodb.MongoClient(uri("shop"), { monitorCommands: true });
  const cleared = [];
  client.on("connectionPoolCleared", (event) => cleared.push(event));
  const types = new Set();
  client.on("topologyDescriptionChanged", (event) => types.add(event.newDescription.type));
  await client.connect();
  assert.equal((await client.db("admin").command({ hello: 1 })).msg, "isdbgrid");
  await assert.rejects(client.db("admin").command({ nonsense: 1 }), { code: 59 });
  await client.db(database).collection("node_documents").findOne();
  assert.deepEqual([...types].sort(), ["Sharded", "Unknown"]);
  await client.close();
  assert.deepEqual(cleared, []);
});

test("compression", async () => {
  const size = 2_000_000;
  const received = async () => {
    const text = await (await fetch(`http://${process.env.DRIVERS_ADMIN}/metrics`)).text();
    const rows = text.matchAll(/^mdb_runtime_command_received_bytes_total\{app="shop"\} (\d+)/gm);
    return [...rows].reduce((sum, row) => sum + Number(row[1]), 0);
  };
  for (const compressors of [["zlib"], []]) {
    await withClient(
      "shop",
      async (db) => {
        const before = await received();
        const c = db.collection("node_compression");
        const { insertedId } = await c.insertOne({ x: "y".repeat(size) });
        assert.equal((await c.findOne({ _id: insertedId })).x.length, size);
        assert.equal((await received()) - before < size / 5, compressors.length === 1);
      },
      { compressors },
    );
  }
});

test("two apps on the same collection", async () => {
  const believed = {};
  const work = (app) =>
    withClient(app, async (db) => {
      const c = db.collection("node_two_apps");
      const model = new Map();
      for (let i = 0; i < 300; i++) {
        const _id = `${app}-${i}`;
        await c.insertOne({ _id, i, group: i % 7 });
        model.set(_id, { _id, i, group: i % 7 });
        if (i % 10 === 9) {
          const { matchedCount } = await c.updateMany({ group: i % 7 }, { $inc: { i: 1 } });
          const mine = [...model.values()].filter((d) => d.group === i % 7);
          assert.equal(matchedCount, mine.length);
          for (const document of mine) document.i += 1;
          await c.deleteOne({ _id: `${app}-${i - 5}` });
          model.delete(`${app}-${i - 5}`);
        }
      }
      assert.equal(await c.countDocuments({}), model.size);
      believed[app] = model;
    });
  await Promise.all(["shop", "notes", "task_manager"].map(work));
  await withUpstream(async (db) => {
    const stored = await db.collection("node_two_apps").find().toArray();
    assert.ok(stored.every((d) => Object.keys(d)[1] === "app_id"));
    for (const [app, model] of Object.entries(believed)) {
      const mine = stored.filter((d) => d.app_id === app).map(({ app_id, ...rest }) => rest);
      const inOrder = (documents) => [...documents].sort((a, b) => (a._id < b._id ? -1 : 1));
      assert.deepEqual(inOrder(mine), inOrder(model.values()));
    }
    assert.equal(stored.length, Object.values(believed).reduce((sum, model) => sum + model.size, 0));
  });
});
