import static com.mongodb.client.model.Accumulators.sum;
import static com.mongodb.client.model.Aggregates.group;
import static com.mongodb.client.model.Aggregates.lookup;
import static com.mongodb.client.model.Aggregates.sort;
import static com.mongodb.client.model.Filters.eq;
import static com.mongodb.client.model.Filters.gte;
import static com.mongodb.client.model.Updates.inc;
import static com.mongodb.client.model.Updates.push;
import static com.mongodb.client.model.Updates.set;

import com.mongodb.ReadConcern;
import com.mongodb.ReadPreference;
import com.mongodb.TransactionOptions;
import com.mongodb.WriteConcern;
import com.mongodb.client.ClientSession;
import com.mongodb.client.MongoClient;
import com.mongodb.client.MongoClients;
import com.mongodb.client.MongoCollection;
import com.mongodb.client.MongoCursor;
import com.mongodb.client.MongoDatabase;
import com.mongodb.client.gridfs.GridFSBuckets;
import com.mongodb.client.gridfs.model.GridFSFile;
import com.mongodb.client.gridfs.model.GridFSUploadOptions;
import com.mongodb.client.model.BulkWriteOptions;
import com.mongodb.client.model.DeleteOneModel;
import com.mongodb.client.model.FindOneAndUpdateOptions;
import com.mongodb.client.model.IndexOptions;
import com.mongodb.client.model.Indexes;
import com.mongodb.client.model.InsertManyOptions;
import com.mongodb.client.model.InsertOneModel;
import com.mongodb.client.model.ReturnDocument;
import com.mongodb.client.model.UpdateOneModel;
import com.mongodb.client.model.UpdateOptions;
import com.mongodb.client.model.changestream.ChangeStreamDocument;
import com.mongodb.client.model.changestream.FullDocument;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.IntStream;
import org.bson.Document;

/** A small shop with the synchronous Java driver. */
final class Shop {
    private static final int MANY = 5000;

    private final MongoClient client;
    private final MongoDatabase db;
    private final MongoCollection<Document> products;
    private final MongoCollection<Document> sales;

    private Shop(MongoClient client) {
        this.client = client;
        db = client.getDatabase(System.getenv("APP_DATABASE"));
        products = db.getCollection("products");
        sales = db.getCollection("sales");
    }

    private static Document with(Object name) {
        return new Document("_id", Telling.own(name));
    }

    private void documents() {
        products.insertOne(with(1).append("sku", "tea").append("price", 3).append("tags", List.of("hot")));
        products.insertMany(IntStream.range(2, 6).mapToObj(n -> with(n).append("sku", "cup-" + n).append("price", n)).toList());
        var told = new TreeMap<String, Object>();
        told.put("updated", products.updateMany(gte("price", 4), inc("price", 10)).getModifiedCount());
        var upserted = products.updateOne(with(9), set("sku", "jar"), new UpdateOptions().upsert(true));
        told.put("upserted", upserted.getUpsertedId().asString().getValue());
        told.put("replaced", products.replaceOne(with(2), new Document("sku", "cup-2").append("colour", "red")).getModifiedCount());
        var newest = new FindOneAndUpdateOptions().returnDocument(ReturnDocument.AFTER);
        told.put("after", products.findOneAndUpdate(eq("sku", "tea"), push("tags", "green"), newest));
        told.put("deleted", products.deleteOne(with(9)).getDeletedCount());
        told.put("twice", Telling.refused(() -> products.insertOne(with(1))));
        told.put("batches", products.find().sort(eq("_id", 1)).batchSize(2).into(new ArrayList<>()));
        told.put("skus", products.distinct("sku", String.class).into(new ArrayList<>()));
        told.put("count", products.countDocuments());
        told.put("estimated", products.estimatedDocumentCount());
        Telling.tell("documents", told);
    }

    private void indexes() {
        var told = new TreeMap<String, Object>();
        told.put("name", products.createIndex(Indexes.ascending("sku"), new IndexOptions().unique(true)));
        products.createIndex(Indexes.ascending("price", "tags"), new IndexOptions().name("by_price").sparse(true));
        told.put("twice", Telling.refused(() -> products.insertOne(with("again").append("sku", "tea"))));
        told.put("listed", products.listIndexes().into(new ArrayList<>()));
        products.dropIndex("by_price");
        told.put("left", products.listIndexes().into(new ArrayList<>()));
        Telling.tell("indexes", told);
    }

    private void aggregation() {
        var skus = List.of("tea", "tea", "cup-3", "none");
        sales.insertMany(IntStream.range(0, 4).mapToObj(n -> with(n).append("sku", skus.get(n)).append("n", n)).toList());
        var pipeline = List.of(
            lookup("products", "sku", "sku", "product"),
            group("$sku", sum("n", "$n"), sum("products", new Document("$size", "$product"))),
            sort(eq("_id", 1)));
        Telling.tell("aggregation", Map.of("rows", sales.aggregate(pipeline).into(new ArrayList<>())));
    }

