// Compass's own access layer (mongodb-data-service): what Compass sends when it connects, lists, shows and edits.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { join } from "node:path";
import { after, test } from "node:test";

import { database, uri } from "./place.mjs";

const require = createRequire(join(process.argv[2], "..", "place.js"));
const { connect } = require("mongodb-data-service");

const service = await connect({ connectionOptions: { connectionString: `${uri("shop")}?authSource=admin` } });
const documents = service._database(database, "CRUD").collection("compass");
await documents.deleteMany({});
await documents.insertMany([{ _id: 1, x: 1 }, { _id: 2, x: 2 }]);
after(() => service.disconnect());

const namespace = `${database}.compass`;

test("the connection", async () => {
  const instance = await service.instance();
  assert.equal(instance.auth.user.user, "shop");
  assert.ok(instance.auth.privileges[0].actions.includes("find"));
  assert.match(instance.build.version, /^\d+\.\d+\.\d+$/);
  assert.match(instance.featureCompatibilityVersion, /^\d+\.\d+$/);
  assert.deepEqual(
    [instance.isAtlas, instance.isLocalAtlas, instance.genuineMongoDB.isGenuine, instance.dataLake.isDataLake],
    [false, false, true, false],
  );
  assert.equal(service.isWritable(), true);
});

test("databases and collections", async () => {
  const own = (await service.listDatabases()).find(({ name }) => name === database);
  assert.equal(own.inferred_from_privileges, false);
  assert.ok((await service.listCollections(database)).some(({ name }) => name === "compass"));
  assert.deepEqual(await service.listCollections("admin"), []);
  assert.equal((await service.collectionInfo(database, "compass")).type, "collection");
  await service.createCollection(`${database}.compass_made`, {});
  assert.equal(await service.dropCollection(`${database}.compass_made`), true);
});

test("documents", async () => {
  assert.equal((await service.find(namespace, {}, {})).length, 2);
  assert.deepEqual([await service.count(namespace, {}, {}), await service.estimatedCount(namespace, {})], [2, 2]);
  assert.equal((await service.sample(namespace, {}, {})).length, 2);
  assert.equal((await service.aggregate(namespace, [{ $match: { x: 1 } }], {})).length, 1);
  assert.equal((await service.findOneAndUpdate(namespace, { _id: 1 }, { $set: { y: 1 } }, {}))._id, 1);
  // In a transaction that is aborted.
  const { changes } = await service.previewUpdate(namespace, { _id: 1 }, { $set: { z: 1 } }, {});
  assert.equal(JSON.stringify(changes[0].after), JSON.stringify({ _id: 1, x: 1, y: 1, z: 1 }));
});

test("indexes and plans", async () => {
  await service.createIndex(namespace, { x: 1 }, {});
  assert.deepEqual((await service.indexes(namespace, {})).map(({ name }) => name).sort(), ["_id_", "x_1"]);
  const plan = await service.explainFind(namespace, { x: 1 }, {}, { explainVerbosity: "executionStats" });
  assert.ok(JSON.stringify(plan).includes("x_1"));
  assert.ok((await service.explainAggregate(namespace, [{ $match: { x: 1 } }], {}, {})).queryPlanner);
  await service.dropIndex(namespace, "x_1");
});

test("the server", async () => {
  assert.ok((await service.serverStatus()).connections.current > 0);
  assert.equal(await service.isListSearchIndexesSupported(namespace), false);
  // A mongos has none either, and Compass says so.
  await assert.rejects(service.top(), { code: 13 });
});
