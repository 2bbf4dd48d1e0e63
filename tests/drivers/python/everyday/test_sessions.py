"""Transactions, causal consistency, retryable writes."""

import threading

from pymongo import ReadPreference, monitoring
from pymongo.errors import OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

import place
import raw
from place import DATABASE, Case


class Commands(monitoring.CommandListener):
    """Remembers the commands that were sent."""

    def __init__(self):
        self.sent = []

    def started(self, event):
        # A log-in is shown without its content.
        if event.command:
            self.sent.append(event.command)

    def succeeded(self, event):
        pass

    def failed(self, event):
        pass


class Transactions(Case):
    def setUp(self):
        super().setUp()
        self.collection.insert_many([{"_id": "a", "n": 100}, {"_id": "b", "n": 100}])

    def move(self, session, amount):
        self.collection.update_one({"_id": "a"}, {"$inc": {"n": -amount}}, session=session)
        self.collection.update_one({"_id": "b"}, {"$inc": {"n": amount}}, session=session)

    def balances(self, **options):
        return {d["_id"]: d["n"] for d in self.collection.find(**options)}

    def test_commit_and_abort(self):
        with self.client.start_session() as session:
            with session.start_transaction():
                self.move(session, 10)
                self.assertEqual(self.balances(), {"a": 100, "b": 100})
                self.assertEqual(self.balances(session=session), {"a": 90, "b": 110})
            self.assertEqual(self.balances(), {"a": 90, "b": 110})
            session.start_transaction()
            self.move(session, 50)
            session.abort_transaction()
            self.assertEqual(self.balances(), {"a": 90, "b": 110})
            with self.assertRaises(ZeroDivisionError), session.start_transaction():
                self.move(session, 50)
                1 / 0
        self.assertEqual(self.balances(), {"a": 90, "b": 110})

    def test_everything_inside_a_transaction(self):
        with self.client.start_session() as session, session.start_transaction():
            self.collection.insert_many([{"_id": i} for i in range(500)], session=session)
            found = self.collection.find({"_id": {"$type": "int"}}, session=session, batch_size=50)
            self.assertEqual(len(list(found)), 500)
            counted = self.collection.aggregate([{"$count": "n"}], session=session)
            self.assertEqual(list(counted), [{"n": 502}])
            self.assertEqual(self.collection.distinct("n", session=session), [100])
            self.collection.find_one_and_delete({"_id": 1}, session=session)
            self.collection.delete_many({"_id": {"$gt": 250}}, session=session)
        self.assertEqual(self.collection.count_documents({}), 252)

    def test_a_collection_first_named_in_a_transaction(self):
        new = self.db[f"{self.name}_new"]
        with self.client.start_session() as session:
            session.with_transaction(lambda s: new.insert_one({"_id": 1}, session=s))
            self.assertEqual(new.count_documents({}), 1)

    def test_a_collection_first_named_late_in_a_transaction(self):
        new = self.db[f"{self.name}_new"]

        def body(session):
            self.move(session, 1)
            new.insert_one({"_id": 1}, session=session)

        # The collection is made beside the transaction, whose snapshot is then too old: the first
        # attempt may fail, with the label that has it tried again.
        with self.client.start_session() as session:
            session.with_transaction(body)
        self.assertEqual(new.count_documents({}), 1)
        self.assertEqual(self.balances(), {"a": 99, "b": 101})

    def test_two_threads_in_conflict(self):
        attempts, failures = [0], []

        def work():
            try:
                with self.client.start_session() as session:
                    for _ in range(25):
                        session.with_transaction(self.conflicting(attempts))
            except PyMongoError as error:
                failures.append(error)

        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])
        self.assertEqual(self.balances(), {"a": 50, "b": 150})
        self.assertGreaterEqual(attempts[0], 50)

    def conflicting(self, attempts):
        def body(session):
            attempts[0] += 1
            value = self.collection.find_one({"_id": "a"}, session=session)["n"]
            self.collection.update_one({"_id": "a"}, {"$set": {"n": value - 1}}, session=session)
            self.collection.update_one({"_id": "b"}, {"$inc": {"n": 1}}, session=session)

        return body

    def test_a_write_conflict_is_labelled(self):
        with self.client.start_session() as first, self.client.start_session() as second:
            first.start_transaction()
            second.start_transaction()
            self.move(first, 1)
            with self.assertRaises(OperationFailure) as caught:
                self.move(second, 1)
            self.assertEqual(caught.exception.code, 112)
            self.assertTrue(caught.exception.has_error_label("TransientTransactionError"))
            second.abort_transaction()
            first.commit_transaction()
        self.assertEqual(self.balances(), {"a": 99, "b": 101})

    def test_concerns_and_recommitting(self):
        options = {"read_concern": ReadConcern("snapshot"), "write_concern": WriteConcern("majority")}
        with self.client.start_session() as session:
            session.start_transaction(**options)
            self.move(session, 1)
            session.commit_transaction()
            session.commit_transaction()
            session.start_transaction(**options, read_preference=ReadPreference.PRIMARY)
            session.commit_transaction()
        self.assertEqual(self.balances(), {"a": 99, "b": 101})


