// More of what applications do with Mongoose; see mongoose-steps.mjs.

const outcomeOf = (promise) => promise.then(
  () => "done",
  ({ name, code, message, writeErrors }) => ({ name, code, message: writeErrors === undefined ? message : undefined,
    writeErrors: writeErrors?.map(({ index, code, errmsg }) => ({ index, code, errmsg })) }),
);

const numbered = async (mongoose, count = 5, options = {}) => {
  const Item = mongoose.model("Item", new mongoose.Schema({ _id: Number, n: Number, tags: [String] }, options));
  await Item.insertMany(Array.from({ length: count }, (_, n) => ({ _id: n, n, tags: [`t${n % 3}`, "all"] })));
  return Item;
};

const modelling = {
  "populate of three levels": async (mongoose) => {
    const { Schema } = mongoose;
    const City = mongoose.model("City", new Schema({ name: String }));
    const Shop = mongoose.model("Shop", new Schema({ name: String, city: { type: Schema.Types.ObjectId, ref: "City" } }));
    const Product = mongoose.model("Product", new Schema({ name: String, shops: [{ type: Schema.Types.ObjectId, ref: "Shop" }] }));
    const Order = mongoose.model("Order", new Schema({ lines: [{ product: { type: Schema.Types.ObjectId, ref: "Product" }, n: Number }] }));
    const rome = await City.create({ name: "Rome" });
    const [a, b] = await Shop.create([{ name: "a", city: rome }, { name: "b" }], { ordered: true });
    const tea = await Product.create({ name: "tea", shops: [b, a] });
    await Order.create({ lines: [{ product: tea, n: 2 }, { product: new mongoose.Types.ObjectId(), n: 1 }] });
    return Order.findOne().populate({ path: "lines.product", populate: { path: "shops", options: { sort: "name" }, populate: "city" } }).lean();
  },
  "plugins": async (mongoose) => {
    const said = [];
    const audited = (schema, { by }) => {
      schema.add({ by: { type: String, default: by } });
      schema.pre(["updateOne", "findOneAndUpdate"], function () { this.set({ touched: true }); said.push(this.op); });
      schema.index({ by: 1 });
    };
    const schema = new mongoose.Schema({ name: String, touched: Boolean }, { timestamps: { createdAt: "made", updatedAt: "changed" } });
    schema.plugin(audited, { by: "me" });
    const Thing = mongoose.model("Thing", schema);
    await Thing.ensureIndexes();
    await Thing.create({ name: "a" });
    await Thing.updateOne({ name: "a" }, { name: "b" });
    const found = await Thing.findOneAndUpdate({ by: "me" }, { name: "c" }, { returnDocument: "after" }).lean();
    return { said, found, indexes: (await Thing.listIndexes()).map((index) => index.key) };
  },
  "discriminators with unique indexes of their own": async (mongoose) => {
    const { Schema } = mongoose;
    const User = mongoose.model("User", new Schema({ name: String }, { discriminatorKey: "role" }));
    const byBadge = new Schema({ badge: Number });
    byBadge.index({ badge: 1 }, { unique: true, partialFilterExpression: { badge: { $exists: true } } });
    const Guard = User.discriminator("Guard", byBadge);
    await Guard.ensureIndexes();
    await User.create([{ name: "a" }, { name: "b" }], { ordered: true });
    await Guard.create({ name: "c", badge: 1 });
    return { again: await outcomeOf(Guard.create({ name: "d", badge: 1 })), all: await User.countDocuments(), guards: await Guard.countDocuments() };
  },
  "maps of documents, decimals": async (mongoose) => {
    const { Schema } = mongoose;
    const Account = mongoose.model("Account", new Schema({ _id: String, sum: Schema.Types.Decimal128, parts: { type: Map, of: new Schema({ n: Schema.Types.Decimal128 }, { _id: false }) } }));
    await Account.create([{ _id: "a", sum: "0.10", parts: { x: { n: "1.1" }, y: { n: "2.2" } } }, { _id: "b", sum: "0.20", parts: {} }], { ordered: true });
    await Account.updateOne({ _id: "a" }, { $inc: { sum: mongoose.Types.Decimal128.fromString("0.20"), "parts.x.n": mongoose.Types.Decimal128.fromString("1") } });
    await Account.updateOne({ _id: "a" }, { $unset: { "parts.y": 1 }, $set: { "parts.z": { n: "3" } } });
    return { found: await Account.find({ "parts.x.n": { $gt: 2 } }).lean(), sums: await Account.aggregate([{ $group: { _id: null, sum: { $sum: "$sum" } } }]) };
  },
  "optimistic concurrency with arrays and deletions": async (mongoose) => {
    const Item = await numbered(mongoose, 2, { optimisticConcurrency: true });
    const [mine, yours] = [await Item.findById(1), await Item.findById(1)];
    yours.tags.push("new");
    await yours.save();
    mine.n = 9;
    const late = await outcomeOf(mine.save()).then(({ name }) => name);
    const gone = await Item.findById(0);
    await Item.deleteOne({ _id: 0 });
    gone.n = 3;
    return { late, gone: await outcomeOf(gone.save()).then(({ name }) => name), stored: await Item.find().lean() };
  },
};

