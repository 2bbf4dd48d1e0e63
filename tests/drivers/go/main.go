// A small shop with the Go driver, version 2. It tells a line per step, see ../python/compare.py.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"sort"
	"sync"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"
)

// Ids are unique over all apps of a collection, so each run has a prefix of its own.
func own(name any) string {
	return fmt.Sprintf("%s-%v", os.Getenv("APP_PREFIX"), name)
}

func must[T any](value T, err error) T {
	if err != nil {
		log.Panic(err)
	}
	return value
}

func tell(step string, outcome bson.M) {
	// A map has no order of its own.
	names := make([]string, 0, len(outcome))
	for name := range outcome {
		names = append(names, name)
	}
	sort.Strings(names)
	ordered := bson.D{}
	for _, name := range names {
		ordered = append(ordered, bson.E{Key: name, Value: outcome[name]})
	}
	fmt.Printf("%s\t%s\n", step, must(bson.MarshalExtJSON(ordered, false, false)))
}

// What applications act on in a server's error.
func told(err error) bson.D {
	var server mongo.ServerError
	if !errors.As(err, &server) {
		log.Panicf("not a server's error: %v", err)
	}
	return bson.D{{"codes", server.ErrorCodes()}, {"duplicate", mongo.IsDuplicateKeyError(err)}, {"message", err.Error()}}
}

func all(cursor *mongo.Cursor, err error) []bson.D {
	found := []bson.D{}
	if err := must(cursor, err).All(context.Background(), &found); err != nil {
		log.Panic(err)
	}
	return found
}

// sent remembers which numbered writes and which read preferences went out.
type sent struct {
	mutex       sync.Mutex
	numbered    []string
	preferences []string
}

func (s *sent) started(_ context.Context, started *event.CommandStartedEvent) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if _, err := started.Command.LookupErr("txnNumber"); err == nil {
		s.numbered = append(s.numbered, started.CommandName)
	}
	if started.CommandName == "find" {
		mode, _ := started.Command.Lookup("$readPreference", "mode").StringValueOK()
		s.preferences = append(s.preferences, mode)
	}
}

func documents(ctx context.Context, db *mongo.Database) {
	c := db.Collection("products")
	must(c.InsertOne(ctx, bson.D{{"_id", own(1)}, {"sku", "tea"}, {"price", 3}, {"tags", bson.A{"hot"}}}))
	many := []bson.D{}
	for n := 2; n < 6; n++ {
		many = append(many, bson.D{{"_id", own(n)}, {"sku", fmt.Sprintf("cup-%d", n)}, {"price", n}})
	}
	must(c.InsertMany(ctx, many))
	updated := must(c.UpdateMany(ctx, bson.D{{"price", bson.D{{"$gte", 4}}}}, bson.D{{"$inc", bson.D{{"price", 10}}}}))
	upserted := must(c.UpdateOne(ctx, bson.D{{"_id", own(9)}}, bson.D{{"$set", bson.D{{"sku", "jar"}}}},
		options.UpdateOne().SetUpsert(true)))
	replaced := must(c.ReplaceOne(ctx, bson.D{{"_id", own(2)}}, bson.D{{"sku", "cup-2"}, {"colour", "red"}}))
	var after bson.D
	change := bson.D{{"$push", bson.D{{"tags", "green"}}}}
	newest := options.FindOneAndUpdate().SetReturnDocument(options.After)
	if err := c.FindOneAndUpdate(ctx, bson.D{{"sku", "tea"}}, change, newest).Decode(&after); err != nil {
		log.Panic(err)
	}
	deleted := must(c.DeleteOne(ctx, bson.D{{"_id", own(9)}}))
	_, twice := c.InsertOne(ctx, bson.D{{"_id", own(1)}})
	var skus []string
	if err := c.Distinct(ctx, "sku", bson.D{}).Decode(&skus); err != nil {
		log.Panic(err)
	}
	sort.Strings(skus)
	tell("documents", bson.M{
		"updated": updated.ModifiedCount, "upserted": upserted.UpsertedID, "replaced": replaced.ModifiedCount,
		"after": after, "deleted": deleted.DeletedCount, "twice": told(twice), "skus": skus,
		"count": must(c.CountDocuments(ctx, bson.D{})), "estimated": must(c.EstimatedDocumentCount(ctx)),
		"batches": all(c.Find(ctx, bson.D{}, options.Find().SetBatchSize(2).SetSort(bson.D{{"_id", 1}}))),
	})
}

func indexes(ctx context.Context, db *mongo.Database) {
	c := db.Collection("products")
	unique := mongo.IndexModel{Keys: bson.D{{"sku", 1}}, Options: options.Index().SetUnique(true).SetSparse(false)}
	name := must(c.Indexes().CreateOne(ctx, unique))
	must(c.Indexes().CreateOne(ctx, mongo.IndexModel{Keys: bson.D{{"price", 1}, {"tags", -1}}}))
	_, twice := c.InsertOne(ctx, bson.D{{"_id", own("again")}, {"sku", "tea"}})
	listed := all(c.Indexes().List(ctx))
	if err := c.Indexes().DropOne(ctx, "price_1_tags_-1"); err != nil {
		log.Panic(err)
	}
	gone := c.Indexes().DropOne(ctx, "price_1_tags_-1")
	tell("indexes", bson.M{"name": name, "listed": listed, "twice": told(twice), "gone": told(gone),
		"left": all(c.Indexes().List(ctx))})
}

