"""A replica set with authentication on free ports of 127.0.0.1."""

import json
import os
import secrets
import subprocess
import threading
from pathlib import Path

from . import process, tools

SET_NAME = "rs0"

# A killed member comes back after this time, well after the others have elected a new primary.
RESTART_AFTER_SECONDS = 20

PREPARE = Path(__file__).resolve().parents[1] / "python" / "prepare.py"


class ReplicaSet:
    """Runs while it is entered. Members that die are started again, see `RESTART_AFTER_SECONDS`."""

    def __init__(self, directory, members, python):
        self.directory = directory
        self.ports = [process.free_port() for _ in range(members)]
        self.python = python
        self.passwords = {name: secrets.token_hex(8) for name in ("administrator", "mdb-runtime")}
        self.members = {}
        self.ending = threading.Event()
        self.watcher = threading.Thread(target=self.watch)
        self.state = directory / "members.json"

    def uri(self, user):
        """`administrator` is for the suites' own looks, `mdb-runtime` for the proxy."""
        addresses = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        options = f"replicaSet={SET_NAME}&authSource=admin"
        return f"mongodb://{user}:{self.passwords[user]}@{addresses}/?{options}"

    def __enter__(self):
        key = self.directory / "key"
        key.write_text(secrets.token_hex(32))
        key.chmod(0o600)
        try:
            for port in self.ports:
                self.launch(port)
            self.prepare()
        except BaseException:
            self.stop()
            raise
        self.watcher.start()
        return self

    def __exit__(self, *_):
        self.ending.set()
        self.watcher.join()
        self.stop()

    def launch(self, port):
        home = self.directory / f"member-{port}"
        home.mkdir(exist_ok=True)
        command = [tools.mongod(), "--replSet", SET_NAME, "--bind_ip", "127.0.0.1"]
        command += ["--port", str(port), "--dbpath", str(home), "--auth"]
        command += ["--keyFile", str(self.directory / "key"), "--wiredTigerCacheSizeGB", "0.5"]
        command += ["--setParameter", "diagnosticDataCollectionEnabled=false"]
        log = self.directory / f"mongod-{port}.log"
        self.members[port] = process.start(command, log, env=tools.mongod_environment())
        self.publish()

    def prepare(self):
        command = [self.python, str(PREPARE), SET_NAME, *map(str, self.ports)]
        environment = {
            **os.environ,
            "ADMINISTRATOR_PASSWORD": self.passwords["administrator"],
            "PROXY_PASSWORD": self.passwords["mdb-runtime"],
        }
        done = subprocess.run(command, env=environment, text=True, stderr=subprocess.PIPE)
        if done.returncode:
            raise tools.Broken(f"prepare the replica set: {done.stderr.strip()[-500:]}")

    def publish(self):
        """Tells the suites which process is which member, as `{port: pid}`."""
        pids = {str(port): member.pid for port, member in self.members.items()}
        new = self.state.with_suffix(".new")
        new.write_text(json.dumps(pids))
        new.rename(self.state)

    def watch(self):
        while not self.ending.wait(0.5):
            for port, member in list(self.members.items()):
                if member.poll() is not None:
                    self.ending.wait(RESTART_AFTER_SECONDS)
                    self.launch(port)

    def stop(self):
        # What they hold is thrown away, so nothing is gained by an orderly end.
        for member in self.members.values():
            member.kill()
            member.wait()

    def environment(self):
        return {"DRIVERS_UPSTREAM_URI": self.uri("administrator"), "DRIVERS_MEMBERS": str(self.state)}

    def complaints(self):
        """An app must not be able to stop the server: what mongod says when it gives up."""
        found = []
        for log in self.directory.glob("mongod-*.log"):
            text = log.read_text(errors="replace")
            found += [f"{log.name}: {word}" for word in ("Invariant failure", "Fatal assertion") if word in text]
        return found
