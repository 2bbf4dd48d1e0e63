// Mongoose as applications use it: every step runs directly and through the proxy, and the outcomes are compared.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { join } from "node:path";
import { after, test } from "node:test";

import { password, proxy } from "./place.mjs";
import { steps } from "./mongoose-steps.mjs";

const require = createRequire(join(process.argv[2], "..", "place.js"));

// Names of one length, so that nothing differs but the name.
const DIRECT = "mg_direct";
const PROXIED = "mg_proxied".slice(0, DIRECT.length);

// Steps that may differ, each with its reason. A step that stops differing has to leave the list.
const KNOWN = {
  "a hint for an index that is not there": "the server's text repeats the rewritten filter, so it is shortened",
  "server-side JavaScript": "$where is refused",
};

function connect(uri, database) {
  const mongoose = new (require("mongoose").Mongoose)();
  return mongoose.connect(uri, { dbName: database, autoIndex: false, autoCreate: false }).then(() => mongoose);
}

const upstream = process.env.DRIVERS_UPSTREAM_URI;
const places = {
  [DIRECT]: await connect(upstream, DIRECT),
  [PROXIED]: await connect(`mongodb://notes:${encodeURIComponent(password("notes"))}@${proxy}/${PROXIED}`, PROXIED),
};

after(() => Promise.all(Object.values(places).map((mongoose) => mongoose.disconnect())));

// What is the server's affair or differs with every run: ids that the server makes, times, cluster times.
const VOLATILE = new Set(["$clusterTime", "operationTime", "clusterTime", "wallTime", "localTime", "uuid", "uid", "electionId", "opTime"]);

// A build of an index on a collection of one's own is announced with the UUIDs of build and collection, which a shared
// collection's are not the app's to see.
const BUILD = /^Index build failed: [0-9a-f-]{36}: Collection \S+ \( [0-9a-f-]{36} \) :: caused by :: /;

function plainText(text, database) {
  return text.replaceAll(database, "<db>").replace(BUILD, "");
}

function plain(value, database, depth = 0) {
  if (value === null || typeof value !== "object") {
    return typeof value === "string" ? plainText(value, database) : value;
  }
  if (value._bsontype === "ObjectId") return "<id>";
  if (value instanceof Date) return "<date>";
  if (value._bsontype) return `${value._bsontype}:${String(value)}`;
  if (typeof value.toObject === "function") return plain(value.toObject(), database, depth);
  if (Array.isArray(value)) return value.map((item) => plain(item, database, depth + 1));
  const entries = Object.entries(value).filter(([key]) => !VOLATILE.has(key));
  return Object.fromEntries(entries.map(([key, item]) => [key, plain(item, database, depth + 1)]));
}

async function outcome(step, mongoose, database) {
  await mongoose.connection.dropDatabase();
  for (const name of mongoose.modelNames()) mongoose.deleteModel(name);
  try {
    return { ok: plain(await step(mongoose), database) };
  } catch (error) {
    const { name, code, codeName, message, keyPattern, keyValue, writeErrors } = error;
    const told = { name, code, codeName, message, keyPattern, keyValue, errors: Object.keys(error.errors ?? {}) };
    return { error: plain({ ...told, writeErrors: writeErrors?.map(({ code, errmsg }) => ({ code, errmsg })) }, database) };
  }
}

for (const [name, step] of Object.entries(steps)) {
  test(name, { timeout: 60_000 }, async () => {
    const [direct, proxied] = await Promise.all(
      [DIRECT, PROXIED].map((database) => outcome(step, places[database], database)),
    );
    const reason = KNOWN[name];
    if (reason === undefined) {
      assert.deepEqual(proxied, direct);
    } else {
      assert.notDeepEqual(proxied, direct, `no longer differs: ${reason}`);
    }
  });
}
