"""Two proxies behind one TCP load balancer, by `loadBalanced=true`."""

import itertools
import os
import socket
import threading
import time
import unittest

from pymongo import MongoClient

import place

SECOND = os.environ["DRIVERS_SECOND_PROXY"]


class Balancer:
    """Hands connections to the two proxies in turn."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.turns = {place.PROXY: 0, SECOND: 0}
        self.servers = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        for address in itertools.cycle(self.turns):
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            host, port = address.split(":")
            server = socket.create_connection((host, int(port)))
            self.turns[address] += 1
            self.servers.append(server)
            for pair in ((client, server), (server, client)):
                threading.Thread(target=pump, args=pair, daemon=True).start()

    def cut(self):
        """Takes no more connections, and ends those that there are."""
        self.listener.close()
        for server in self.servers:
            end(server)


def end(connection):
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


def pump(source, target):
    try:
        while some := source.recv(65536):
            target.sendall(some)
    except OSError:
        pass
    end(source)
    end(target)


class LoadBalanced(unittest.TestCase):
    def setUp(self):
        self.balancer = Balancer()
        self.addCleanup(self.balancer.listener.close)
        password = place.password("shop")
        uri = f"mongodb://shop:{password}@127.0.0.1:{self.balancer.port}/?loadBalanced=true"
        self.client = MongoClient(uri)
        self.addCleanup(self.client.close)
        self.things = self.client[place.DATABASE][self.id().rsplit(".", 1)[1]]
        self.things.insert_many({"_id": n} for n in range(100))
        self.server = place.upstream()
        self.addCleanup(self.server.close)

    def open_upstream(self):
        """Open cursors of the collection, and open transactions."""
        looks = (
            {"type": "idleCursor", "ns": self.things.full_name},
            {"type": "idleSession", "transaction": {"$exists": True}},
        )
        current = {"$currentOp": {"allUsers": True, "idleCursors": True, "idleSessions": True}}
        return tuple(len(list(self.server.admin.aggregate([current, {"$match": look}]))) for look in looks)

    def test_cursors_and_transactions_stay_with_their_connection(self):
        self.assertEqual(self.client.topology_description.topology_type_name, "LoadBalanced")
        cursors = [self.things.find(batch_size=7) for _ in range(6)]
        for cursor in cursors:
            next(cursor)
        self.assertTrue(all(self.balancer.turns.values()), self.balancer.turns)
        self.assertEqual(self.open_upstream(), (6, 0))
        for cursor in cursors:
            self.assertEqual(len(list(cursor)), 99)
        for n in range(6):
            with self.client.start_session() as session:

                def work(session, n=n):
                    for _ in range(3):
                        self.things.update_one({"_id": n}, {"$inc": {"x": 1}}, session=session)

                session.with_transaction(work)
        self.assertEqual(self.things.count_documents({"x": 3}), 6)
        with self.things.watch() as stream:
            self.things.insert_one({"_id": "new"})
            self.assertEqual(next(stream)["documentKey"], {"_id": "new"})

    def test_nothing_is_left_open_when_the_client_goes(self):
        cursors = [self.things.find(batch_size=7) for _ in range(4)]
        for cursor in cursors:
            next(cursor)
        session = self.client.start_session()
        session.start_transaction()
        self.things.insert_one({"_id": "held"}, session=session)
        self.assertEqual(self.open_upstream(), (4, 1))
        # As when the process of the client ends: no word to the server.
        self.balancer.cut()
        until = time.monotonic() + 30
        while self.open_upstream() != (0, 0) and time.monotonic() < until:
            time.sleep(0.1)
        self.assertEqual(self.open_upstream(), (0, 0))
