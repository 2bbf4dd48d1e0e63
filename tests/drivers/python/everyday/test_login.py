"""Who gets in, who does not, and what a role allows."""

import os
import time
import unittest

from pymongo import MongoClient
from pymongo.errors import OperationFailure

import place
import raw
from place import DATABASE, Case, client


class LogIn(unittest.TestCase):
    def test_every_credential_with_any_authentication_database(self):
        for user in ("shop", "notes", "shop-reports", "task_manager"):
            for source in (None, "admin", DATABASE, "elsewhere", "Any-other_1"):
                with self.subTest(user=user, source=source):
                    uri = place.uri(user, source)
                    with MongoClient(uri) as there:
                        self.assertEqual(there.admin.command("ping")["ok"], 1)
                        status = there.admin.command("connectionStatus")["authInfo"]
                        names = [row["user"] for row in status["authenticatedUsers"]]
                        self.assertEqual(names, [user])

    def test_both_mechanisms(self):
        for mechanism in ("SCRAM-SHA-1", "SCRAM-SHA-256"):
            with self.subTest(mechanism), client("shop", authMechanism=mechanism) as there:
                there[DATABASE].anything.find_one()

    def test_wrong_passwords_and_unknown_users_look_the_same(self):
        shapes = []
        for user, secret in (("shop", "wrong"), ("nobody", "wrong"), ("shop", place.password("notes"))):
            with MongoClient(place.PROXY, username=user, password=secret) as there:
                with self.assertRaises(OperationFailure) as caught:
                    there[DATABASE].things.find_one()
                details = dict(caught.exception.details)
                shapes.append((caught.exception.code, details.get("codeName"), details.get("errmsg")))
        self.assertEqual(shapes, [(18, "AuthenticationFailed", "Authentication failed.")] * 3)

    def test_a_certificate_instead_of_a_password(self):
        certificate = os.environ["DRIVERS_CLIENT_CERTIFICATE"]
        if not os.path.exists(certificate):
            self.skipTest("no openssl made certificates")
        subject = os.environ["DRIVERS_CLIENT_SUBJECT"]
        tls = {"tls": True, "tlsCAFile": os.environ["DRIVERS_CA"], "authMechanism": "MONGODB-X509"}
        address = f"localhost:{os.environ['DRIVERS_TLS_PORT']}"
        with client("notes") as notes:
            notes[DATABASE].certified.insert_one({"_id": "by password"})
        for user in (None, subject):
            with self.subTest(user=user):
                with MongoClient(address, username=user, tlsCertificateKeyFile=certificate, **tls) as there:
                    self.assertEqual(there[DATABASE].certified.find_one(), {"_id": "by password"})
                    status = there.admin.command("connectionStatus")["authInfo"]
                    self.assertEqual(status["authenticatedUsers"], [{"user": subject, "db": "$external"}])
        for options, code in (
            ({"username": "CN=somebody", "tlsCertificateKeyFile": certificate}, 18),
            ({}, 18),
        ):
            with self.subTest(options), MongoClient(address, **options, **tls) as there:
                with self.assertRaises(OperationFailure) as caught:
                    there[DATABASE].certified.find_one()
                self.assertEqual(caught.exception.code, code)

    def test_without_log_in_nothing_is_answered(self):
        with MongoClient(place.PROXY) as there:
            self.assertEqual(there.admin.command("ping")["ok"], 1)
            there.admin.command("buildInfo")
            for database, command in (
                (DATABASE, {"find": "things"}),
                (DATABASE, {"insert": "things", "documents": [{"x": 1}]}),
                ("admin", {"listDatabases": 1}),
                (DATABASE, {"listCollections": 1}),
                ("admin", {"serverStatus": 1}),
            ):
                with self.subTest(command), self.assertRaises(OperationFailure) as caught:
                    there[database].command(command)
                self.assertEqual(caught.exception.code, 13)

    def test_a_connection_belongs_to_one_app(self):
        with raw.Connection(place.PROXY) as connection:
            connection.log_in("shop", place.password("shop"))
            with self.assertRaises(PermissionError):
                connection.log_in("notes", place.password("notes"))

    def test_many_log_ins_stay_fast(self):
        started = time.monotonic()
        for _ in range(20):
            with client("shop") as there:
                there.admin.command("ping")
        self.assertLess(time.monotonic() - started, 30)


class Roles(Case):
    def test_the_read_role_reads_and_does_nothing_else(self):
        self.collection.insert_one({"_id": "read_role", "x": 1})
        there = client("shop-reports")
        self.addCleanup(there.close)
        mine = there[DATABASE][self.name]
        self.assertEqual(mine.find_one(), {"_id": "read_role", "x": 1})
        self.assertEqual(mine.count_documents({}), 1)
        self.assertEqual(list(mine.aggregate([{"$match": {"x": 1}}])), [{"_id": "read_role", "x": 1}])
        self.assertIn(self.name, there[DATABASE].list_collection_names())
        refused = {
            "insert": lambda: mine.insert_one({}),
            "update": lambda: mine.update_one({}, {"$set": {"x": 2}}),
            "replace": lambda: mine.replace_one({}, {"x": 2}),
            "delete": lambda: mine.delete_many({}),
            "findAndModify": lambda: mine.find_one_and_delete({}),
            "createIndexes": lambda: mine.create_index("x"),
            "dropIndexes": lambda: mine.drop_indexes(),
            "drop": lambda: mine.drop(),
            "create": lambda: there[DATABASE].create_collection("made_by_reports"),
            "merge": lambda: list(mine.aggregate([{"$merge": {"into": "merged"}}])),
            "out": lambda: list(mine.aggregate([{"$out": "merged"}])),
        }
        for name, action in refused.items():
            with self.subTest(name), self.assertRaises(OperationFailure) as caught:
                action()
            with self.subTest(name):
                self.assertEqual(caught.exception.code, 13)
                # These two are refused to every app, whatever its roles.
                if name not in ("merge", "out"):
                    self.assertIn(DATABASE, str(caught.exception))
        self.assertEqual(self.collection.find_one(), {"_id": "read_role", "x": 1})

    def test_connection_status_speaks_of_the_app(self):
        status = self.client.admin.command("connectionStatus", showPrivileges=True)["authInfo"]
        roles = {row["role"] for row in status["authenticatedUserRoles"]}
        self.assertEqual(roles, {"readWrite", "dbAdmin"})
