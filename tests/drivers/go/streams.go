package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"log"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// What an application reads of an event; the token and the times are of the one run only.
type change struct {
	OperationType     string
	NS                bson.D `bson:"ns"`
	DocumentKey       bson.D `bson:"documentKey"`
	FullDocument      bson.D `bson:"fullDocument"`
	UpdateDescription bson.D `bson:"updateDescription"`
}

func next(ctx context.Context, stream *mongo.ChangeStream) change {
	var seen change
	if !stream.Next(ctx) {
		log.Panic(stream.Err())
	}
	if err := stream.Decode(&seen); err != nil {
		log.Panic(err)
	}
	return seen
}

func events(ctx context.Context, db *mongo.Database) {
	c := db.Collection("events")
	key := bson.D{{"_id", own("e1")}}
	must(c.InsertOne(ctx, bson.D{{"_id", own("before")}}))
	stream := must(c.Watch(ctx, mongo.Pipeline{}, options.ChangeStream().SetFullDocument(options.UpdateLookup)))
	must(c.InsertOne(ctx, append(key, bson.E{Key: "n", Value: 1})))
	seen := []change{next(ctx, stream)}
	token := stream.ResumeToken()
	must(c.UpdateOne(ctx, key, bson.D{{"$set", bson.D{{"n", 2}}}}))
	must(c.DeleteOne(ctx, key))
	if err := stream.Close(ctx); err != nil {
		log.Panic(err)
	}
	resumed := must(c.Watch(ctx, mongo.Pipeline{}, options.ChangeStream().SetResumeAfter(token)))
	defer resumed.Close(ctx)
	tell("events", bson.M{"seen": append(seen, next(ctx, resumed), next(ctx, resumed))})
}

func files(ctx context.Context, db *mongo.Database) {
	content := bytes.Repeat([]byte("0123456789abcdef"), 40_000)
	store := db.GridFSBucket(options.GridFSBucket().SetChunkSizeBytes(100_000))
	metadata := options.GridFSUpload().SetMetadata(bson.D{{"pages", 3}})
	first := must(store.UploadFromStream(ctx, "manual", bytes.NewReader(content), metadata))
	must(store.UploadFromStream(ctx, "manual", bytes.NewReader([]byte("short"))))
	listed := []bson.D{}
	for _, file := range all(store.Find(ctx, bson.D{}, options.GridFSFind().SetSort(bson.D{{"length", 1}}))) {
		kept := bson.D{}
		for _, field := range file {
			if field.Key != "_id" && field.Key != "uploadDate" {
				kept = append(kept, field)
			}
		}
		listed = append(listed, kept)
	}
	whole := must(io.ReadAll(must(store.OpenDownloadStream(ctx, first))))
	newest := must(io.ReadAll(must(store.OpenDownloadStreamByName(ctx, "manual"))))
	chunks := db.Collection("fs.chunks")
	before := must(chunks.CountDocuments(ctx, bson.D{}))
	if err := store.Delete(ctx, first); err != nil {
		log.Panic(err)
	}
	tell("files", bson.M{"listed": listed, "whole": fmt.Sprintf("%x", sha256.Sum256(whole)), "same": bytes.Equal(whole, content),
		"newest": string(newest), "chunks": before, "left": must(chunks.CountDocuments(ctx, bson.D{}))})
}