const writing = {
  "insertMany unordered": async (mongoose) => {
    const Item = await numbered(mongoose);
    const raw = await Item.insertMany([{ _id: 1 }, { _id: 10, n: "x" }, { _id: 11 }, { _id: 2 }], { ordered: false, rawResult: true }).catch((error) => error);
    const { insertedCount } = raw.result ?? raw;
    return { insertedCount, errors: raw.writeErrors?.map(({ index, code, errmsg }) => ({ index, code, errmsg })), stored: (await Item.find().sort("_id")).map((item) => item._id) };
  },
  "bulkWrite with statements that no server takes": async (mongoose) => {
    const Item = await numbered(mongoose);
    const operations = [
      { updateOne: { filter: { _id: 1 }, update: { $set: { n: 100 } } } },
      { updateOne: { filter: { n: { $nope: 1 } }, update: { $set: { n: 1 } } } },
      { updateMany: { filter: { _id: 2 }, update: { $nope: { n: 1 } } } },
      { updateOne: { filter: { _id: 3 }, update: { $set: { n: 300 } } } },
      { deleteOne: { filter: { $nope: 1 } } },
      { deleteOne: { filter: { _id: 4 } } },
      { insertOne: { document: { _id: 3 } } },
    ];
    const unordered = await outcomeOf(Item.collection.bulkWrite(operations, { ordered: false }));
    const ordered = await outcomeOf(Item.collection.bulkWrite(operations, { ordered: true }));
    return { unordered, ordered, stored: await Item.find().sort("_id").lean() };
  },
  "single writes that no server takes": async (mongoose) => {
    const { collection } = await numbered(mongoose);
    return [
      await outcomeOf(collection.updateOne({ $nope: 1 }, { $set: { n: 1 } })),
      await outcomeOf(collection.updateMany({}, { $nope: { n: 1 } }, { upsert: true })),
      await outcomeOf(collection.updateOne({}, [{ $match: {} }])),
      await outcomeOf(collection.deleteMany({ n: { $nope: 1 } })),
      await outcomeOf(collection.findOneAndUpdate({ n: { $nope: 1 } }, { $set: { n: 1 } })),
      await outcomeOf(collection.updateOne({}, { $push: { tags: { $each: [1], $nope: 1 } } })),
      await outcomeOf(collection.updateOne({}, { $set: { "tags.$[t]": 1 } }, { arrayFilters: [{ t: { $nope: 1 } }] })),
    ];
  },
  "counters by upsert": async (mongoose) => {
    const Counter = mongoose.model("Counter", new mongoose.Schema({ _id: String, seq: { type: Number, default: 0 } }));
    const next = () => Counter.findOneAndUpdate({ _id: "orders" }, { $inc: { seq: 1 } }, { upsert: true, returnDocument: "after" });
    const given = (await Promise.all(Array.from({ length: 20 }, next))).map((counter) => counter.seq);
    return { given: given.sort((a, b) => a - b), stored: await Counter.find().lean() };
  },
  "findOneAnd…": async (mongoose) => {
    const Item = await numbered(mongoose);
    return {
      upserted: await Item.findOneAndUpdate({ _id: 50 }, { $set: { n: 50 } }, { upsert: true, returnDocument: "after", setDefaultsOnInsert: true }).lean(),
      before: await Item.findOneAndUpdate({ _id: 1 }, { $inc: { n: 5 } }).lean(),
      pipeline: await Item.findOneAndUpdate({ _id: 1 }, [{ $set: { n: { $multiply: ["$n", 2] } } }], { returnDocument: "after", updatePipeline: true }).lean(),
      filtered: await Item.findOneAndUpdate({ _id: 1 }, { $set: { "tags.$[t]": "x" } }, { arrayFilters: [{ t: /^t/ }], returnDocument: "after", projection: { tags: 1 } }).lean(),
      replaced: await Item.findOneAndReplace({ _id: 2 }, { n: 7 }, { returnDocument: "after", upsert: true }).lean(),
      raw: await Item.findOneAndDelete({ n: { $gt: 3 } }, { sort: { n: -1 }, includeResultMetadata: true }),
      none: await Item.findByIdAndDelete(99),
    };
  },
  "updates by pipelines": async (mongoose) => {
    const Item = await numbered(mongoose);
    await Item.updateMany({}, [{ $set: { n: { $add: ["$n", 1] }, first: { $first: "$tags" } } }, { $unset: "tags" }], { updatePipeline: true, strict: false });
    await Item.updateOne({ _id: 1 }, [{ $replaceWith: { _id: "$_id", was: "$$ROOT" } }], { updatePipeline: true, strict: false });
    return Item.collection.find().sort({ _id: 1 }).toArray();
  },
  "a document that is too large": async (mongoose) => {
    const { collection } = await numbered(mongoose);
    const { code } = await outcomeOf(collection.insertOne({ x: "y".repeat(16 * 1024 * 1024) }));
    const { code: ofUpdate } = await outcomeOf(collection.updateOne({ _id: 1 }, { $set: { x: "y".repeat(16 * 1024 * 1024 - 20) } }));
    return { code, ofUpdate, half: (await collection.insertOne({ _id: 77, x: "y".repeat(8 * 1024 * 1024) })).insertedId };
  },
};

