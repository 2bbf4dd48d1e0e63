/* Change streams and GridFS. */
#include "shop.h"

#include <stdio.h>
#include <stdlib.h>

#define SIXTEENTHS 40000

/* Appends what an application reads of the next event; the token and the times are of the one run only. */
static void
append_next (bson_t *outcome, const char *key, mongoc_change_stream_t *stream)
{
   const bson_t *event, *reply;
   bson_error_t error = {0};
   bson_t kept = BSON_INITIALIZER;

   /* A wait on the server may end without an event. */
   while (!mongoc_change_stream_next (stream, &event)) {
      must (!mongoc_change_stream_error_document (stream, &error, &reply), &error);
   }
   bson_copy_to_excluding_noinit (event, &kept, "_id", "clusterTime", "wallTime", NULL);
   BSON_APPEND_DOCUMENT (outcome, key, &kept);
   bson_destroy (&kept);
}

void
events (struct shop *shop)
{
   mongoc_collection_t *c = collection (shop, "events");
   bson_t outcome = BSON_INITIALIZER, pipeline = BSON_INITIALIZER, token;
   bson_t *key = BCON_NEW ("_id", BCON_UTF8 (own ("e1"))), *change = BCON_NEW ("$set", "{", "n", BCON_INT32 (2), "}");
   bson_t *after;
   mongoc_change_stream_t *stream;
   bson_error_t error;

   insert (c, BCON_NEW ("_id", BCON_UTF8 (own ("before"))));
   stream = mongoc_collection_watch (c, &pipeline, NULL);
   insert (c, BCON_NEW ("_id", BCON_UTF8 (own ("e1")), "n", BCON_INT32 (1)));
   append_next (&outcome, "inserted", stream);
   bson_copy_to (mongoc_change_stream_get_resume_token (stream), &token);
   must (mongoc_collection_update_one (c, key, change, NULL, NULL, &error), &error);
   must (mongoc_collection_delete_one (c, key, NULL, NULL, &error), &error);
   mongoc_change_stream_destroy (stream);

   after = BCON_NEW ("resumeAfter", BCON_DOCUMENT (&token));
   stream = mongoc_collection_watch (c, &pipeline, after);
   append_next (&outcome, "updated", stream);
   append_next (&outcome, "deleted", stream);
   tell ("events", &outcome);
   mongoc_change_stream_destroy (stream);
   bson_destroy (after);
   bson_destroy (&token);
   bson_destroy (key);
   bson_destroy (change);
   mongoc_collection_destroy (c);
}

static void
upload (mongoc_gridfs_bucket_t *store, const char *bytes, size_t size, bson_value_t *id)
{
   bson_error_t error;
   bson_t *options = BCON_NEW ("chunkSizeBytes", BCON_INT32 (CHUNK_BYTES));
   mongoc_stream_t *stream = mongoc_gridfs_bucket_open_upload_stream (store, "manual", options, id, &error);

   must (stream != NULL, &error);
   if (mongoc_stream_write (stream, (void *) bytes, size, 0) != (ssize_t) size) {
      fprintf (stderr, "a short write\n");
      exit (1);
   }
   mongoc_stream_close (stream);
   mongoc_stream_destroy (stream);
   bson_destroy (options);
}

static bool
is_same (mongoc_gridfs_bucket_t *store, const bson_value_t *id, const char *bytes, size_t size)
{
   bson_error_t error;
   char *found = bson_malloc (size);
   mongoc_stream_t *stream = mongoc_gridfs_bucket_open_download_stream (store, id, &error);
   size_t filled = 0;
   ssize_t read = 1;
   bool same;

   must (stream != NULL, &error);
   while (filled < size && read > 0) {
      read = mongoc_stream_read (stream, found + filled, size - filled, 1, 0);
      filled += read > 0 ? (size_t) read : 0;
   }
   same = filled == size && !memcmp (found, bytes, size);
   mongoc_stream_destroy (stream);
   bson_free (found);
   return same;
}

void
files (struct shop *shop)
{
   size_t size = 16 * SIXTEENTHS;
   char *content = bson_malloc (size);
   bson_t outcome = BSON_INITIALIZER, all = BSON_INITIALIZER;
   bson_t *listing = BCON_NEW ("sort", "{", "length", BCON_INT32 (1), "}",
                               "projection", "{", "_id", BCON_INT32 (0), "uploadDate", BCON_INT32 (0), "}");
   mongoc_collection_t *headers = collection (shop, "fs.files"), *chunks = collection (shop, "fs.chunks");
   bson_error_t error;
   bson_value_t first, second;
   mongoc_gridfs_bucket_t *store = mongoc_gridfs_bucket_new (shop->database, NULL, NULL, &error);

   must (store != NULL, &error);
   for (size_t i = 0; i < size; i++) {
      content[i] = "0123456789abcdef"[i % 16];
   }
   upload (store, content, size, &first);
   upload (store, "short", 5, &second);
   append_all (&outcome, "listed", mongoc_collection_find_with_opts (headers, &all, listing, NULL));
   BSON_APPEND_BOOL (&outcome, "same", is_same (store, &first, content, size));
   BSON_APPEND_INT64 (&outcome, "chunks", count (chunks, NULL));
   must (mongoc_gridfs_bucket_delete_by_id (store, &first, &error), &error);
   BSON_APPEND_INT64 (&outcome, "left", count (chunks, NULL));
   tell ("files", &outcome);
   bson_value_destroy (&first);
   bson_value_destroy (&second);
   mongoc_gridfs_bucket_destroy (store);
   mongoc_collection_destroy (headers);
   mongoc_collection_destroy (chunks);
   bson_destroy (listing);
   bson_free (content);
}