class Sessions(Case):
    def test_causally_consistent_sessions(self):
        with self.client.start_session(causal_consistency=True) as session:
            for n in range(200):
                self.collection.update_one({"_id": 1}, {"$set": {"n": n}}, upsert=True, session=session)
                self.assertEqual(self.collection.find_one({"_id": 1}, session=session)["n"], n)
            self.assertIsNotNone(session.operation_time)
            self.assertIsNotNone(session.cluster_time)
            with self.client.start_session() as later:
                later.advance_cluster_time(session.cluster_time)
                later.advance_operation_time(session.operation_time)
                self.assertEqual(self.collection.find_one({"_id": 1}, session=later)["n"], 199)

    def test_snapshot_sessions(self):
        self.collection.insert_one({"_id": 1})
        self.db.get_collection(self.name, write_concern=WriteConcern("majority")).insert_one({"_id": 2})
        with self.client.start_session(snapshot=True) as session:
            self.assertEqual(len(list(self.collection.find(session=session))), 2)
            self.collection.insert_one({"_id": 3})
            self.assertEqual(len(list(self.collection.find(session=session))), 2)

    def test_retryable_writes_are_numbered_and_not_done_twice(self):
        listener = Commands()
        with place.client("shop", event_listeners=[listener]) as there:
            there[DATABASE][self.name].insert_one({"_id": 1, "n": 0})
            there[DATABASE][self.name].update_one({"_id": 1}, {"$inc": {"n": 1}})
            there[DATABASE][self.name].find_one_and_update({"_id": 1}, {"$inc": {"n": 10}})
        numbers = [c["txnNumber"] for c in listener.sent if "txnNumber" in c]
        self.assertEqual(len(numbers), 3)
        again = {"update": self.name, "updates": [{"q": {"_id": 1}, "u": {"$inc": {"n": 100}}}]}
        again["lsid"] = {"id": listener.sent[0]["lsid"]["id"]}
        again["txnNumber"] = type(numbers[0])(1000)
        replies = [self.run_with_session(again) for _ in range(3)]
        self.assertEqual([reply["nModified"] for reply in replies], [1, 1, 1])
        self.assertEqual(self.collection.find_one({"_id": 1})["n"], 111)

    def run_with_session(self, command):
        """Over a connection of its own, for a driver replaces the session."""
        with raw.Connection(place.PROXY) as connection:
            connection.log_in("shop", place.password("shop"))
            return connection.run({**command, "$db": DATABASE})

    def test_session_commands(self):
        with self.client.start_session() as session:
            self.collection.find_one({}, session=session)
            lsid = session.session_id
        admin = self.client.admin
        self.assertEqual(admin.command("refreshSessions", [lsid])["ok"], 1)
        self.assertEqual(admin.command("endSessions", [lsid])["ok"], 1)
        started = admin.command("startSession")
        self.assertEqual(started["ok"], 1)
        self.assertIn("id", started["id"])