const reading = {
  "facets, joins, windows": async (mongoose) => {
    const Item = await numbered(mongoose, 12);
    await mongoose.connection.collection("labels").insertMany([{ _id: "t0", label: "zero" }, { _id: "t1", label: "one" }]);
    return {
      facet: await Item.aggregate().facet({ sums: [{ $group: { _id: { $first: "$tags" }, sum: { $sum: "$n" } } }, { $sort: { _id: 1 } }],
        counts: [{ $unwind: "$tags" }, { $sortByCount: "$tags" }, { $sort: { count: -1, _id: 1 } }], buckets: [{ $bucketAuto: { groupBy: "$n", buckets: 3 } }] }),
      lookup: await Item.aggregate([{ $match: { _id: { $lt: 3 } } }, { $lookup: { from: "labels", localField: "tags", foreignField: "_id", pipeline: [{ $project: { _id: 0 } }], as: "labels" } }, { $sort: { _id: 1 } }]),
      nested: await Item.aggregate([{ $match: { _id: 4 } }, { $lookup: { from: "labels", let: { t: "$tags" }, as: "l", pipeline: [{ $match: { $expr: { $in: ["$_id", "$$t"] } } },
        { $lookup: { from: "items", pipeline: [{ $count: "n" }], as: "all" } }] } }]),
      replaced: await Item.aggregate([{ $match: { _id: 5 } }, { $replaceRoot: { newRoot: { $mergeObjects: ["$$ROOT", { more: { $size: "$tags" } }] } } }]),
      ranked: await Item.aggregate([{ $setWindowFields: { partitionBy: { $first: "$tags" }, sortBy: { n: -1 }, output: { rank: { $rank: {} } } } }, { $sort: { _id: 1 } }]),
    };
  },
  "cursors in loops": async (mongoose) => {
    const Item = await numbered(mongoose, 300);
    const seen = [];
    for await (const item of Item.find({ n: { $mod: [7, 0] } }).sort("-_id").lean().cursor({ batchSize: 3 })) seen.push(item._id);
    const cursor = Item.find().sort("_id").cursor().addCursorFlag("noCursorTimeout", true);
    const batches = [];
    await cursor.eachAsync((items) => { batches.push(items.length); }, { batchSize: 120 });
    const mapped = await Item.find({ _id: { $lt: 3 } }).sort("_id").transform((items) => items.map(({ n }) => n));
    return { seen, batches, mapped };
  },
  "projections and array filters": async (mongoose) => {
    const Item = await numbered(mongoose);
    return [
      await Item.find({ tags: "t1" }, { "tags.$": 1 }).sort("_id").lean(),
      await Item.find({}, { tags: { $slice: -1 } }).sort("_id").lean(),
      await Item.find({ tags: { $elemMatch: { $regex: /^t[12]/ } } }).sort("_id").select("-tags -__v").lean(),
      await Item.find({ $expr: { $gt: ["$n", { $size: "$tags" }] } }).sort("_id").distinct("n"),
      await Item.find({ _id: { $type: "number" } }).countDocuments(),
    ];
  },
  "server-side JavaScript": async (mongoose) => (await numbered(mongoose)).find({ $where: "this.n > 3" }).countDocuments(),
  "plans": async (mongoose) => {
    const Item = await numbered(mongoose);
    await Item.collection.createIndexes([{ key: { n: 1 }, name: "plain" }, { key: { tags: 1 }, name: "sparse", sparse: true },
      { key: { n: -1, tags: 1 }, name: "partial", partialFilterExpression: { n: { $gt: 2 } } }, { key: { n: 1, _id: 1 }, name: "unique", unique: true }]);
    const scanned = (plan) => (plan.inputStage === undefined ? plan : scanned(plan.inputStage));
    const stage = async (filter, hint) => {
      const { stage, indexName, keyPattern, isMultiKey, isUnique, isSparse, isPartial } = scanned((await Item.find(filter).hint(hint).explain("queryPlanner")).queryPlanner.winningPlan);
      return { stage, indexName, keyPattern, isMultiKey, isUnique, isSparse, isPartial };
    };
    return [await stage({ n: 1 }, "plain"), await stage({ tags: "t1" }, "sparse"), await stage({ n: { $gt: 3 } }, "partial"), await stage({ n: 3 }, "unique"), await stage({ _id: { $gt: 1 } }, "_id_")];
  },
  "geometry": async (mongoose) => {
    const Place = mongoose.model("Place", new mongoose.Schema({ _id: Number, at: { type: { type: String }, coordinates: [] }, flat: [Number], kind: String }).index({ at: "2dsphere", kind: 1 }).index({ flat: "2d" }));
    await Place.ensureIndexes();
    const grid = Array.from({ length: 25 }, (_, n) => [n % 5, Math.floor(n / 5)]);
    await Place.insertMany(grid.map(([x, y], _id) => ({ _id, at: { type: "Point", coordinates: [x, y] }, flat: [x, y], kind: x > 2 ? "east" : "west" })));
    const ids = (places) => places.map((place) => place._id);
    const square = { type: "Polygon", coordinates: [[[0.5, 0.5], [2.5, 0.5], [2.5, 2.5], [0.5, 2.5], [0.5, 0.5]]] };
    return {
      intersects: ids(await Place.find({ at: { $geoIntersects: { $geometry: square } }, kind: "west" }).sort("_id")),
      box: ids(await Place.where("flat").within().box([1, 1], [3, 2]).sort("_id")),
      circle: ids(await Place.find({ flat: { $geoWithin: { $center: [[2, 2], 1] } } }).sort("_id")),
      nearest: ids(await Place.find({ at: { $nearSphere: { $geometry: { type: "Point", coordinates: [4.1, 4.2] } } }, kind: "east" }).limit(2)),
      flat: ids(await Place.find({ flat: { $near: [0.1, 0.2], $maxDistance: 1.1 } })),
      distances: await Place.aggregate([{ $geoNear: { near: { type: "Point", coordinates: [0, 0] }, key: "at", distanceField: "d", query: { kind: "west" }, maxDistance: 160_000 } }, { $project: { d: { $round: ["$d", 0] } } }]),
    };
  },
  "text in languages": async (mongoose) => {
    const Page = mongoose.model("Page", new mongoose.Schema({ _id: Number, body: String, shelf: Number }).index({ shelf: 1, body: "text" }, { default_language: "german", name: "words" }));
    await Page.ensureIndexes();
    await Page.insertMany([{ _id: 1, body: "der Kaffee ist schwarz", shelf: 1 }, { _id: 2, body: "schwarzer Tee", shelf: 1 }, { _id: 3, body: "Milch und Kaffee", shelf: 2 }]);
    const found = async (text, shelf = 1) => (await Page.find({ shelf, $text: text }).sort("_id")).map((page) => page._id);
    return [await found({ $search: "schwarze" }), await found({ $search: "kaffee -schwarz" }), await found({ $search: '"schwarzer Tee"' }), await found({ $search: "kaffee", $caseSensitive: true }), await found({ $search: "milch" }, 2)];
  },
};