func aggregation(ctx context.Context, db *mongo.Database) {
	sales := []bson.D{}
	for n, sku := range []string{"tea", "tea", "cup-3", "none"} {
		sales = append(sales, bson.D{{"_id", own(n)}, {"sku", sku}, {"n", n}})
	}
	must(db.Collection("sales").InsertMany(ctx, sales))
	pipeline := mongo.Pipeline{
		{{"$lookup", bson.D{{"from", "products"}, {"localField", "sku"}, {"foreignField", "sku"}, {"as", "product"}}}},
		{{"$group", bson.D{{"_id", "$sku"}, {"n", bson.D{{"$sum", "$n"}}}, {"products", bson.D{{"$sum", bson.D{{"$size", "$product"}}}}}}}},
		{{"$sort", bson.D{{"_id", 1}}}},
	}
	tell("aggregation", bson.M{"rows": all(db.Collection("sales").Aggregate(ctx, pipeline))})
}

func bulk(ctx context.Context, db *mongo.Database) {
	c := db.Collection("bulk")
	filter := func(name string) bson.D { return bson.D{{"_id", own(name)}} }
	set := func(n int) bson.D { return bson.D{{"$set", bson.D{{"n", n}}}} }
	result := must(c.BulkWrite(ctx, []mongo.WriteModel{
		mongo.NewInsertOneModel().SetDocument(filter("b1")),
		mongo.NewUpdateOneModel().SetFilter(filter("b1")).SetUpdate(set(2)),
		mongo.NewUpdateOneModel().SetFilter(filter("b2")).SetUpdate(set(3)).SetUpsert(true),
		mongo.NewDeleteOneModel().SetFilter(filter("b1")),
	}))
	_, failed := c.BulkWrite(ctx, []mongo.WriteModel{
		mongo.NewInsertOneModel().SetDocument(filter("b2")),
		mongo.NewInsertOneModel().SetDocument(filter("b3")),
		mongo.NewInsertOneModel().SetDocument(filter("b2")),
	}, options.BulkWrite().SetOrdered(false))
	many := []bson.D{}
	for n := range 5000 {
		many = append(many, bson.D{{"_id", own(fmt.Sprintf("m%d", n))}, {"n", n}})
	}
	must(c.InsertMany(ctx, many, options.InsertMany().SetOrdered(false)))
	tell("bulk", bson.M{"inserted": result.InsertedCount, "matched": result.MatchedCount, "upserted": result.UpsertedIDs[2],
		"deleted": result.DeletedCount, "failed": told(failed), "count": must(c.CountDocuments(ctx, bson.D{}))})
}

var errCancelled = errors.New("cancelled")

func transaction(ctx context.Context, db *mongo.Database) {
	products, sales := db.Collection("products"), db.Collection("sales")
	cups := bson.D{{"sku", "cup-3"}}
	session := must(db.Client().StartSession())
	defer session.EndSession(ctx)
	snapshot := options.Transaction().SetReadConcern(readconcern.Snapshot()).SetWriteConcern(writeconcern.Majority())
	sold := must(session.WithTransaction(ctx, func(inside context.Context) (any, error) {
		filter := bson.D{{"_id", own(3)}, {"price", 3}}
		taken, err := products.UpdateOne(inside, filter, bson.D{{"$set", bson.D{{"price", 0}}}})
		if err != nil {
			return nil, err
		}
		if _, err := sales.InsertOne(inside, bson.D{{"_id", own("sold")}, {"sku", "cup-3"}}); err != nil {
			return nil, err
		}
		seen, err := sales.CountDocuments(inside, cups)
		return bson.A{taken.ModifiedCount, seen, must(sales.CountDocuments(ctx, cups))}, err
	}, snapshot))
	_, err := session.WithTransaction(ctx, func(inside context.Context) (any, error) {
		if _, err := sales.InsertOne(inside, bson.D{{"_id", own("cancelled")}}); err != nil {
			return nil, err
		}
		return nil, errCancelled
	})
	if !errors.Is(err, errCancelled) {
		log.Panic(err)
	}
	cancelled := must(sales.CountDocuments(ctx, bson.D{{"_id", own("cancelled")}}))
	tell("transaction", bson.M{"sold": sold, "cancelled": cancelled, "after": must(sales.CountDocuments(ctx, cups))})
}

func main() {
	ctx := context.Background()
	sent := &sent{}
	monitor := &event.CommandMonitor{Started: sent.started}
	client := must(mongo.Connect(options.Client().ApplyURI(os.Getenv("APP_URI")).SetMonitor(monitor)))
	db := client.Database(os.Getenv("APP_DATABASE"))
	for _, step := range []func(context.Context, *mongo.Database){documents, indexes, aggregation, bulk, transaction, events, files} {
		step(ctx, db)
	}
	sent.numbered, sent.preferences = nil, nil
	sales := db.Collection("sales")
	must(sales.InsertOne(ctx, bson.D{{"_id", own("numbered")}}))
	must(sales.UpdateMany(ctx, bson.D{}, bson.D{{"$set", bson.D{{"seen", true}}}}))
	must(sales.DeleteOne(ctx, bson.D{{"_id", own("numbered")}}))
	tell("retryable writes", bson.M{"sent": sent.numbered})
	near := db.Collection("sales", options.Collection().SetReadPreference(readpref.Nearest()))
	found := all(near.Find(ctx, bson.D{{"_id", own("sold")}}))
	tell("read preference", bson.M{"found": found, "sent": sent.preferences})
	everything := bson.M{}
	for _, name := range must(db.ListCollectionNames(ctx, bson.D{})) {
		everything[name] = must(db.Collection(name).CountDocuments(ctx, bson.D{}))
	}
	tell("everything", everything)
	if err := client.Disconnect(ctx); err != nil {
		log.Panic(err)
	}
}
