// What applications do with Mongoose. Each step gets a Mongoose that is connected to an empty database and no models;
// what it returns or throws is compared.

import { applications } from "./mongoose-applications.mjs";

const until = async (condition) => {
  const deadline = Date.now() + 20_000;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error("nothing came in time");
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
};

const people = (mongoose, options = {}) =>
  mongoose.model("Person", new mongoose.Schema({ name: { type: String, index: true }, age: Number, tags: [String] }, options));

const filled = async (mongoose) => {
  const Person = people(mongoose);
  await Person.insertMany([
    { name: "Ada", age: 36, tags: ["a", "b"] },
    { name: "Bob", age: 20, tags: ["b"] },
    { name: "Cyd", age: 50, tags: [] },
    { name: "Dee", age: 20, tags: ["c", "a"] },
  ]);
  return Person;
};

const shops = (mongoose) => {
  const { Schema } = mongoose;
  const Author = mongoose.model("Author", new Schema({ name: String, friends: [{ type: Schema.Types.ObjectId, ref: "Author" }] }));
  const Book = mongoose.model("Book", new Schema({ title: String, author: { type: Schema.Types.ObjectId, ref: "Author" } }));
  return { Author, Book };
};

// A stream from here on shows what follows, however late it is opened.
const now = async (mongoose) => (await mongoose.connection.db.command({ count: "people" })).operationTime;

const watched = async (stream, count, act) => {
  const seen = [];
  const failed = [];
  stream.on("change", (change) => seen.push(change));
  stream.on("error", (error) => failed.push(error));
  await act(seen);
  await until(() => seen.length >= count || failed.length > 0);
  await stream.close().catch(() => {});
  if (failed.length > 0) throw failed[0];
  return seen.map(({ operationType, ns, fullDocument, updateDescription }) => ({ operationType, ns, fullDocument, updateDescription }));
};

