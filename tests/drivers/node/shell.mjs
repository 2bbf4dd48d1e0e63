// mongosh with the contract's connection string: what people type, and that nothing breaks.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { password, shell, uri } from "./place.mjs";

const TIMEOUT_MILLIS = 120_000;

// The shell keeps settings and history in the home directory, so it gets one of its own.
const home = mkdtempSync(join(tmpdir(), "mdb-shell-"));
process.on("exit", () => rmSync(home, { recursive: true, force: true }));

function run(script, address = uri("shop")) {
  const file = join(home, "script.js");
  writeFileSync(file, script);
  const done = spawnSync(process.execPath, [shell, address, "--quiet", "--file", file], {
    encoding: "utf8",
    timeout: TIMEOUT_MILLIS,
    env: { ...process.env, HOME: home, MONGOSH_FORCE_DISABLE_TELEMETRY_FOR_TESTING: "1" },
  });
  const output = done.stdout + done.stderr;
  for (const word of ["    at ", "connection closed", "ECONNRESET", "MongoNetworkError", "app_id", password("shop")]) {
    assert.equal(output.includes(word), false, `${word}: ${output}`);
  }
  return { status: done.status, output };
}

// The lines printed by `print`, of which every check ends in `true`.
function check(script, address) {
  const { status, output } = run(script, address);
  const lines = output.split("\n").filter((line) => line.startsWith("check "));
  assert.deepEqual(lines.filter((line) => !line.endsWith(" true")), [], output);
  assert.equal(status, 0, output);
  assert.ok(lines.length > 0, output);
}

test("documents, aggregation, explain, indexes", () => {
  check(`
    const say = (name, good) => print("check " + name + " " + Boolean(good));
    db.sh.insertMany([{ _id: 1, x: 1 }, { _id: 2, x: 2 }]);
    db.sh.insertOne({ _id: 3, x: 3 });
    say("find", db.sh.find({ x: { $gt: 1 } }).toArray().length === 2);
    say("count", db.sh.countDocuments() === 3 && db.sh.estimatedDocumentCount() === 3);
    say("update", db.sh.updateOne({ _id: 1 }, { $inc: { x: 10 } }).modifiedCount === 1);
    say("aggregate", db.sh.aggregate([{ $group: { _id: null, n: { $sum: "$x" } } }]).toArray()[0].n === 16);
    say("createIndex", db.sh.createIndex({ x: 1 }) === "x_1");
    say("getIndexes", db.sh.getIndexes().map((i) => i.name).join() === "_id_,x_1");
    const plan = db.sh.find({ x: 2 }).explain("executionStats");
    say("explain", JSON.stringify(plan).includes("x_1"));
    say("explain aggregate", db.sh.explain().aggregate([{ $match: { x: 1 } }]));
    say("distinct", db.sh.distinct("x").length === 3);
    say("dropIndex", db.sh.dropIndex("x_1").ok === 1);
    say("delete", db.sh.deleteMany({}).deletedCount === 3);
    say("drop", db.sh.drop());
  `);
});

test("show and use", () => {
  const { status, output } = run("db.shown.insertOne({ x: 1 });");
  assert.equal(status, 0, output);
  // Of several `--eval` only the last one's result is printed.
  const shown = ["show dbs", "show collections"].map((command) => {
    const done = spawnSync(process.execPath, [shell, uri("shop"), "--quiet", "--eval", command], {
      encoding: "utf8",
      timeout: TIMEOUT_MILLIS,
      env: { ...process.env, HOME: home },
    });
    assert.equal(done.status, 0, done.stdout + done.stderr);
    return done.stdout;
  });
  assert.match(shown[0], /^shop_db\b/m);
  assert.match(shown[1], /^shown\b/m);
  for (const hidden of ["admin", "local", "config", "mdb_runtime"]) {
    assert.doesNotMatch(shown[0], new RegExp(`^${hidden}\\b`, "m"));
  }
});

