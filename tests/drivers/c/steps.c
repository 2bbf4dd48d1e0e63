/* Documents, indexes, aggregation, batches, transactions. */
#include "shop.h"

#include <stdio.h>
#include <stdlib.h>

#define MANY 5000

static void
insert_product (mongoc_collection_t *c, int n)
{
   char number[16], sku[16];

   bson_snprintf (number, sizeof number, "%d", n);
   bson_snprintf (sku, sizeof sku, "cup-%d", n);
   insert (c, BCON_NEW ("_id", BCON_UTF8 (own (number)), "sku", BCON_UTF8 (sku), "price", BCON_INT32 (n)));
}

static void
expect_refusal (mongoc_collection_t *c, bson_t *document, bson_t *outcome, const char *key)
{
   bson_error_t error = {0};

   if (mongoc_collection_insert_one (c, document, NULL, NULL, &error)) {
      fprintf (stderr, "%s: a refusal was expected\n", key);
      exit (1);
   }
   told (outcome, key, &error);
   bson_destroy (document);
}

static void
change_products (mongoc_collection_t *c, bson_t *outcome)
{
   bson_t reply, *filter = BCON_NEW ("price", "{", "$gte", BCON_INT32 (4), "}");
   bson_t *change = BCON_NEW ("$inc", "{", "price", BCON_INT32 (10), "}");
   bson_t *jar = BCON_NEW ("_id", BCON_UTF8 (own ("9"))), *upsert = BCON_NEW ("upsert", BCON_BOOL (true));
   bson_t *named = BCON_NEW ("$set", "{", "sku", BCON_UTF8 ("jar"), "}");
   bson_t *tea = BCON_NEW ("sku", BCON_UTF8 ("tea"));
   mongoc_find_and_modify_opts_t *modify = mongoc_find_and_modify_opts_new ();
   bson_t *push = BCON_NEW ("$push", "{", "tags", BCON_UTF8 ("green"), "}");
   bson_error_t error;
   bson_iter_t value;

   must (mongoc_collection_update_many (c, filter, change, NULL, &reply, &error), &error);
   BSON_APPEND_DOCUMENT (outcome, "updated", &reply);
   bson_destroy (&reply);
   must (mongoc_collection_update_one (c, jar, named, upsert, &reply, &error), &error);
   BSON_APPEND_DOCUMENT (outcome, "upserted", &reply);
   bson_destroy (&reply);
   must (mongoc_collection_delete_one (c, jar, NULL, &reply, &error), &error);
   BSON_APPEND_DOCUMENT (outcome, "deleted", &reply);
   bson_destroy (&reply);
   mongoc_find_and_modify_opts_set_update (modify, push);
   mongoc_find_and_modify_opts_set_flags (modify, MONGOC_FIND_AND_MODIFY_RETURN_NEW);
   must (mongoc_collection_find_and_modify_with_opts (c, tea, modify, &reply, &error), &error);
   if (bson_iter_init_find (&value, &reply, "value")) {
      BSON_APPEND_VALUE (outcome, "after", bson_iter_value (&value));
   }
   bson_destroy (&reply);
   mongoc_find_and_modify_opts_destroy (modify);
   bson_t *used[] = {filter, change, jar, upsert, named, tea, push};
   for (size_t i = 0; i < sizeof used / sizeof *used; i++) {
      bson_destroy (used[i]);
   }
}

void
documents (struct shop *shop)
{
   mongoc_collection_t *c = collection (shop, "products");
   bson_t outcome = BSON_INITIALIZER, all = BSON_INITIALIZER;
   bson_t *sorted = BCON_NEW ("sort", "{", "_id", BCON_INT32 (1), "}", "batchSize", BCON_INT32 (2));

   insert (c, BCON_NEW ("_id", BCON_UTF8 (own ("1")), "sku", BCON_UTF8 ("tea"), "price", BCON_INT32 (3)));
   for (int n = 2; n < 6; n++) {
      insert_product (c, n);
   }
   change_products (c, &outcome);
   expect_refusal (c, BCON_NEW ("_id", BCON_UTF8 (own ("1"))), &outcome, "twice");
   append_all (&outcome, "batches", mongoc_collection_find_with_opts (c, &all, sorted, NULL));
   BSON_APPEND_INT64 (&outcome, "count", count (c, NULL));
   tell ("documents", &outcome);
   bson_destroy (sorted);
   mongoc_collection_destroy (c);
}