const documents = {
  "create, find, count": async (mongoose) => {
    const Person = await filled(mongoose);
    const lean = { _id: 0, __v: 0 };
    return {
      all: await Person.find({}, lean).sort("name").lean(),
      page: await Person.find({}, lean).sort({ age: 1, name: -1 }).skip(1).limit(2).lean(),
      some: await Person.find({ tags: { $in: ["a"] }, age: { $gte: 30 } }, lean).lean(),
      one: await Person.findOne({ name: /^b/i }, lean).lean(),
      byId: (await Person.findById((await Person.findOne({ name: "Ada" }))._id)).name,
      counts: [await Person.countDocuments({ age: 20 }), await Person.estimatedDocumentCount()],
      distinct: (await Person.distinct("age")).sort(),
      exists: (await Person.exists({ name: "Nobody" })) === null,
    };
  },
  "save, versions, modified paths": async (mongoose) => {
    const Person = await filled(mongoose);
    const ada = await Person.findOne({ name: "Ada" });
    const same = await Person.findById(ada._id);
    ada.tags.push("z");
    ada.age += 1;
    const modified = ada.modifiedPaths();
    await ada.save();
    same.tags.set(0, "q");
    const clash = await same.save().then(() => "saved", (error) => error.name);
    return { modified, version: ada.__v, clash, stored: await Person.findById(ada._id).lean() };
  },
  "optimistic concurrency": async (mongoose) => {
    const Person = people(mongoose, { optimisticConcurrency: true });
    const { _id } = await Person.create({ name: "Ada" });
    const [first, second] = [await Person.findById(_id), await Person.findById(_id)];
    first.age = 1;
    second.age = 2;
    await first.save();
    return second.save().then(() => "saved", (error) => error.name);
  },
  "updates": async (mongoose) => {
    const Person = await filled(mongoose);
    return {
      one: await Person.updateOne({ name: "Ada" }, { $inc: { age: 1 }, $push: { tags: "x" } }),
      many: await Person.updateMany({ age: 20 }, { $set: { age: 21 }, $addToSet: { tags: "y" } }),
      pipeline: await Person.updateMany({}, [{ $set: { age: { $add: ["$age", 1] } } }], { updatePipeline: true }),
      filters: await Person.updateOne({ name: "Ada" }, { $set: { "tags.$[t]": "B" } }, { arrayFilters: [{ t: "b" }] }),
      upsert: (await Person.updateOne({ name: "Eve" }, { age: 1 }, { upsert: true })).upsertedCount,
      replaced: await Person.replaceOne({ name: "Bob" }, { name: "Rob" }),
      found: await Person.findOneAndUpdate({ name: "Cyd" }, { $unset: { age: 1 } }, { returnDocument: "after", sort: "name" }).lean(),
      raw: await Person.findOneAndUpdate({ name: "Fay" }, { age: 3 }, { upsert: true, returnDocument: "after", includeResultMetadata: true }),
      gone: (await Person.findOneAndDelete({ name: "Dee" })).name,
      stored: await Person.find({}, { _id: 0 }).sort("name").lean(),
    };
  },
  "deletes": async (mongoose) => {
    const Person = await filled(mongoose);
    const one = await Person.deleteOne({ age: 20 });
    const many = await Person.deleteMany({ age: { $gt: 30 } });
    const left = await Person.findOne();
    return { one, many, own: await left.deleteOne(), left: await Person.countDocuments() };
  },
  "bulkWrite, insertMany, bulkSave": async (mongoose) => {
    const Person = await filled(mongoose);
    const bulk = await Person.bulkWrite([
      { insertOne: { document: { name: "Eve", age: 1 } } },
      { updateOne: { filter: { name: "Ada" }, update: { age: 1 } } },
      { updateMany: { filter: { age: 20 }, update: { $inc: { age: 1 } } } },
      { replaceOne: { filter: { name: "Cyd" }, replacement: { name: "Syd" }, upsert: true } },
      { deleteOne: { filter: { name: "Dee" } } },
    ]);
    const loaded = await Person.find().sort("name");
    for (const person of loaded) person.age = 99;
    const saved = await Person.bulkSave(loaded);
    const { insertedCount, matchedCount, modifiedCount, deletedCount, upsertedCount } = bulk;
    return { insertedCount, matchedCount, modifiedCount, deletedCount, upsertedCount, saved: saved.modifiedCount,
      stored: await Person.find({}, { _id: 0 }).sort("name").lean() };
  },
  "cursors and streams": async (mongoose) => {
    const Person = people(mongoose);
    await Person.insertMany(Array.from({ length: 350 }, (_, age) => ({ name: `p${age}`, age })));
    let sum = 0;
    for await (const person of Person.find().sort("age").batchSize(50)) sum += person.age;
    let each = 0;
    await Person.find().cursor({ batchSize: 30 }).eachAsync(() => { each += 1; }, { parallel: 5 });
    const cursor = Person.aggregate([{ $match: { age: { $lt: 120 } } }]).cursor({ batchSize: 25 });
    let aggregated = 0;
    for await (const _ of cursor) aggregated += 1;
    const early = Person.find().cursor({ batchSize: 10 });
    await early.next();
    await early.close();
    return { sum, each, aggregated };
  },
  "aggregation": async (mongoose) => {
    const Person = await filled(mongoose);
    const { Author, Book } = shops(mongoose);
    const [ann, ben] = await Author.create([{ name: "Ann" }, { name: "Ben" }], { ordered: true });
    await Book.create([{ title: "x", author: ann }, { title: "y", author: ann }, { title: "z", author: ben }], { ordered: true });
    return {
      group: await Person.aggregate([{ $unwind: "$tags" }, { $group: { _id: "$tags", n: { $sum: 1 }, ages: { $push: "$age" } } }, { $sort: { _id: 1 } }]),
      facet: await Person.aggregate().facet({ young: [{ $match: { age: 20 } }, { $count: "n" }], all: [{ $count: "n" }] }),
      lookup: await Author.aggregate([
        { $lookup: { from: "books", localField: "_id", foreignField: "author", as: "books" } },
        { $project: { _id: 0, name: 1, titles: { $sortArray: { input: "$books.title", sortBy: 1 } } } }, { $sort: { name: 1 } }]),
      joined: await Book.aggregate([
        { $lookup: { from: "authors", let: { a: "$author" }, pipeline: [{ $match: { $expr: { $eq: ["$_id", "$$a"] } } }, { $project: { _id: 0, name: 1 } }], as: "a" } },
        { $project: { _id: 0, title: 1, a: 1 } }, { $sort: { title: 1 } }]),
      union: await Person.aggregate([{ $project: { _id: 0, name: 1 } }, { $unionWith: { coll: "authors", pipeline: [{ $project: { _id: 0, name: 1 } }] } }, { $sort: { name: 1 } }]),
      bucket: await Person.aggregate([{ $bucket: { groupBy: "$age", boundaries: [0, 30, 60], output: { n: { $sum: 1 } } } }]),
      window: await Person.aggregate([{ $setWindowFields: { sortBy: { name: 1 }, output: { sum: { $sum: "$age", window: { documents: ["unbounded", "current"] } } } } }, { $project: { _id: 0, name: 1, sum: 1 } }]),
      graph: await Author.aggregate([{ $graphLookup: { from: "authors", startWith: "$_id", connectFromField: "_id", connectToField: "friends", as: "f" } }, { $project: { _id: 0, name: 1, n: { $size: "$f" } } }, { $sort: { name: 1 } }]),
      sample: (await Person.aggregate().sample(2)).length,
    };
  },
  "$out and $merge": async (mongoose) => {
    const Person = await filled(mongoose);
    await Person.aggregate([{ $group: { _id: "$age", n: { $sum: 1 } } }, { $merge: { into: "ages", whenMatched: "replace" } }]);
    await Person.aggregate([{ $group: { _id: "$age", n: { $sum: 1 } } }, { $out: "ages2" }]);
    const read = (name) => mongoose.connection.collection(name).find().sort({ _id: 1 }).toArray();
    return [await read("ages"), await read("ages2")];
  },
};

