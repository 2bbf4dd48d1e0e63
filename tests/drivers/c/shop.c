/* The program, and what its steps share. */
#include "shop.h"

#include <stdio.h>
#include <stdlib.h>

#define BUFFERS 8
#define NAME_BYTES 64
#define NOTES 64

/* What went out since the last look: numbered writes, and the read preferences of finds. */
struct sent {
   int numbered, preferences;
   char writes[NOTES][NAME_BYTES], modes[NOTES][NAME_BYTES];
};

void
must (bool ok, const bson_error_t *error)
{
   if (!ok) {
      fprintf (stderr, "%s\n", error->message);
      exit (1);
   }
}

const char *
own (const char *name)
{
   static char buffers[BUFFERS][NAME_BYTES];
   static int next;
   char *buffer = buffers[next++ % BUFFERS];

   bson_snprintf (buffer, NAME_BYTES, "%s-%s", getenv ("APP_PREFIX"), name);
   return buffer;
}

void
tell (const char *step, bson_t *outcome)
{
   char *text = bson_as_relaxed_extended_json (outcome, NULL);

   printf ("%s\t%s\n", step, text);
   bson_free (text);
   bson_destroy (outcome);
}

void
told (bson_t *outcome, const char *key, const bson_error_t *error)
{
   bson_t *told = BCON_NEW ("code", BCON_INT32 ((int32_t) error->code), "message", BCON_UTF8 (error->message));

   BSON_APPEND_DOCUMENT (outcome, key, told);
   bson_destroy (told);
}

mongoc_collection_t *
collection (struct shop *shop, const char *name)
{
   return mongoc_database_get_collection (shop->database, name);
}

void
insert (mongoc_collection_t *c, bson_t *document)
{
   bson_error_t error;

   must (mongoc_collection_insert_one (c, document, NULL, NULL, &error), &error);
   bson_destroy (document);
}

int64_t
count (mongoc_collection_t *c, mongoc_client_session_t *session)
{
   bson_t empty = BSON_INITIALIZER, options = BSON_INITIALIZER;
   bson_error_t error;
   int64_t found;

   if (session) {
      must (mongoc_client_session_append (session, &options, &error), &error);
   }
   found = mongoc_collection_count_documents (c, &empty, &options, NULL, NULL, &error);
   must (found >= 0, &error);
   bson_destroy (&options);
   return found;
}

void
append_all (bson_t *outcome, const char *key, mongoc_cursor_t *cursor)
{
   const bson_t *document;
   bson_error_t error;
   bson_t array;
   uint32_t n = 0;
   char index[16];

   BSON_APPEND_ARRAY_BEGIN (outcome, key, &array);
   while (mongoc_cursor_next (cursor, &document)) {
      bson_snprintf (index, sizeof index, "%u", n++);
      BSON_APPEND_DOCUMENT (&array, index, document);
   }
   must (!mongoc_cursor_error (cursor, &error), &error);
   bson_append_array_end (outcome, &array);
   mongoc_cursor_destroy (cursor);
}

static void
note (const mongoc_apm_command_started_t *event)
{
   struct sent *sent = mongoc_apm_command_started_get_context (event);
   const char *name = mongoc_apm_command_started_get_command_name (event);
   const bson_t *command = mongoc_apm_command_started_get_command (event);
   bson_iter_t iter, mode;

   if (bson_has_field (command, "txnNumber") && sent->numbered < NOTES) {
      bson_strncpy (sent->writes[sent->numbered++], name, NAME_BYTES);
   }
   if (!strcmp (name, "find") && sent->preferences < NOTES && bson_iter_init (&iter, command)) {
      bool has = bson_iter_find_descendant (&iter, "$readPreference.mode", &mode);
      bson_strncpy (sent->modes[sent->preferences++], has ? bson_iter_utf8 (&mode, NULL) : "none", NAME_BYTES);
   }
}

