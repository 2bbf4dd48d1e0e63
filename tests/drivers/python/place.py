"""Where the suites find proxy and upstream, and how they look at what is stored."""

import os
import unittest
from collections import Counter

import bson
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient

import raw

PROXY = os.environ.get("DRIVERS_PROXY", "")
ADMIN = os.environ.get("DRIVERS_ADMIN", "")
UPSTREAM_URI = os.environ.get("DRIVERS_UPSTREAM_URI", "")

# Every app uses the same database, so that collections of one name are shared.
DATABASE = "shop_db"
APPS = ("shop", "notes", "task_manager")
OWN = {"mdb_runtime", "admin", "local", "config"}

RAW = bson.CodecOptions(document_class=RawBSONDocument)


def password(user):
    return os.environ[user.upper().replace("-", "_") + "_PASSWORD"]


def uri(user, auth_source=None, options=""):
    asked = "&".join(filter(None, [auth_source and f"authSource={auth_source}", options]))
    query = f"?{asked}" if asked else ""
    return f"mongodb://{user}:{password(user)}@{PROXY}/{DATABASE}{query}"


def client(user, **options):
    return MongoClient(uri(user), **options)


def upstream(**options):
    return MongoClient(UPSTREAM_URI, **options)


def stored(server, collection, app=None):
    """The documents of a collection as bytes, of one app or of all."""
    filter = {} if app is None else {"app_id": app}
    found = server[DATABASE].get_collection(collection, codec_options=RAW).find(filter)
    return [bytes(document.raw) for document in found]


def shared_collections(server):
    """Every `(database, collection)` that apps share: not those of one app's own, `NAME@SLUG`."""
    for database in set(server.list_database_names()) - OWN:
        for collection in server[database].list_collections(filter={"type": "collection"}):
            if not collection["name"].startswith("system.") and "@" not in collection["name"]:
                yield database, collection["name"]


def ownership_problems(server):
    """Documents without exactly one owner, or with the owner at another place than behind `_id`."""
    problems = []
    for database, collection in shared_collections(server):
        target = server[database].get_collection(collection, codec_options=RAW)
        for document in target.find({}):
            items = raw.names(bytes(document.raw))
            owner = bson.decode(document.raw).get("app_id")
            if items.count("app_id") != 1 or items[:2] != ["_id", "app_id"] or owner not in APPS:
                problems.append(f"{database}.{collection}: {items[:4]} owner {owner!r}")
    return Counter(problems)


def ownership_of(server, collection):
    """The owners of a collection's documents."""
    return set(server[DATABASE][collection].distinct("app_id"))


class Case(unittest.TestCase):
    """A test with a client of an app and an empty collection of its own."""

    app = "shop"
    maxDiff = 2000

    def setUp(self):
        self.client = client(self.app)
        self.addCleanup(self.client.close)
        self.db = self.client[DATABASE]
        self.name = self.id().rsplit(".", 1)[1]
        self.collection = self.db[self.name]
        self.server = upstream()
        self.addCleanup(self.server.close)