const collections = {
  "collections with options": async (mongoose) => {
    const { connection } = mongoose;
    await connection.createCollection("log", { capped: true, size: 8192, max: 10 });
    await connection.createCollection("words", { collation: { locale: "de", strength: 2 } });
    await connection.createCollection("checked", { validator: { n: { $type: "number" } }, validationLevel: "moderate", validationAction: "error" });
    await connection.createCollection("readings", { timeseries: { timeField: "at", metaField: "of" }, expireAfterSeconds: 3600 });
    await connection.createCollection("plain");
    const shown = async (filter) => (await connection.db.listCollections(filter).toArray()).filter(({ name }) => !name.startsWith("system.")).map(({ name, type, options }) => ({ name, type, options })).sort((a, b) => (a.name < b.name ? -1 : 1));
    const [log, words, checked] = ["log", "words", "checked"].map((name) => connection.collection(name));
    await words.insertMany([{ w: "Äpfel" }, { w: "äpfel" }]);
    return {
      all: await shown(), capped: await shown({ "options.capped": true }), series: await shown({ type: "timeseries" }),
      log: await outcomeOf(log.insertOne({ n: 1 })), words: await words.countDocuments({ w: "ÄPFEL" }),
      refused: await outcomeOf(checked.insertOne({ n: "x" })), passed: await outcomeOf(checked.insertOne({ n: "x" }, { bypassDocumentValidation: true })),
      capped_again: await outcomeOf(connection.createCollection("log", { capped: true, size: 4096 })),
    };
  },
  "validators that change": async (mongoose) => {
    const { connection } = mongoose;
    await connection.createCollection("checked", { validator: { n: { $exists: true } } });
    const checked = connection.collection("checked");
    const before = await outcomeOf(checked.insertOne({}));
    await connection.db.command({ collMod: "checked", validator: { m: { $exists: true } } });
    return { before, after: await outcomeOf(checked.insertOne({ m: 1 })), broken: await outcomeOf(checked.updateOne({ m: 1 }, { $unset: { m: 1 } })) };
  },
  "indexes that change": async (mongoose) => {
    const schema = new mongoose.Schema({ n: Number, tags: [String], at: Date, s: String });
    schema.index({ tags: 1 }, { name: "new" }).index({ at: 1 }, { expireAfterSeconds: 100 }).index({ s: 1 }, { unique: true, sparse: true, collation: { locale: "simple" } });
    const Item = mongoose.model("Item", schema);
    await Item.create({ n: 1, tags: ["a"] });
    await Item.collection.createIndexes([{ key: { n: 1 } }, { key: { tags: 1 }, name: "old" }, { key: { "$**": 1 }, name: "wild", wildcardProjection: { n: 0 } }, { key: { n: "hashed" } }, { key: { at: 1 } }]);
    const again = [await outcomeOf(Item.collection.createIndex({ n: 1 }, { unique: true })), await outcomeOf(Item.collection.createIndex({ tags: 1 }, { name: "new" })), await outcomeOf(Item.collection.createIndex({ tags: -1 }, { name: "old" }))];
    const dropped = await Item.syncIndexes();
    const { db } = mongoose.connection;
    const changed = [await db.command({ collMod: "items", index: { keyPattern: { tags: 1 }, hidden: true } }), await db.command({ collMod: "items", index: { name: "at_1", expireAfterSeconds: 200 } })];
    return { again, dropped: dropped.sort(), changed, indexes: await Item.listIndexes(), missing: await outcomeOf(Item.collection.dropIndex("nope")) };
  },
  "renames of a capped collection": async (mongoose) => {
    const { connection } = mongoose;
    await connection.createCollection("log", { capped: true, size: 4096 });
    await connection.collection("log").insertOne({ _id: 1 });
    await connection.collection("log").rename("log2");
    return { names: (await connection.db.listCollections({}, { nameOnly: true }).toArray()).map(({ name }) => name), found: await connection.collection("log2").find().toArray(), old: await outcomeOf(connection.collection("log").rename("x")) };
  },
  "renames": async (mongoose) => {
    const Item = await numbered(mongoose);
    await Item.collection.rename("things");
    return mongoose.connection.collection("things").countDocuments();
  },
  "dropDatabase": async (mongoose) => {
    await numbered(mongoose);
    await mongoose.connection.createCollection("log", { capped: true, size: 4096 });
    await mongoose.connection.dropDatabase();
    const names = async () => (await mongoose.connection.db.listCollections({}, { nameOnly: true }).toArray()).map(({ name }) => name);
    const after = await names();
    await mongoose.connection.collection("log").insertOne({ _id: 1 });
    return { after, again: await names(), capped: await mongoose.connection.collection("log").isCapped() };
  },
};