const modelling = {
  "validation": async (mongoose) => {
    const User = mongoose.model("User", new mongoose.Schema({
      email: { type: String, required: true, match: /@/ }, age: { type: Number, min: 0 }, role: { type: String, enum: ["a", "b"] },
      even: { type: Number, validate: { validator: async (n) => n % 2 === 0 } } }));
    await User.create({ email: "x", age: -1, role: "c", even: 3 });
  },
  "validation of updates": async (mongoose) => {
    const User = mongoose.model("User", new mongoose.Schema({ age: { type: Number, min: 0 } }));
    await User.updateOne({}, { age: -1 }, { runValidators: true });
  },
  "cast errors": async (mongoose) => {
    await people(mongoose).find({ age: "old" });
  },
  "strict queries and schemas": async (mongoose) => {
    const Person = people(mongoose, { strict: "throw" });
    await Person.create({ name: "Ada", unknown: 1 });
  },
  "defaults, virtuals, methods, statics, getters": async (mongoose) => {
    const schema = new mongoose.Schema({ first: String, last: String, at: { type: Number, default: () => 7, get: (n) => n + 1 } }, { toObject: { virtuals: true, getters: true } });
    schema.virtual("full").get(function () { return `${this.first} ${this.last}`; }).set(function (v) { [this.first, this.last] = v.split(" "); });
    schema.method("shout", function () { return this.full.toUpperCase(); });
    schema.static("named", function (first) { return this.findOne({ first }); });
    schema.query.lasting = function (last) { return this.where({ last }); };
    const Person = mongoose.model("Person", schema);
    await Person.create({ full: "Ada Lovelace" });
    const ada = await Person.named("Ada");
    return [ada.shout(), ada.at, (await Person.find().lasting("Lovelace")).length, ada.toObject().full];
  },
  "hooks": async (mongoose) => {
    const said = [];
    const schema = new mongoose.Schema({ name: String });
    schema.pre("save", () => { said.push("pre save"); });
    schema.post("save", () => { said.push("post save"); });
    schema.pre("find", function () { said.push("pre find"); this.where({ name: "Ada" }); });
    schema.post("deleteMany", (result) => { said.push(`deleted ${result.deletedCount}`); });
    schema.pre("aggregate", function () { this.pipeline().unshift({ $match: { name: "Ada" } }); });
    const Person = mongoose.model("Person", schema);
    await Person.create({ name: "Ada" });
    await Person.insertMany([{ name: "Bob" }]);
    const found = (await Person.find()).length;
    const aggregated = (await Person.aggregate([{ $count: "n" }]))[0].n;
    await Person.deleteMany();
    return { said, found, aggregated };
  },
  "populate": async (mongoose) => {
    const { Author, Book } = shops(mongoose);
    const ann = await Author.create({ name: "Ann" });
    const ben = await Author.create({ name: "Ben", friends: [ann] });
    await Book.create([{ title: "x", author: ann }, { title: "y", author: ben }], { ordered: true });
    const deep = await Book.find().sort("title").populate({ path: "author", select: "name friends", populate: { path: "friends", select: "name" } }).lean();
    const matched = await Book.find().sort("title").populate({ path: "author", match: { name: "Ann" } }).lean();
    return { deep, matched: matched.map((book) => book.author?.name ?? null) };
  },
  "populate of virtuals and counts": async (mongoose) => {
    const { Schema } = mongoose;
    const schema = new Schema({ name: String }, { toObject: { virtuals: true } });
    schema.virtual("books", { ref: "Book", localField: "_id", foreignField: "author" });
    schema.virtual("bookCount", { ref: "Book", localField: "_id", foreignField: "author", count: true });
    const Author = mongoose.model("Author", schema);
    const Book = mongoose.model("Book", new Schema({ title: String, author: Schema.Types.ObjectId }));
    const ann = await Author.create({ name: "Ann" });
    await Book.create([{ title: "x", author: ann }, { title: "y", author: ann }], { ordered: true });
    const loaded = await Author.findOne().populate([{ path: "books", options: { sort: "title" } }, "bookCount"]);
    return [loaded.books.map((book) => book.title), loaded.bookCount];
  },
  "dynamic references": async (mongoose) => {
    const { Schema } = mongoose;
    mongoose.model("Cat", new Schema({ name: String }));
    mongoose.model("Dog", new Schema({ name: String }));
    const Note = mongoose.model("Note", new Schema({ of: { type: Schema.Types.ObjectId, refPath: "kind" }, kind: String }));
    const cat = await mongoose.model("Cat").create({ name: "Tom" });
    const dog = await mongoose.model("Dog").create({ name: "Rex" });
    await Note.create([{ of: cat, kind: "Cat" }, { of: dog, kind: "Dog" }], { ordered: true });
    return (await Note.find().sort("kind").populate("of")).map((note) => note.of.name);
  },
  "discriminators": async (mongoose) => {
    const { Schema } = mongoose;
    const Event = mongoose.model("Event", new Schema({ at: Number }, { discriminatorKey: "kind" }));
    const Click = Event.discriminator("Click", new Schema({ url: String }));
    const Buy = Event.discriminator("Buy", new Schema({ price: Number }));
    await Event.create([{ kind: "Click", at: 1, url: "u" }, { kind: "Buy", at: 2, price: 3 }, { at: 3 }], { ordered: true });
    await Click.updateOne({}, { url: "v" });
    return { all: await Event.find({}, { _id: 0 }).sort("at").lean(), clicks: await Click.countDocuments(),
      buys: await Buy.aggregate([{ $group: { _id: null, sum: { $sum: "$price" } } }]) };
  },
  "embedded documents, arrays, maps": async (mongoose) => {
    const { Schema } = mongoose;
    const shapes = new Schema({ n: Number }, { discriminatorKey: "kind", _id: false });
    const schema = new Schema({ list: [new Schema({ a: Number })], nested: { x: { y: String } }, map: { type: Map, of: Number }, shapes: [shapes], mixed: {} });
    schema.path("shapes").discriminator("Circle", new Schema({ r: Number }, { _id: false }));
    const Thing = mongoose.model("Thing", schema);
    const thing = await Thing.create({ list: [{ a: 1 }, { a: 2 }], nested: { x: { y: "z" } }, map: { one: 1 }, shapes: [{ kind: "Circle", r: 2 }], mixed: { a: [1] } });
    thing.list.id(thing.list[0]._id).a = 10;
    thing.list.pull(thing.list[1]._id);
    thing.map.set("two", 2);
    thing.mixed = { b: 2 };
    await thing.save();
    return Thing.findOne({ "map.two": 2, "list.a": 10 }).lean();
  },
  "timestamps": async (mongoose) => {
    const Person = people(mongoose, { timestamps: true });
    const ada = await Person.create({ name: "Ada" });
    await Person.updateOne({}, { age: 1 });
    const later = await Person.findOne();
    return [ada.createdAt instanceof Date, later.updatedAt >= later.createdAt, later.createdAt.getTime() === ada.createdAt.getTime()];
  },
  "types": async (mongoose) => {
    const { Schema } = mongoose;
    const { Types } = Schema;
    const Thing = mongoose.model("Thing", new Schema({ d: Types.Decimal128, b: Types.Buffer, u: Types.UUID, big: BigInt, i: Types.Int32, f: Types.Double, when: Date, yes: Boolean }));
    await Thing.create({ d: "1.5", b: Buffer.from("xy"), u: "0b0f2ec4-2d10-4f5b-9d58-0d7c5dcd4d2e", big: 12345678901n, i: 7, f: 1.25, when: 0, yes: true });
    const found = await Thing.findOne({ d: "1.5", u: "0b0f2ec4-2d10-4f5b-9d58-0d7c5dcd4d2e", big: 12345678901n });
    return [String(found.d), found.b.toString(), String(found.u), String(found.big), found.i, Number(found.f), found.when.getTime(), found.yes];
  },
};

