/* A small shop with libmongoc. It tells a line per step, see ../python/compare.py. */
#ifndef SHOP_H
#define SHOP_H

#include <mongoc/mongoc.h>

#define CHUNK_BYTES 100000

struct shop {
   mongoc_client_t *client;
   mongoc_database_t *database;
};

/* Ends the program with the driver's words, unless `ok`. */
void must (bool ok, const bson_error_t *error);

/* `APP_PREFIX-NAME`, in one of a few buffers: ids are unique over all apps of a collection. */
const char *own (const char *name);

/* Prints a step and what came of it; destroys `outcome`. */
void tell (const char *step, bson_t *outcome);

/* Appends what applications act on in a server's error. */
void told (bson_t *outcome, const char *key, const bson_error_t *error);

mongoc_collection_t *collection (struct shop *shop, const char *name);
void insert (mongoc_collection_t *c, bson_t *document);
int64_t count (mongoc_collection_t *c, mongoc_client_session_t *session);

/* Appends all documents of a cursor as an array; destroys the cursor. */
void append_all (bson_t *outcome, const char *key, mongoc_cursor_t *cursor);

void documents (struct shop *shop);
void indexes (struct shop *shop);
void aggregation (struct shop *shop);
void bulk (struct shop *shop);
void transaction (struct shop *shop);
void events (struct shop *shop);
void files (struct shop *shop);

#endif