const sessions = {
  "withTransaction": async (mongoose) => {
    const Item = await numbered(mongoose);
    const session = await mongoose.startSession();
    let tries = 0;
    const result = await session.withTransaction(async () => {
      tries += 1;
      await Item.insertMany([{ _id: 20 }, { _id: 21 }], { session });
      await Item.bulkWrite([{ updateOne: { filter: { _id: 1 }, update: { n: 11 } } }, { deleteOne: { filter: { _id: 2 } } }], { session });
      const [{ sum }] = await Item.aggregate([{ $group: { _id: null, sum: { $sum: "$n" } } }]).session(session);
      const one = await Item.findOne({ _id: 20 }).session(session);
      one.n = sum;
      await one.save();
      return Item.countDocuments({}).session(session);
    });
    const outside = await outcomeOf(session.withTransaction(async () => {
      await Item.deleteMany({}, { session });
      await Item.collection.updateOne({}, { $nope: { n: 1 } }, { session });
    }));
    await session.endSession();
    return { tries, result, outside, stored: await Item.find().sort("_id").lean() };
  },
  "a duplicate in a transaction": async (mongoose) => {
    const Item = await numbered(mongoose);
    const session = await mongoose.startSession();
    const failed = await outcomeOf(session.withTransaction(async () => {
      await Item.create([{ _id: 30 }], { session });
      await Item.create([{ _id: 1 }], { session });
    }));
    await session.endSession();
    return { failed, left: await Item.countDocuments() };
  },
  "streams that go on": async (mongoose) => {
    const Item = await numbered(mongoose);
    const stream = Item.collection.watch([{ $match: { operationType: { $in: ["insert", "update", "replace", "delete"] } } }], { fullDocument: "updateLookup" });
    const opened = stream.tryNext();
    await opened;
    await Item.create({ _id: 40, n: 1 });
    await Item.updateOne({ _id: 40 }, { n: 2, $push: { tags: "x" } });
    await Item.replaceOne({ _id: 40 }, { n: 3 });
    await Item.deleteOne({ _id: 40 });
    const told = ({ operationType, documentKey, fullDocument, updateDescription }) => ({ operationType, documentKey, fullDocument, updateDescription });
    const first = await stream.next();
    await stream.close();
    const resumed = Item.collection.watch([], { resumeAfter: first._id });
    const rest = [await resumed.next(), await resumed.next(), await resumed.next()];
    await resumed.close();
    return [first, ...rest].map(told);
  },
};

export const applications = { ...modelling, ...writing, ...reading, ...collections, ...sessions };