const collections = {
  "init, autoIndex, syncIndexes": async (mongoose) => {
    const schema = new mongoose.Schema({ a: Number, b: { type: String, unique: true }, c: { type: Date, expires: 60 } });
    schema.index({ a: 1, b: -1 }, { name: "ab", sparse: true });
    schema.index({ a: 1 }, { partialFilterExpression: { a: { $gt: 1 } } });
    const Thing = mongoose.model("Thing", schema);
    await Thing.createCollection();
    await Thing.ensureIndexes();
    const before = await Thing.listIndexes();
    await Thing.collection.createIndex({ extra: 1 });
    const diff = await Thing.diffIndexes();
    const dropped = await Thing.syncIndexes();
    return { before, diff, dropped, after: (await Thing.listIndexes()).map((index) => index.name), clean: await Thing.cleanIndexes() };
  },
  "syncIndexes over all models": async (mongoose) => {
    await filled(mongoose);
    shops(mongoose);
    return mongoose.syncIndexes();
  },
  "unique errors": async (mongoose) => {
    const User = mongoose.model("User", new mongoose.Schema({ email: { type: String, unique: true } }));
    await User.ensureIndexes();
    await User.create({ email: "a@b" });
    await User.create({ email: "a@b" });
  },
  "unique errors of compound keys": async (mongoose) => {
    const schema = new mongoose.Schema({ a: Number, b: { c: String } });
    schema.index({ a: 1, "b.c": -1 }, { unique: true, name: "pair" });
    const Thing = mongoose.model("Thing", schema);
    await Thing.ensureIndexes();
    await Thing.insertMany([{ a: 1, b: { c: "x" } }, { a: 2, b: { c: "y" } }]);
    await Thing.updateOne({ a: 2 }, { a: 1, b: { c: "x" } });
  },
  "unique errors of bulk writes": async (mongoose) => {
    const User = mongoose.model("User", new mongoose.Schema({ email: { type: String, unique: true } }));
    await User.ensureIndexes();
    await User.insertMany([{ email: "a" }, { email: "a" }, { email: "b" }, { email: "b" }], { ordered: false });
  },
  "a unique index that cannot be built": async (mongoose) => {
    const Person = await filled(mongoose);
    await Person.collection.createIndex({ age: 1 }, { unique: true });
  },
  "duplicate _id": async (mongoose) => {
    const Thing = mongoose.model("Thing", new mongoose.Schema({ _id: String }));
    await Thing.create({ _id: "only-here" });
    await Thing.create({ _id: "only-here" });
  },
  "geo": async (mongoose) => {
    const schema = new mongoose.Schema({ name: String, at: { type: { type: String }, coordinates: [Number] } });
    schema.index({ at: "2dsphere" });
    const Place = mongoose.model("Place", schema);
    await Place.ensureIndexes();
    const point = (...coordinates) => ({ type: "Point", coordinates });
    await Place.create([{ name: "a", at: point(0, 0) }, { name: "b", at: point(1, 1) }, { name: "c", at: point(20, 20) }], { ordered: true });
    return {
      near: (await Place.find({ at: { $near: { $geometry: point(1, 1), $maxDistance: 500_000 } } })).map((place) => place.name),
      where: (await Place.where("at").near({ center: [0, 0], maxDistance: 1, spherical: true })).map((place) => place.name),
      within: (await Place.find({ at: { $geoWithin: { $centerSphere: [[0, 0], 0.1] } } }).sort("name")).map((place) => place.name),
      geoNear: await Place.aggregate([{ $geoNear: { near: point(1, 1), distanceField: "d", maxDistance: 500_000 } }, { $project: { _id: 0, name: 1 } }]),
    };
  },
  "text": async (mongoose) => {
    const schema = new mongoose.Schema({ title: String, body: String });
    schema.index({ title: "text", body: "text" }, { weights: { title: 5 } });
    const Page = mongoose.model("Page", schema);
    await Page.ensureIndexes();
    await Page.create([{ title: "coffee", body: "black" }, { title: "tea", body: "coffee or green" }, { title: "milk", body: "white" }], { ordered: true });
    const score = { score: { $meta: "textScore" } };
    return {
      found: (await Page.find({ $text: { $search: "coffee" } }, score).sort(score)).map((page) => page.title),
      aggregated: await Page.aggregate([{ $match: { $text: { $search: "\"green\"" } } }, { $project: { _id: 0, title: 1 } }]),
    };
  },
  "hints, explain, collation of a query": async (mongoose) => {
    const Person = await filled(mongoose);
    await Person.ensureIndexes();
    const plan = await Person.find({ name: "Ada" }).hint({ name: 1 }).explain("queryPlanner");
    return {
      stage: plan.queryPlanner.winningPlan.inputStage?.stage, index: plan.queryPlanner.winningPlan.inputStage?.indexName,
      collation: (await Person.find({ name: "ada" }).collation({ locale: "en", strength: 2 })).length,
      numbers: (await Person.find().sort("name").collation({ locale: "en", numericOrdering: true })).length,
    };
  },
  "a hint for an index that is not there": async (mongoose) => {
    await (await filled(mongoose)).find().hint("nope");
  },
  "capped collections": async (mongoose) => {
    const Log = mongoose.model("Log", new mongoose.Schema({ n: Number }, { capped: { size: 4096, max: 3 } }));
    await Log.createCollection();
    for (let n = 0; n < 5; n += 1) await Log.create({ n });
    const tail = Log.find().tailable().cursor();
    const first = (await tail.next()).n;
    await tail.close();
    return { capped: await Log.collection.isCapped(), left: (await Log.find()).map((log) => log.n), first };
  },
  "time series": async (mongoose) => {
    const schema = new mongoose.Schema({ at: Date, place: String, value: Number }, { timeseries: { timeField: "at", metaField: "place", granularity: "hours" }, autoCreate: false, expireAfterSeconds: 86_400 });
    const Reading = mongoose.model("Reading", schema);
    await Reading.createCollection();
    await Reading.insertMany([1, 2, 3].map((value) => ({ at: new Date(), place: "x", value })));
    return Reading.aggregate([{ $group: { _id: "$place", sum: { $sum: "$value" } } }]);
  },
  "default collations": async (mongoose) => {
    const Word = mongoose.model("Word", new mongoose.Schema({ w: String }, { collation: { locale: "en_US", strength: 1 } }));
    await Word.createCollection();
    await Word.create([{ w: "a" }, { w: "A" }], { ordered: true });
    return Word.countDocuments({ w: "a" });
  },
  "views": async (mongoose) => {
    const Person = await filled(mongoose);
    await mongoose.connection.createCollection("adults", { viewOn: Person.collection.name, pipeline: [{ $match: { age: { $gte: 30 } } }] });
    const Adult = mongoose.model("Adult", new mongoose.Schema({ name: String }), "adults");
    return (await Adult.find().sort("name")).map((person) => person.name);
  },
  "validators": async (mongoose) => {
    const Thing = mongoose.model("Thing", new mongoose.Schema({}, { strict: false }));
    await Thing.createCollection({ validator: { $jsonSchema: { required: ["n"] } } });
    await Thing.create({ m: 1 });
  },
  "clustered collections": async (mongoose) => {
    const Thing = mongoose.model("Thing", new mongoose.Schema({ _id: Number }, { clusteredIndex: { key: { _id: 1 }, unique: true } }));
    await Thing.createCollection();
    await Thing.create({ _id: 1 });
    return Thing.countDocuments();
  },
  "listings and drops": async (mongoose) => {
    const Person = await filled(mongoose);
    const { db } = mongoose.connection;
    const names = async () => (await db.listCollections().toArray()).map(({ name, type, options }) => ({ name, type, options }));
    const before = await names();
    await mongoose.connection.createCollection("empty");
    const between = (await names()).map(({ name }) => name).sort();
    await Person.collection.drop();
    await mongoose.connection.dropCollection("empty");
    return { before, between, after: await names() };
  },
  "create a collection twice": async (mongoose) => {
    await mongoose.connection.createCollection("twice", { capped: false });
    await mongoose.connection.createCollection("twice");
    return "made";
  },
  "statistics": async (mongoose) => {
    const Person = await filled(mongoose);
    const [stats] = await Person.aggregate([{ $collStats: { count: {} } }]);
    const { collections, objects } = await mongoose.connection.db.stats();
    return { count: stats.count, collections, objects };
  },
  "useDb": async (mongoose) => {
    const other = mongoose.connection.useDb(`${mongoose.connection.name}_2`, { useCache: true });
    const Person = other.model("Person", new mongoose.Schema({ name: String }));
    await Person.deleteMany();
    await Person.create({ name: "Ada" });
    const seen = await Person.countDocuments();
    await other.dropDatabase();
    return seen;
  },
};