void
indexes (struct shop *shop)
{
   mongoc_collection_t *c = collection (shop, "products");
   bson_t outcome = BSON_INITIALIZER, reply;
   bson_error_t error;
   bson_t *create = BCON_NEW ("createIndexes", BCON_UTF8 ("products"), "indexes", "[",
                              "{", "key", "{", "sku", BCON_INT32 (1), "}", "name", BCON_UTF8 ("sku_1"), "unique", BCON_BOOL (true), "}",
                              "{", "key", "{", "price", BCON_INT32 (1), "}", "name", BCON_UTF8 ("by_price"), "sparse", BCON_BOOL (true), "}",
                              "]");

   must (mongoc_database_write_command_with_opts (shop->database, create, NULL, &reply, &error), &error);
   expect_refusal (c, BCON_NEW ("_id", BCON_UTF8 (own ("again")), "sku", BCON_UTF8 ("tea")), &outcome, "twice");
   append_all (&outcome, "listed", mongoc_collection_find_indexes_with_opts (c, NULL));
   must (mongoc_collection_drop_index_with_opts (c, "by_price", NULL, &error), &error);
   mongoc_collection_drop_index_with_opts (c, "by_price", NULL, &error);
   told (&outcome, "gone", &error);
   append_all (&outcome, "left", mongoc_collection_find_indexes_with_opts (c, NULL));
   tell ("indexes", &outcome);
   bson_destroy (&reply);
   bson_destroy (create);
   mongoc_collection_destroy (c);
}

void
aggregation (struct shop *shop)
{
   mongoc_collection_t *c = collection (shop, "sales");
   const char *skus[] = {"tea", "tea", "cup-3", "none"};
   bson_t outcome = BSON_INITIALIZER;
   bson_t *pipeline = BCON_NEW (
      "pipeline", "[",
      "{", "$lookup", "{", "from", "products", "localField", "sku", "foreignField", "sku", "as", "product", "}", "}",
      "{", "$group", "{", "_id", "$sku", "n", "{", "$sum", "$n", "}",
      "products", "{", "$sum", "{", "$size", "$product", "}", "}", "}", "}",
      "{", "$sort", "{", "_id", BCON_INT32 (1), "}", "}", "]");

   for (int n = 0; n < 4; n++) {
      char number[16];
      bson_snprintf (number, sizeof number, "%d", n);
      insert (c, BCON_NEW ("_id", BCON_UTF8 (own (number)), "sku", BCON_UTF8 (skus[n]), "n", BCON_INT32 (n)));
   }
   append_all (&outcome, "rows", mongoc_collection_aggregate (c, MONGOC_QUERY_NONE, pipeline, NULL, NULL));
   tell ("aggregation", &outcome);
   bson_destroy (pipeline);
   mongoc_collection_destroy (c);
}

