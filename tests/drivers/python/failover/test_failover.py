"""The primary is killed, steps down, or freezes under load.

Clients use the driver's default settings. Beside them the same load runs past the proxy, against the
replica set itself, for comparison: the proxy must be no worse.
"""

import json
import os
import signal
import threading
import time
import unittest

from pymongo.errors import AutoReconnect, PyMongoError

import place
from place import DATABASE, client
from watching import Heartbeats, Pools, Topology

WRITERS, READERS = 4, 3
BEFORE_SECONDS, AFTER_SECONDS = 3, 30
FROZEN_SECONDS = 15
SETTLE_TIMEOUT_SECONDS = 90


class Load(threading.Thread):
    """Operations one after the other; remembers what was acknowledged, errors and the longest wait."""

    def __init__(self, there, name, index, ending):
        super().__init__()
        self.collection, self.index, self.ending = there[DATABASE][name], index, ending
        self.there = there
        self.errors, self.longest, self.count = [], 0.0, 0
        self.acknowledged, self.doubtful = [], []

    def run(self):
        while not self.ending.is_set():
            started = time.monotonic()
            try:
                self.step(self.count)
            except PyMongoError as error:
                waited = time.monotonic() - started
                self.errors.append(f"{type(self).__name__} after {waited:.1f} s: {error!r}"[:400])
            self.longest = max(self.longest, time.monotonic() - started)
            self.count += 1


class Inserts(Load):
    def step(self, n):
        key = f"{self.index}-{n}"
        self.doubtful.append(key)
        self.collection.insert_one({"_id": key})
        self.doubtful.pop()
        self.acknowledged.append(key)


class Increments(Load):
    """A counter that a repeated write would make too large."""

    def step(self, n):
        self.doubtful.append(n)
        self.collection.update_one({"_id": f"counter-{self.index}"}, {"$inc": {"n": 1}}, upsert=True)
        self.doubtful.pop()
        self.acknowledged.append(n)


class Transactions(Load):
    def step(self, n):
        def body(session):
            for half in ("left", "right"):
                key = {"_id": f"{half}-{self.index}"}
                self.collection.update_one(key, {"$inc": {"n": 1}}, upsert=True, session=session)

        self.doubtful.append(n)
        with self.there.start_session() as session:
            session.with_transaction(body)
        self.doubtful.pop()
        self.acknowledged.append(n)


class Reads(Load):
    def step(self, n):
        self.collection.find_one({"_id": "counter-1"})
        list(self.collection.aggregate([{"$match": {"_id": "counter-1"}}]))


class Side:
    """One load, through the proxy or past it."""

    def __init__(self, label, there, name):
        self.label, self.ending = label, threading.Event()
        kinds = [Inserts, Increments, Inserts, Transactions][:WRITERS] + [Reads] * READERS
        self.loads = [kind(there, name, i, self.ending) for i, kind in enumerate(kinds)]
        for load in self.loads:
            load.start()

    def stop(self):
        self.ending.set()
        for load in self.loads:
            load.join()

    def errors(self):
        return [error for load in self.loads for error in load.errors]

    def summary(self):
        operations = sum(load.count for load in self.loads)
        longest = max(load.longest for load in self.loads)
        return f"{self.label}: {operations} operations, {len(self.errors())} errors, longest wait {longest:.1f} s"