    private void bulk() {
        var c = db.getCollection("bulk");
        var done = c.bulkWrite(List.of(
            new InsertOneModel<>(with("b1")),
            new UpdateOneModel<>(with("b1"), set("n", 2)),
            new UpdateOneModel<>(with("b2"), set("n", 3), new UpdateOptions().upsert(true)),
            new DeleteOneModel<>(with("b1"))));
        var told = new TreeMap<String, Object>();
        told.put("counts", List.of(done.getInsertedCount(), done.getMatchedCount(), done.getDeletedCount(), done.getUpserts().size()));
        var again = List.of(new InsertOneModel<>(with("b2")), new InsertOneModel<>(with("b3")), new InsertOneModel<>(with("b2")));
        told.put("failed", Telling.refused(() -> c.bulkWrite(again, new BulkWriteOptions().ordered(false))));
        var many = IntStream.range(0, MANY).mapToObj(n -> with("m" + n).append("n", n)).toList();
        c.insertMany(many, new InsertManyOptions().ordered(false));
        told.put("count", c.countDocuments());
        Telling.tell("bulk", told);
    }

    private List<Long> sell(ClientSession session) {
        var taken = products.updateOne(session, with(3).append("price", 3), set("price", 0));
        sales.insertOne(session, with("sold").append("sku", "cup-3"));
        var cups = eq("sku", "cup-3");
        return List.of(taken.getModifiedCount(), sales.countDocuments(session, cups), sales.countDocuments(cups));
    }

    private void transaction() {
        var told = new TreeMap<String, Object>();
        var options = TransactionOptions.builder().readConcern(ReadConcern.SNAPSHOT).writeConcern(WriteConcern.MAJORITY);
        try (ClientSession session = client.startSession()) {
            told.put("sold", session.withTransaction(() -> sell(session), options.build()));
            session.startTransaction();
            sales.insertOne(session, with("cancelled"));
            session.abortTransaction();
        }
        told.put("cancelled", sales.countDocuments(with("cancelled")));
        told.put("after", sales.countDocuments(eq("sku", "cup-3")));
        Telling.tell("transaction", told);
    }

    /** What an application reads of an event; the token and the times are of the one run only. */
    private static Document plain(ChangeStreamDocument<Document> event) {
        var updated = event.getUpdateDescription();
        return new Document("kind", event.getOperationType().getValue())
            .append("ns", event.getNamespace().getFullName())
            .append("key", event.getDocumentKey())
            .append("document", event.getFullDocument())
            .append("updated", updated == null ? null : updated.getUpdatedFields());
    }

    private void events() {
        var c = db.getCollection("events");
        var seen = new ArrayList<Document>();
        c.insertOne(with("before"));
        org.bson.BsonDocument token;
        try (var stream = c.watch().fullDocument(FullDocument.UPDATE_LOOKUP).cursor()) {
            c.insertOne(with("e1").append("n", 1));
            seen.add(plain(stream.next()));
            token = stream.getResumeToken();
            c.updateOne(with("e1"), set("n", 2));
            c.deleteOne(with("e1"));
        }
        try (MongoCursor<ChangeStreamDocument<Document>> stream = c.watch().resumeAfter(token).cursor()) {
            seen.add(plain(stream.next()));
            seen.add(plain(stream.next()));
        }
        Telling.tell("events", Map.of("seen", seen));
    }

    private void files() {
        byte[] content = "0123456789abcdef".repeat(40_000).getBytes();
        var store = GridFSBuckets.create(db);
        var options = new GridFSUploadOptions().chunkSizeBytes(100_000).metadata(new Document("pages", 3));
        var first = store.uploadFromStream("manual", new ByteArrayInputStream(content), options);
        store.uploadFromStream("manual", new ByteArrayInputStream("short".getBytes()), options);
        var told = new TreeMap<String, Object>();
        var listed = new ArrayList<String>();
        for (GridFSFile file : store.find().sort(eq("length", 1))) {
            listed.add(file.getFilename() + " " + file.getLength() + " " + file.getMetadata().toJson());
        }
        told.put("listed", listed);
        var whole = new ByteArrayOutputStream();
        store.downloadToStream(first, whole);
        told.put("same", Arrays.equals(whole.toByteArray(), content));
        var newest = new ByteArrayOutputStream();
        store.downloadToStream("manual", newest);
        told.put("newest", newest.toString());
        var chunks = db.getCollection("fs.chunks");
        told.put("chunks", chunks.countDocuments());
        store.delete(first);
        told.put("left", chunks.countDocuments());
        Telling.tell("files", told);
    }

    private void sent(Telling telling) {
        telling.numbered.clear();
        sales.insertOne(with("numbered"));
        sales.updateMany(new Document(), set("seen", true));
        sales.deleteOne(with("numbered"));
        Telling.tell("retryable writes", Map.of("sent", List.copyOf(telling.numbered)));
        telling.preferences.clear();
        var found = sales.withReadPreference(ReadPreference.nearest()).find(with("sold")).into(new ArrayList<>());
        Telling.tell("read preference", Map.of("found", found, "sent", List.copyOf(telling.preferences)));
    }

    private void everything() {
        var counts = new TreeMap<String, Object>();
        for (String name : db.listCollectionNames()) {
            counts.put(name, db.getCollection(name).countDocuments());
        }
        Telling.tell("everything", counts);
    }

    public static void main(String[] arguments) throws Exception {
        var telling = new Telling();
        try (MongoClient client = MongoClients.create(telling.settings())) {
            var shop = new Shop(client);
            shop.documents();
            shop.indexes();
            shop.aggregation();
            shop.bulk();
            shop.transaction();
            shop.events();
            shop.files();
            shop.sent(telling);
            shop.everything();
        }
    }
}
