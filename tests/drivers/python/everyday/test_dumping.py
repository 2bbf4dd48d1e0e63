"""What mongodump and mongorestore send, and the tools themselves where they are installed.

The sequences are those of the tools' version 100: kind of server, lists, metadata, documents as bytes; collections with
`idIndex`, inserts in batches, indexes with `ns` and `ignoreUnknownIndexOptions`.
"""

import json
import shutil
import subprocess
import tempfile
import unittest

import bson
from bson import json_util
from pymongo import InsertOne
from pymongo.errors import OperationFailure

from place import DATABASE, RAW, Case, client, uri

COPY = f"{DATABASE}_copy"
FLAVOURS = {
    "directory": (["--out", "{}/dump"], ["{}/dump"]),
    "directory, gzip": (["--gzip", "--out", "{}/dump"], ["--gzip", "{}/dump"]),
    "archive": (["--archive={}/archive"], ["--archive={}/archive"]),
    "archive, gzip": (["--gzip", "--archive={}/archive"], ["--gzip", "--archive={}/archive"]),
}


def dump(server, database):
    """`{collection: (metadata as text, documents as bytes)}`, asked for in mongodump's way."""
    admin = server.admin
    assert admin.command("ismaster").get("setName") is None
    try:
        admin.command("atlasVersion")
        raise AssertionError("this is no Atlas proxy")
    except OperationFailure as error:
        assert error.code == 59, error
    assert database in [found["name"] for found in server.list_databases(nameOnly=True)]
    dumped = {}
    for entry in server[database].list_collections():
        collection = server[database].get_collection(entry["name"], codec_options=RAW)
        found = list(server[database].list_collections(filter={"name": entry["name"]}))
        assert [info["name"] for info in found] == [entry["name"]]
        collection.estimated_document_count()
        indexes = [dict(index) for index in server[database].command("listIndexes", entry["name"])["cursor"]["firstBatch"]]
        metadata = {"options": entry["options"], "indexes": indexes, "uuid": entry["info"]["uuid"].hex()}
        metadata |= {"collectionName": entry["name"], "type": entry["type"]}
        documents = b"".join(document.raw for document in collection.find({}))
        dumped[entry["name"]] = (json_util.dumps(metadata, json_options=json_util.CANONICAL_JSON_OPTIONS), documents)
    server[database].command("buildInfo")
    return dumped


def restore(server, database, dumped, drop=False):
    """Writes it in mongorestore's way."""
    assert server.admin.command("buildInfo")["versionArray"]
    there = [entry["name"] for entry in server[database].list_collections()]
    for name, (text, documents) in dumped.items():
        metadata = json_util.loads(text)
        if drop and name in there:
            server[database][name].drop()
        own_id = next(index for index in metadata["indexes"] if list(index["key"]) == ["_id"])
        own_id = {"key": own_id["key"], "name": own_id["name"], "ns": f"{database}.{name}"}
        server[database].command({"create": name, **metadata["options"], "idIndex": own_id})
        restored = [InsertOne(document) for document in bson.decode_all(documents, RAW)]
        if restored:
            target = server[database].get_collection(name, codec_options=RAW)
            target.bulk_write(restored, ordered=False, bypass_document_validation=True)
        indexes = [{**index, "ns": f"{database}.{name}"} for index in metadata["indexes"] if list(index["key"]) != ["_id"]]
        for index in indexes:
            del index["v"]
        if indexes:
            server[database].command({"createIndexes": name, "indexes": indexes, "ignoreUnknownIndexOptions": True})


class DumpAndRestore(Case):
    def setUp(self):
        super().setUp()
        self.other = client("notes")
        self.addCleanup(self.other.close)
        for server in (self.client, self.other):
            self.addCleanup(server.drop_database, COPY)
        self.client.drop_database(COPY)
        self.other.drop_database(COPY)
        filled = self.client[COPY]
        filled.things.insert_many([{"_id": number, "x": number % 7, "s": "y" * number} for number in range(2500)])
        filled.things.create_index([("x", 1), ("s", -1)], name="pair", sparse=True)
        filled.things.create_index("s", unique=True, partialFilterExpression={"x": 3})
        filled.create_collection("empty")

    def assert_same(self, server, database=COPY):
        for name in ("things", "empty"):
            wanted, found = self.client[COPY][name], server[database][name]
            self.assertEqual(list(found.find().sort("_id")), list(wanted.find().sort("_id")))
            self.assertEqual(found.index_information(), wanted.index_information())

    def test_into_another_database_and_another_app(self):
        dumped = dump(self.client, COPY)
        self.assertEqual(sorted(dumped), ["empty", "things"])
        self.assertNotIn("app_id", json.dumps([text for text, _ in dumped.values()]))
        # Ids are unique over all apps of a collection: another app takes new ones, or another database.
        self.addCleanup(self.other.drop_database, f"{COPY}_2")
        restore(self.other, f"{COPY}_2", dumped)
        self.assert_same(self.other, f"{COPY}_2")
        self.client.drop_database(COPY)
        self.assertEqual(dump(self.other, f"{COPY}_2").keys(), dumped.keys())
        restore(self.client, COPY, dumped)
        self.assert_same(self.other, f"{COPY}_2")

    def test_over_what_is_there(self):
        dumped = dump(self.client, COPY)
        self.client[COPY].things.delete_many({"x": 1})
        restore(self.client, COPY, dumped, drop=True)
        self.assertEqual(dump(self.client, COPY), dumped)

    @unittest.skipUnless(shutil.which("mongodump") and shutil.which("mongorestore"), "the tools are not installed")
    def test_with_the_tools_themselves(self):
        target = f"{COPY}_2"
        self.addCleanup(self.other.drop_database, target)
        for flavour, (to, back) in FLAVOURS.items():
            with self.subTest(flavour), tempfile.TemporaryDirectory() as place:
                self.run_tool("mongodump", uri("shop", "admin"), "--db", COPY, *[part.format(place) for part in to])
                renamed = ["--nsFrom", f"{COPY}.*", "--nsTo", f"{target}.*", "--drop"]
                self.run_tool("mongorestore", uri("notes", "admin"), *renamed, *[part.format(place) for part in back])
                self.assert_same(self.other, target)

    def run_tool(self, tool, address, *arguments):
        address = address.replace(f"/{DATABASE}?", "/?")
        done = subprocess.run([tool, "--uri", address, *arguments], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
