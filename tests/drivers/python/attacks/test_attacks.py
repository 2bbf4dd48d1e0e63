"""As one app on another's data. Whatever is answered, nothing foreign may be seen, counted, changed,
removed or moved, and the proxy and mongod live on."""

import struct
import unittest
import uuid
from collections import Counter

import bson
from bson import Int64
from pymongo.errors import InvalidDocument, InvalidOperation, PyMongoError

import place
import raw
from place import DATABASE

from . import reading, writing
from .world import ATTACKER, PEOPLE, VAULT, VICTIM, World, twice


class Attacks(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.world = World()
        cls.addClassCleanup(cls.world.close)

    def setUp(self):
        self.outcomes = Counter()

    def attack(self, name, database, command):
        try:
            reply = self.world.run(database, command)
        except (InvalidDocument, InvalidOperation):
            raise
        except PyMongoError as error:
            # The driver itself never raises for a reply that is read with `check=False`.
            self.world.fill()
            return self.fail(f"no reply: {error!r}")
        problems = self.world.problems(reply, command)
        first = reply[0]
        self.outcomes[first.get("code", "done") if first["ok"] != 1 else "done"] += 1
        if first["ok"] == 1:
            self.world.fill()
        if self.world.mine.command({"count": VAULT})["n"] != 13:
            self.world.fill()
        self.assertEqual(problems, [], f"{name}: {str(first)[:600]}")

    def run_all(self, attacks):
        ran = 0
        for name, database, command in attacks:
            ran += 1
            with self.subTest(name):
                self.attack(name, database, command)
        print(f"{ran} attacks; by code: {dict(sorted(self.outcomes.items(), key=str))}")

    def test_the_detector_detects(self):
        """The same past the proxy, where nothing protects: it has to be noticed."""
        there = self.world.server[DATABASE]
        for command in (
            {"find": VAULT, "filter": {"k": 5}},
            {"find": VAULT, "filter": {"k": 5}, "projection": {"_id": 1}},
            {"count": VAULT},
            {"distinct": VAULT, "key": "app_id"},
            {"aggregate": VAULT, "pipeline": [{"$count": "n"}], "cursor": {}},
            {"listCollections": 1},
        ):
            with self.subTest(command):
                self.assertNotEqual(list(self.world.traces(there.command(command), command)), [])
        there[VAULT].update_one({"_id": "victim-7"}, {"$set": {"k": -1}})
        self.assertEqual(self.world.problems(None), ["the victim's documents changed"])
        there[VAULT].update_one({"_id": "victim-7"}, {"$set": {"k": 7}})
        self.world.before = self.world.snapshot()
        there[VAULT].insert_one({"_id": "stray"})
        self.assertEqual(len(self.world.problems(None)), 2)
        there[VAULT].delete_one({"_id": "stray"})
        self.world.before = self.world.snapshot()

    def test_reading(self):
        self.run_all(reading.everything())

    def test_writing(self):
        self.run_all(writing.everything())


class Stolen(unittest.TestCase):
    """Cursors, sessions and transactions of the victim, whose ids the attacker knows."""

    @classmethod
    def setUpClass(cls):
        cls.world = World()
        cls.addClassCleanup(cls.world.close)

    def connect(self, user):
        connection = raw.Connection(place.PROXY).log_in(user, place.password(user))
        self.addCleanup(connection.socket.close)
        return connection

    def open(self, victim, **options):
        reply = victim.run({"find": VAULT, "batchSize": 10, "$db": DATABASE, **options})
        return Int64(reply["cursor"]["id"])

    def test_cursors(self):
        victim, attacker = self.connect(VICTIM), self.connect(ATTACKER)
        lsid = {"id": bson.Binary(uuid.uuid4().bytes, 4)}
        for options in ({}, {"lsid": lsid}):
            cursor = self.open(victim, **options)
            for name in (VAULT, PEOPLE, "$cmd.aggregate"):
                for more in ({}, options, {"lsid": {"id": bson.Binary(uuid.uuid4().bytes, 4)}}):
                    with self.subTest(options=options, name=name, more=more):
                        stolen = {"getMore": cursor, "collection": name, "$db": DATABASE, **more}
                        reply = attacker.run(stolen)
                        self.assertEqual((reply["ok"], reply["code"]), (0, 43), reply)
                        kill = {"killCursors": name, "cursors": [cursor], "$db": DATABASE, **more}
                        reply = attacker.run(kill)
                        self.assertEqual(reply.get("cursorsKilled", []), [], reply)
            guesses = [cursor + step for step in range(-50, 50)]
            for guess in guesses:
                reply = attacker.run({"getMore": Int64(guess), "collection": VAULT, "$db": DATABASE})
                self.assertEqual(reply.get("code"), 43)
            reply = victim.run({"getMore": cursor, "collection": VAULT, "$db": DATABASE, **options})
            self.assertEqual(len(reply["cursor"]["nextBatch"]), 977 - 10)

    def test_transactions(self):
        victim, attacker = self.connect(VICTIM), self.connect(ATTACKER)
        lsid = {"id": bson.Binary(uuid.uuid4().bytes, 4)}
        session = {"lsid": lsid, "txnNumber": Int64(5), "autocommit": False, "$db": DATABASE}
        document = {"_id": "victim-in-transaction", "secret": self.world.mark}
        insert = {"insert": VAULT, "documents": [document], **session, "startTransaction": True}
        self.assertEqual(victim.run(insert)["ok"], 1)
        seen = attacker.run({"find": VAULT, **session})
        self.assertEqual(list(self.world.traces(seen)), [])
        for name in ("commitTransaction", "abortTransaction"):
            reply = attacker.run({name: 1, **session, "$db": "admin"})
            self.assertEqual(reply["ok"], 0, reply)
        for name in ("killSessions", "endSessions"):
            attacker.run({name: [lsid], "$db": "admin"})
        attacker.run({"insert": VAULT, "documents": [{"_id": "own-x"}], "lsid": lsid, "txnNumber": Int64(9), "$db": DATABASE})
        reply = victim.run({"commitTransaction": 1, **session, "$db": "admin"})
        self.assertEqual(reply["ok"], 1, reply)
        there = self.world.victim[DATABASE][VAULT]
        self.assertEqual(there.delete_one({"_id": document["_id"]}).deleted_count, 1)

    def test_finished_writes_are_not_replayed(self):
        victim, attacker = self.connect(VICTIM), self.connect(ATTACKER)
        session = {"lsid": {"id": bson.Binary(uuid.uuid4().bytes, 4)}, "txnNumber": Int64(3), "$db": DATABASE}
        modify = {"findAndModify": VAULT, "query": {"k": 1}, "update": {"$set": {"z": 1}}, **session}
        self.assertEqual(victim.run(modify)["value"]["secret"], self.world.mark)
        self.assertEqual(list(self.world.traces(attacker.run(modify))), [])
        self.world.victim[DATABASE][VAULT].update_many({"z": 1}, {"$unset": {"z": 1}})


class Wire(unittest.TestCase):
    """What only a client of the attacker's own making sends."""

    @classmethod
    def setUpClass(cls):
        cls.world = World()
        cls.addClassCleanup(cls.world.close)

    def tearDown(self):
        self.world.fill()

    def attempt(self, action):
        """Runs `action` on a fresh connection; a closed connection is an answer too."""
        with raw.Connection(place.PROXY) as connection:
            connection.log_in(ATTACKER, place.password(ATTACKER))
            try:
                action(connection)
                reply = connection.receive()
            except (ConnectionError, bson.errors.InvalidBSON, struct.error):
                reply = None
        self.assertEqual(self.world.problems(reply), [], reply)
        return reply

    def test_repeated_names(self):
        bodies = {
            "two filters": raw.pairs(("find", VAULT), ("filter", {}), ("filter", {"app_id": VICTIM}), ("$db", DATABASE)),
            "two names": raw.pairs(("find", VAULT), ("find", PEOPLE), ("$db", DATABASE)),
            "two databases": raw.pairs(("find", VAULT), ("$db", DATABASE), ("$db", "admin")),
            "two pipelines": raw.pairs(
                ("aggregate", VAULT), ("pipeline", []), ("pipeline", [{"$unionWith": VAULT}]), ("cursor", {}), ("$db", DATABASE)
            ),
            "two queries": raw.pairs(
                ("delete", VAULT), ("deletes", [twice("q", {"_id": 0}, {}, ("limit", 0))]), ("$db", DATABASE)
            ),
            "two lists": raw.pairs(
                ("delete", VAULT), ("deletes", []), ("deletes", [{"q": {}, "limit": 0}]), ("$db", DATABASE)
            ),
            "two sessions": raw.pairs(
                ("find", VAULT), ("lsid", {"id": bson.Binary(b"0" * 16, 4)}), ("lsid", {"id": bson.Binary(b"1" * 16, 4)}), ("$db", DATABASE)
            ),
            "two updates": raw.pairs(
                ("findAndModify", VAULT), ("update", {"$set": {"x": 1}}), ("update", {"app_id": VICTIM}), ("$db", DATABASE)
            ),
            "two from in lookup": {
                "aggregate": VAULT, "cursor": {}, "$db": DATABASE,
                "pipeline": [{"$lookup": raw.pairs(("from", PEOPLE), ("from", VAULT), ("pipeline", []), ("as", "j"))}],
            },
        }
        for name, body in bodies.items():
            with self.subTest(name):
                reply = self.attempt(lambda c, body=body: c.send(body))
                self.assertTrue(reply is None or reply["ok"] == 0, reply)

    def test_document_sequences(self):
        find = {"find": VAULT, "$db": DATABASE}
        delete = {"delete": VAULT, "$db": DATABASE}
        everything = [{"q": {}, "limit": 0}]
        cases = {
            "filter": (find, [("filter", [{"app_id": VICTIM}])]),
            "documents with find": (find, [("documents", [{"x": 1}])]),
            "database": ({"find": VAULT}, [("$db", [{"x": 1}])]),
            "list and sequence": ({**delete, "deletes": everything}, [("deletes", everything)]),
            "twice": (delete, [("deletes", everything), ("deletes", everything)]),
            "foreign owner": ({"insert": VAULT, "$db": DATABASE}, [("documents", [{"app_id": VICTIM}])]),
            "nothing": ({"insert": VAULT, "$db": DATABASE}, [("documents", [])]),
            "nested": ({"insert": VAULT, "$db": DATABASE}, [("documents.app_id", [{"x": 1}])]),
        }
        for name, (body, sequences) in cases.items():
            with self.subTest(name):
                reply = self.attempt(lambda c, b=body, s=sequences: c.send(b, s))
                self.assertTrue(reply is None or reply["ok"] == 0, reply)
        # A plain one is an ordinary delete: the attacker's own documents, and no others.
        reply = self.attempt(lambda c: c.send(delete, [("deletes", everything)]))
        self.assertEqual((reply["ok"], reply["n"]), (1, 13))

    def test_unacknowledged(self):
        with raw.Connection(place.PROXY) as connection:
            connection.log_in(ATTACKER, place.password(ATTACKER))
            concern = {"writeConcern": {"w": 0}, "$db": DATABASE}
            for body in (
                {"insert": VAULT, "documents": [{"_id": "u1", "app_id": VICTIM}], **concern},
                {"update": VAULT, "updates": [{"q": {}, "u": {"$set": {"app_id": VICTIM}}, "multi": True}], **concern},
                {"delete": VAULT, "deletes": [{"q": {"app_id": VICTIM}, "limit": 0}], **concern},
                {"drop": "vault_private", **concern},
                {"shutdown": 1, **concern, "$db": "admin"},
            ):
                connection.send(body, flags=raw.MORE_TO_COME)
            self.assertEqual(connection.run({"ping": 1, "$db": "admin"})["ok"], 1)
        self.assertEqual(self.world.problems(None), [])

    def test_old_messages(self):
        name = f"{DATABASE}.{VAULT}".encode() + b"\0"
        zero, everything = struct.pack("<i", 0), bson.encode({})
        command = bson.encode({"find": VAULT})
        cases = {
            "query": (2004, zero + name + struct.pack("<ii", 0, 100) + everything),
            "query command": (2004, zero + DATABASE.encode() + b".$cmd\0" + struct.pack("<ii", 0, -1) + command),
            "insert": (2002, zero + name + bson.encode({"app_id": VICTIM})),
            "update": (2001, zero + name + struct.pack("<i", 2) + everything + bson.encode({"$set": {"secret": 1}})),
            "delete": (2006, zero + name + zero + everything),
            "getMore": (2005, zero + name + struct.pack("<iq", 100, 1)),
            "killCursors": (2007, zero + struct.pack("<iq", 1, 1)),
            "command": (2010, DATABASE.encode() + b"\0find\0" + command + everything),
            "compressed": (2012, struct.pack("<iiB", 2013, 5 + len(command), 0) + zero + b"\0" + command),
            "unknown": (4711, command),
            "nothing": (2013, b""),
            "two bodies": (2013, zero + b"\0" + bson.encode({"find": VAULT, "$db": DATABASE}) + b"\0" + command),
            "unknown section": (2013, zero + b"\2" + command),
            "unknown flag": (2013, struct.pack("<i", 1 << 5) + b"\0" + bson.encode({"find": VAULT, "$db": DATABASE})),
            "long document": (2013, zero + b"\0" + struct.pack("<i", 2**31 - 1)),
            "no body": (2013, zero + b"\1" + struct.pack("<i", 14) + b"documents\0"),
        }
        for name, (opcode, payload) in cases.items():
            with self.subTest(name):
                with raw.Connection(place.PROXY) as connection:
                    connection.log_in(ATTACKER, place.password(ATTACKER))
                    connection.send_message(payload, opcode)
                    connection.socket.settimeout(5)
                    try:
                        answer = connection.socket.recv(1 << 20)
                    except OSError:
                        answer = b""
                self.assertNotIn(self.world.mark.encode(), answer)
                self.assertEqual(self.world.problems(None), [])

    def test_claimed_lengths(self):
        for length in (-1, 0, 15, 48_000_001, 2**31 - 1):
            with self.subTest(length), raw.Connection(place.PROXY) as connection:
                connection.socket.sendall(struct.pack("<iiii", length, 1, 0, 2013) + b"\0" * 20)
                connection.socket.settimeout(10)
                # An error where the request id could be read, and then the end.
                answer = b""
                while piece := connection.socket.recv(4096):
                    answer += piece
                self.assertTrue(answer == b"" or b"errmsg" in answer, answer)
        with raw.Connection(place.PROXY) as connection:
            self.assertEqual(connection.run({"ping": 1, "$db": "admin"})["ok"], 1)