static void
append_notes (bson_t *outcome, char notes[][NAME_BYTES], int n)
{
   bson_t array;
   char index[16];

   BSON_APPEND_ARRAY_BEGIN (outcome, "sent", &array);
   for (int i = 0; i < n; i++) {
      bson_snprintf (index, sizeof index, "%d", i);
      BSON_APPEND_UTF8 (&array, index, notes[i]);
   }
   bson_append_array_end (outcome, &array);
}

static void
retryable_writes (struct shop *shop, struct sent *sent)
{
   mongoc_collection_t *sales = collection (shop, "sales");
   bson_t *filter = BCON_NEW ("_id", BCON_UTF8 (own ("numbered")));
   bson_t *change = BCON_NEW ("$set", "{", "seen", BCON_BOOL (true), "}");
   bson_t all = BSON_INITIALIZER, outcome = BSON_INITIALIZER;
   bson_error_t error;

   sent->numbered = 0;
   insert (sales, bson_copy (filter));
   must (mongoc_collection_update_many (sales, &all, change, NULL, NULL, &error), &error);
   must (mongoc_collection_delete_one (sales, filter, NULL, NULL, &error), &error);
   append_notes (&outcome, sent->writes, sent->numbered);
   tell ("retryable writes", &outcome);
   bson_destroy (filter);
   bson_destroy (change);
   mongoc_collection_destroy (sales);
}

static void
read_preference (struct shop *shop, struct sent *sent)
{
   mongoc_collection_t *sales = collection (shop, "sales");
   mongoc_read_prefs_t *nearest = mongoc_read_prefs_new (MONGOC_READ_NEAREST);
   bson_t *filter = BCON_NEW ("_id", BCON_UTF8 (own ("sold")));
   bson_t outcome = BSON_INITIALIZER;

   sent->preferences = 0;
   append_all (&outcome, "found", mongoc_collection_find_with_opts (sales, filter, NULL, nearest));
   append_notes (&outcome, sent->modes, sent->preferences);
   tell ("read preference", &outcome);
   mongoc_read_prefs_destroy (nearest);
   bson_destroy (filter);
   mongoc_collection_destroy (sales);
}

static int
by_text (const void *a, const void *b)
{
   return strcmp (*(char *const *) a, *(char *const *) b);
}

static void
everything (struct shop *shop)
{
   bson_t outcome = BSON_INITIALIZER;
   bson_error_t error;
   char **names = mongoc_database_get_collection_names_with_opts (shop->database, NULL, &error);
   size_t n = 0;

   must (names != NULL, &error);
   while (names[n]) {
      n++;
   }
   qsort (names, n, sizeof *names, by_text);
   for (size_t i = 0; i < n; i++) {
      mongoc_collection_t *c = collection (shop, names[i]);
      BSON_APPEND_INT64 (&outcome, names[i], count (c, NULL));
      mongoc_collection_destroy (c);
   }
   tell ("everything", &outcome);
   bson_strfreev (names);
}

int
main (void)
{
   static struct sent sent;
   struct shop shop;
   mongoc_apm_callbacks_t *callbacks;

   mongoc_init ();
   shop.client = mongoc_client_new (getenv ("APP_URI"));
   if (!shop.client) {
      fprintf (stderr, "the connection string is not understood\n");
      return 1;
   }
   mongoc_client_set_error_api (shop.client, MONGOC_ERROR_API_VERSION_2);
   callbacks = mongoc_apm_callbacks_new ();
   mongoc_apm_set_command_started_cb (callbacks, note);
   mongoc_client_set_apm_callbacks (shop.client, callbacks, &sent);
   shop.database = mongoc_client_get_database (shop.client, getenv ("APP_DATABASE"));
   documents (&shop);
   indexes (&shop);
   aggregation (&shop);
   bulk (&shop);
   transaction (&shop);
   events (&shop);
   files (&shop);
   retryable_writes (&shop, &sent);
   read_preference (&shop, &sent);
   everything (&shop);
   mongoc_database_destroy (shop.database);
   mongoc_client_destroy (shop.client);
   mongoc_apm_callbacks_destroy (callbacks);
   mongoc_cleanup ();
   return 0;
}