const sessions = {
  "transactions": async (mongoose) => {
    const Person = await filled(mongoose);
    await mongoose.connection.transaction(async (session) => {
      await Person.create([{ name: "Eve" }], { session });
      await Person.updateOne({ name: "Ada" }, { age: 1 }, { session });
    });
    const failed = await mongoose.connection.transaction(async (session) => {
      await Person.deleteMany({}, { session });
      throw new Error("no");
    }).catch((error) => error.message);
    return { failed, stored: await Person.find({}, { _id: 0 }).sort("name").lean() };
  },
  "transactions with a session of one's own": async (mongoose) => {
    const Person = await filled(mongoose);
    const session = await mongoose.startSession();
    session.startTransaction({ readConcern: { level: "snapshot" }, writeConcern: { w: "majority" } });
    const ada = await Person.findOne({ name: "Ada" }).session(session);
    ada.age = 5;
    await ada.save();
    const outside = (await Person.findOne({ name: "Ada" })).age;
    await session.abortTransaction();
    await session.endSession();
    return [outside, (await Person.findOne({ name: "Ada" })).age];
  },
  "write conflicts": async (mongoose) => {
    const Person = await filled(mongoose);
    const [one, two] = [await mongoose.startSession(), await mongoose.startSession()];
    one.startTransaction();
    two.startTransaction();
    await Person.updateOne({ name: "Ada" }, { age: 1 }, { session: one });
    const clash = await Person.updateOne({ name: "Ada" }, { age: 2 }, { session: two }).then(() => "written", (error) => [error.code, error.hasErrorLabel("TransientTransactionError")]);
    await two.abortTransaction();
    await one.commitTransaction();
    await one.endSession();
    await two.endSession();
    return { clash, age: (await Person.findOne({ name: "Ada" })).age };
  },
  "change streams of a model": async (mongoose) => {
    const Person = people(mongoose);
    await Person.createCollection();
    const stream = Person.watch([], { fullDocument: "updateLookup", startAtOperationTime: await now(mongoose) });
    return watched(stream, 3, async (seen) => {
      await Person.create({ name: "Ada" });
      await Person.updateOne({}, { age: 1 });
      // What is looked up is gone after the next one.
      await until(() => seen.length >= 2);
      await Person.deleteOne({});
    });
  },
  "change streams of a connection": async (mongoose) => {
    const Person = people(mongoose);
    await Person.createCollection();
    const stream = mongoose.connection.watch([{ $match: { operationType: "insert" } }], { startAtOperationTime: await now(mongoose) });
    return watched(stream, 1, async () => {
      await Person.create({ name: "Ada" });
    });
  },
  "read and write concerns, preferences": async (mongoose) => {
    const Person = people(mongoose, { writeConcern: { w: "majority", j: true, wtimeout: 5000 }, readConcern: { level: "majority" } });
    await Person.create({ name: "Ada" });
    return [(await Person.find().read("secondaryPreferred").lean()).length, (await Person.find().read("primary").readConcern("local")).length];
  },
  "a time limit": async (mongoose) => {
    const Person = await filled(mongoose);
    return (await Person.find().maxTimeMS(20_000).comment("said")).length;
  },
  "queries that no server takes": async (mongoose) => {
    await (await filled(mongoose)).collection.find({ $nope: 1 }).toArray();
  },
  "updates that no server takes": async (mongoose) => {
    await (await filled(mongoose)).collection.updateOne({}, { $set: { a: 1 }, $inc: { a: 1 } });
  },
  "a changed _id": async (mongoose) => {
    await (await filled(mongoose)).collection.updateOne({ name: "Ada" }, { $set: { _id: 1 } });
  },
  "GridFS": async (mongoose) => {
    const bucket = new mongoose.mongo.GridFSBucket(mongoose.connection.db, { chunkSizeBytes: 1000 });
    const content = Buffer.alloc(3500, "x");
    const { id } = await new Promise((resolve, reject) => {
      const upload = bucket.openUploadStream("file", { metadata: { a: 1 } });
      upload.once("finish", () => resolve(upload)).once("error", reject);
      upload.end(content);
    });
    const parts = [];
    for await (const part of bucket.openDownloadStream(id)) parts.push(part);
    await bucket.rename(id, "other");
    const [file] = await bucket.find().toArray();
    await bucket.delete(id);
    return { same: Buffer.concat(parts).equals(content), name: file.filename, length: file.length, left: (await bucket.find().toArray()).length };
  },
};

export const steps = { ...documents, ...modelling, ...collections, ...sessions, ...applications };