test("what is not offered fails politely", () => {
  check(`
    const polite = (name, action) => {
      try { action(); print("check " + name + " true"); }
      catch (error) {
        // The last is the shell's own word, from sh.status(), where config.version is empty.
        const good = error.codeName !== undefined || error.code === "SHAPI-10003";
        print("check " + name + " " + error.message.split("\\n")[0].replace(/true$/, "") + " " + good);
      }
    };
    db.polite.insertOne({ x: 1 });
    polite("stats", () => db.stats());
    polite("collection stats", () => db.polite.stats());
    polite("serverStatus", () => db.serverStatus());
    polite("hostInfo", () => db.hostInfo());
    polite("currentOp", () => db.currentOp());
    polite("getUsers", () => db.getUsers());
    polite("getUser", () => { if (db.getUser("shop").user !== "shop") throw new Error("not the own user"); });
    polite("getRoles", () => db.getRoles());
    polite("rs.status", () => rs.status());
    polite("rs.conf", () => rs.conf());
    polite("sh.status", () => sh.status());
    polite("watch", () => db.polite.watch().close());
    polite("getReplicationInfo", () => db.getReplicationInfo());
    polite("printSecondaryReplicationInfo", () => rs.printSecondaryReplicationInfo());
    polite("getProfilingStatus", () => db.getProfilingStatus());
    polite("getLogComponents", () => db.getLogComponents());
    polite("validate", () => db.polite.validate());
    polite("latencyStats", () => db.polite.latencyStats().toArray());
    polite("getPlanCache", () => db.polite.getPlanCache().list());
    polite("indexStats", () => db.polite.aggregate([{ $indexStats: {} }]).toArray());
    polite("getSearchIndexes", () => db.polite.getSearchIndexes());
    polite("listCommands", () => db.listCommands());
    polite("help", () => db.help());
    polite("connectionStatus", () => db.runCommand({ connectionStatus: 1, showPrivileges: 1 }));
    polite("createUser", () => db.createUser({ user: "x", pwd: "y", roles: ["root"] }));
    polite("getParameter", () => db.adminCommand({ getParameter: 1, featureCompatibilityVersion: 1 }));
    polite("getLog", () => db.adminCommand({ getLog: "startupWarnings" }));
    polite("getCmdLineOpts", () => db.adminCommand({ getCmdLineOpts: 1 }));
    polite("atlasVersion", () => db.adminCommand({ atlasVersion: 1 }));
    polite("rename", () => { db.polite.renameCollection("other"); db.other.renameCollection("polite"); });
    polite("mapReduce", () => db.polite.mapReduce(function () {}, function () {}, { out: { inline: 1 } }));
    polite("where", () => db.polite.find({ $where: "true" }).toArray());
    polite("out", () => db.polite.aggregate([{ $out: "x" }]).toArray());
    polite("config", () => db.getSiblingDB("config").collections.find().toArray());
    polite("shutdown", () => db.getSiblingDB("admin").shutdownServer());
    polite("version", () => db.version());
    polite("hello", () => db.hello());
    print("check still there " + (db.polite.countDocuments() === 1));
  `);
});

test("transactions", () => {
  check(`
    db.accounts.insertMany([{ _id: "a", n: 10 }, { _id: "b", n: 0 }]);
    const session = db.getMongo().startSession();
    const there = session.getDatabase(db.getName()).accounts;
    session.withTransaction(() => {
      there.updateOne({ _id: "a" }, { $inc: { n: -3 } });
      there.updateOne({ _id: "b" }, { $inc: { n: 3 } });
    });
    print("check committed " + (db.accounts.findOne({ _id: "b" }).n === 3));
    session.startTransaction();
    there.deleteMany({});
    session.abortTransaction();
    session.endSession();
    print("check aborted " + (db.accounts.countDocuments() === 2));
  `);
});

test("a wrong password is told in one line", () => {
  const { status, output } = run("1", uri("shop", "wrong"));
  assert.notEqual(status, 0);
  assert.match(output, /Authentication failed/);
});