void
bulk (struct shop *shop)
{
   mongoc_collection_t *c = collection (shop, "bulk");
   bson_t *unordered = BCON_NEW ("ordered", BCON_BOOL (false)), *first = BCON_NEW ("_id", BCON_UTF8 (own ("b1")));
   bson_t *change = BCON_NEW ("$set", "{", "n", BCON_INT32 (2), "}"), *upsert = BCON_NEW ("upsert", BCON_BOOL (true));
   bson_t *second = BCON_NEW ("_id", BCON_UTF8 (own ("b2")));
   bson_t outcome = BSON_INITIALIZER, reply;
   bson_error_t error;
   mongoc_bulk_operation_t *operation = mongoc_collection_create_bulk_operation_with_opts (c, NULL);

   must (mongoc_bulk_operation_insert_with_opts (operation, first, NULL, &error), &error);
   must (mongoc_bulk_operation_update_one_with_opts (operation, first, change, NULL, &error), &error);
   must (mongoc_bulk_operation_update_one_with_opts (operation, second, change, upsert, &error), &error);
   must (mongoc_bulk_operation_remove_one_with_opts (operation, first, NULL, &error), &error);
   must (mongoc_bulk_operation_execute (operation, &reply, &error), &error);
   BSON_APPEND_DOCUMENT (&outcome, "done", &reply);
   bson_destroy (&reply);
   mongoc_bulk_operation_destroy (operation);

   operation = mongoc_collection_create_bulk_operation_with_opts (c, unordered);
   for (int n = 0; n < MANY; n++) {
      char number[16];
      bson_snprintf (number, sizeof number, "m%d", n % (MANY - 2));
      bson_t *document = BCON_NEW ("_id", BCON_UTF8 (own (number)), "n", BCON_INT32 (n));
      must (mongoc_bulk_operation_insert_with_opts (operation, document, NULL, &error), &error);
      bson_destroy (document);
   }
   mongoc_bulk_operation_execute (operation, &reply, &error);
   BSON_APPEND_DOCUMENT (&outcome, "failed", &reply);
   BSON_APPEND_INT64 (&outcome, "count", count (c, NULL));
   tell ("bulk", &outcome);
   bson_destroy (&reply);
   mongoc_bulk_operation_destroy (operation);
   bson_t *used[] = {unordered, first, change, upsert, second};
   for (size_t i = 0; i < sizeof used / sizeof *used; i++) {
      bson_destroy (used[i]);
   }
   mongoc_collection_destroy (c);
}

/* The callback of a transaction: one sale, seen inside and not outside. */
static bool
sell (mongoc_client_session_t *session, void *context, bson_t **reply, bson_error_t *error)
{
   mongoc_collection_t *sales = context;
   bson_t options = BSON_INITIALIZER, *document = BCON_NEW ("_id", BCON_UTF8 (own ("sold")), "sku", "cup-3");
   bool ok = mongoc_client_session_append (session, &options, error);

   BSON_UNUSED (reply);
   ok = ok && mongoc_collection_insert_one (sales, document, &options, NULL, error);
   bson_destroy (document);
   bson_destroy (&options);
   return ok;
}

void
transaction (struct shop *shop)
{
   mongoc_collection_t *sales = collection (shop, "sales");
   bson_t outcome = BSON_INITIALIZER, options = BSON_INITIALIZER, reply;
   bson_t *document = BCON_NEW ("_id", BCON_UTF8 (own ("cancelled")));
   bson_error_t error;
   mongoc_client_session_t *session = mongoc_client_start_session (shop->client, NULL, &error);

   must (session != NULL, &error);
   must (mongoc_client_session_with_transaction (session, sell, NULL, sales, &reply, &error), &error);
   BSON_APPEND_INT64 (&outcome, "sold", count (sales, NULL));
   must (mongoc_client_session_start_transaction (session, NULL, &error), &error);
   must (mongoc_client_session_append (session, &options, &error), &error);
   must (mongoc_collection_insert_one (sales, document, &options, NULL, &error), &error);
   BSON_APPEND_INT64 (&outcome, "inside", count (sales, session));
   BSON_APPEND_INT64 (&outcome, "outside", count (sales, NULL));
   must (mongoc_client_session_abort_transaction (session, &error), &error);
   BSON_APPEND_INT64 (&outcome, "after", count (sales, NULL));
   tell ("transaction", &outcome);
   bson_destroy (&reply);
   bson_destroy (&options);
   bson_destroy (document);
   mongoc_client_session_destroy (session);
   mongoc_collection_destroy (sales);
}