class Failover(unittest.TestCase):
    def setUp(self):
        self.server = place.upstream()
        self.addCleanup(self.server.close)
        self.name = self.id().rsplit(".", 1)[1]
        self.settle()

    def settle(self):
        """Waits until there are a primary and two secondaries."""
        deadline = time.monotonic() + SETTLE_TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            try:
                members = self.server.admin.command("replSetGetStatus")["members"]
                if sorted(m["stateStr"] for m in members) == ["PRIMARY", "SECONDARY", "SECONDARY"]:
                    return
            except PyMongoError:
                pass
            time.sleep(0.5)
        self.fail("the replica set does not settle")

    def primary(self):
        """The process of the present primary."""
        self.server.admin.command("ping")
        port = str(self.server.primary[1])
        with open(os.environ["DRIVERS_MEMBERS"]) as state:
            return json.load(state)[port]

    def under_load(self, action):
        pools, beats, topology = Pools(), Heartbeats(), Topology()
        listeners = [pools, beats, topology]
        with client("shop", event_listeners=listeners) as there, place.upstream() as direct:
            sides = [Side("through the proxy", there, self.name), Side("direct", direct, f"{self.name}_direct")]
            try:
                time.sleep(BEFORE_SECONDS)
                action()
                time.sleep(AFTER_SECONDS)
            finally:
                for side in sides:
                    side.stop()
            # Before the client is closed: it cancels its own heartbeat.
            failures, closed = list(beats.failures), list(pools.closed)
        self.settle()
        self.report(sides, pools, failures)
        self.check_stored(sides[0])
        with self.subTest("errors seen by the application"):
            self.assertEqual(sides[0].errors(), [])
        with self.subTest("the driver noticed nothing"):
            self.assertEqual((pools.cleared, closed, failures), (0, [], []))
            self.assertEqual(set(topology.types) - {"Unknown"}, {"Sharded"})

    def report(self, sides, pools, failures):
        print()
        for side in sides:
            print(f"    {side.summary()}")
            for error in side.errors()[:5]:
                print(f"        {error}")
        print(f"    pools cleared {pools.cleared}, failed heartbeats {len(failures)}")

    def check_stored(self, side):
        """What was acknowledged is there exactly once; what failed, at most once."""
        stored = {d["_id"]: d for d in self.server[DATABASE][self.name].find({"app_id": "shop"})}
        for load in side.loads:
            done, doubtful = len(load.acknowledged), len(load.doubtful)
            with self.subTest(load=type(load).__name__, index=load.index):
                if isinstance(load, Inserts):
                    missing = [key for key in load.acknowledged if key not in stored]
                    self.assertEqual(missing, [])
                for key in {Increments: ["counter"], Transactions: ["left", "right"]}.get(type(load), []):
                    value = stored[f"{key}-{load.index}"]["n"]
                    self.assertGreaterEqual(value, done)
                    self.assertLessEqual(value, done + doubtful)
        self.assertEqual(place.ownership_of(self.server, self.name), {"shop"})

    def test_a_killed_primary(self):
        self.under_load(lambda: os.kill(self.primary(), signal.SIGKILL))

    def test_a_step_down(self):
        def step_down():
            try:
                self.server.admin.command("replSetStepDown", 20)
            except AutoReconnect:
                pass

        self.under_load(step_down)

    def test_a_frozen_primary(self):
        def freeze():
            frozen = self.primary()
            os.kill(frozen, signal.SIGSTOP)
            time.sleep(FROZEN_SECONDS)
            os.kill(frozen, signal.SIGCONT)

        self.under_load(freeze)

    def test_a_change_stream_goes_on(self):
        with client("shop") as there:
            collection = there[DATABASE][self.name]
            with collection.watch(max_await_time_ms=500) as stream:
                collection.insert_one({"_id": 0})
                self.assertEqual(next(stream)["documentKey"], {"_id": 0})
                os.kill(self.primary(), signal.SIGKILL)
                for i in range(1, 20):
                    collection.insert_one({"_id": i})
                seen = [next(stream)["documentKey"]["_id"] for _ in range(1, 20)]
            self.assertEqual(seen, list(range(1, 20)))
        self.settle()

    def test_open_cursors_on_a_member_that_is_lost(self):
        """The one thing that a driver does not repair: the cursor is gone, and that is said once."""
        with client("shop") as there:
            collection = there[DATABASE][self.name]
            collection.insert_many([{"_id": i} for i in range(1000)])
            cursor = collection.find(batch_size=10)
            next(cursor)
            os.kill(self.primary(), signal.SIGKILL)
            with self.assertRaises(PyMongoError):
                list(cursor)
            self.assertEqual(collection.count_documents({}), 1000)
        self.settle()
