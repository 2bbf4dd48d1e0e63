"""Makes a replica set of members that run, with the user the proxy logs in as.

    prepare.py SET_NAME PORT ...        password of the user in UPSTREAM_PASSWORD
"""

import os
import sys
import time

from pymongo import MongoClient
from pymongo.errors import PyMongoError

TIMEOUT_SECONDS = 90


def until(what, condition):
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while True:
        try:
            if condition():
                return
            reason = "not yet"
        except PyMongoError as error:
            reason = error
        if time.monotonic() > deadline:
            sys.exit(f"{what}: {reason}")
        time.sleep(0.1)


def main():
    set_name, ports = sys.argv[1], [int(port) for port in sys.argv[2:]]
    addresses = [f"127.0.0.1:{port}" for port in ports]
    clients = [MongoClient(address, directConnection=True) for address in addresses]
    for client in clients:
        until("a member answers", lambda: client.admin.command("ping"))
    members = [{"_id": index, "host": address} for index, address in enumerate(addresses)]
    # The first is preferred at the first election only.
    clients[0].admin.command("replSetInitiate", {"_id": set_name, "members": members})
    until("a primary", lambda: clients[0].admin.command("hello")["isWritablePrimary"])
    # `root` on purpose: nothing but the proxy then stands between one app and another's documents.
    clients[0].admin.command(
        "createUser", "proxy", pwd=os.environ["UPSTREAM_PASSWORD"], roles=["root"]
    )
    uri = f"mongodb://proxy:{os.environ['UPSTREAM_PASSWORD']}@{','.join(addresses)}/"
    upstream = MongoClient(uri, replicaSet=set_name, authSource="admin")
    until("all members", lambda: len(upstream.nodes) == len(ports))


if __name__ == "__main__":
    main()
