"""Makes a replica set of members that run, with an administrator and the user the proxy logs in as.

    prepare.py SET_NAME PORT ...        passwords in ADMINISTRATOR_PASSWORD and PROXY_PASSWORD
"""

import json
import os
import sys
import time
from pathlib import Path

from pymongo import MongoClient
from pymongo.errors import PyMongoError

TIMEOUT_SECONDS = 90

# The documented role of the proxy's user.
ROLE = Path(__file__).resolve().parents[3] / "crates" / "runtime" / "upstream-role.json"


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
    password = os.environ["ADMINISTRATOR_PASSWORD"]
    clients[0].admin.command("createUser", "administrator", pwd=password, roles=["root"])
    uri = f"mongodb://administrator:{password}@{','.join(addresses)}/"
    upstream = MongoClient(uri, replicaSet=set_name, authSource="admin")
    role = json.loads(ROLE.read_text())
    name = role.pop("role")
    upstream.admin.command("createRole", name, **role)
    # All members: reads from secondaries log in there at once.
    everywhere = {"w": len(ports)}
    password = os.environ["PROXY_PASSWORD"]
    upstream.admin.command(
        "createUser", "mdb-runtime", pwd=password, roles=[name], writeConcern=everywhere
    )
    until("all members", lambda: len(upstream.nodes) == len(ports))


if __name__ == "__main__":
    main()
