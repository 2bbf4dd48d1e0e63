// Where the suites find the driver, the proxy and the upstream.
import { createRequire } from "node:module";
import { join } from "node:path";

// The packages live under the target directory, which is handed over as the first argument.
const modules = process.argv[2];
const require = createRequire(join(modules, "..", "place.js"));

export const mongodb = require("mongodb");
export const shell = join(modules, "mongosh", "bin", "mongosh.js");
export const proxy = process.env.DRIVERS_PROXY;
export const database = "shop_db";

export function password(user) {
  return process.env[`${user.toUpperCase().replaceAll("-", "_")}_PASSWORD`];
}

export function uri(user, secret = password(user)) {
  return `mongodb://${user}:${encodeURIComponent(secret)}@${proxy}/${database}`;
}

export async function withClient(user, work, options = {}) {
  const client = new mongodb.MongoClient(uri(user), options);
  try {
    return await work(client.db(database), client);
  } finally {
    await client.close();
  }
}

export async function withUpstream(work) {
  const client = new mongodb.MongoClient(process.env.DRIVERS_UPSTREAM_URI);
  try {
    return await work(client.db(database), client);
  } finally {
    await client.close();
  }
}
