"""Runs PyMongo's own tests twice and compares, test by test: what passes directly has to pass through the proxy.

    run.py TESTS_DIRECTORY [-k PATTERN]

Directly means: against a replica set of its own, as a user that may do with every database what an app may do with its
own, and look at what the suite asks for when it starts. Differences that are known, with their reasons: known.txt.
"""

import argparse
import collections
import os
import secrets
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from bed import deployment, process  # noqa: E402
from pymongo import MongoClient  # noqa: E402

import outcomes  # noqa: E402

# A test that waits longer waits for something that does not come. Inserts of 100,000 documents take a minute on a busy
# machine.
TEST_TIMEOUT_SECONDS = 240

# What the suite needs beside the data: it looks for its user, and reads parameters and states of the server.
ROLE_OF_SUITE = {
    "privileges": [{"resource": {"db": "admin", "collection": ""}, "actions": ["viewUser"]}],
    "roles": ["readWriteAnyDatabase", "dbAdminAnyDatabase", "clusterMonitor"],
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tests", type=Path)
    parser.add_argument("-k", metavar="PATTERN")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mdb-own-") as place:
        place = Path(place)
        (place / "direct").mkdir()
        with deployment.ReplicaSet(place / "direct", 1, sys.executable) as direct:
            direct_user = make_user(direct)
            address, port = os.environ["DRIVERS_PROXY"].rsplit(":", 1)
            runs = {
                "direct": start(arguments, place, "direct", "127.0.0.1", direct.ports[0], direct_user),
                "proxied": start(arguments, place, "proxied", address, port, ("notes", os.environ["NOTES_PASSWORD"])),
            }
            for run in runs.values():
                run.wait()
        sys.exit(compare(*(outcomes.read(place / f"{name}.xml") for name in runs), whole=not arguments.k))


def make_user(upstream):
    password = secrets.token_hex(8)
    with MongoClient(upstream.uri("administrator")) as client:
        client.admin.command("createRole", "suite", **ROLE_OF_SUITE)
        client.admin.command("createUser", "suite", pwd=password, roles=["suite"])
    return "suite", password


def start(arguments, place, name, address, port, user):
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-m", "default"]
    # The suite's own options would write its reports and logs into the tests' directory.
    command += ["-o", "addopts=", "-o", "log_cli_level=", "-o", "junit_family=xunit1"]
    command += ["--timeout", str(TEST_TIMEOUT_SECONDS), "--junitxml", str(place / f"{name}.xml")]
    command += ["-k", arguments.k] if arguments.k else []
    environment = {**os.environ, "DB_IP": address, "DB_PORT": str(port)}
    environment |= {"DB_USER": user[0], "DB_PASSWORD": user[1]}
    return process.start(command, place / f"{name}.log", cwd=arguments.tests, env=environment)


def compare(direct, proxied, whole):
    """Prints the comparison; whether something is new."""
    for name, run in (("directly", direct), ("through the proxy", proxied)):
        counts = collections.Counter(outcome for outcome, _ in run.values())
        print(f"{name}: " + ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items())))
    known = outcomes.Known((HERE / "known.txt").read_text())
    by_reason, new = collections.Counter(), []
    for test, said in outcomes.differences(direct, proxied):
        reason = known.reason_of(test)
        if reason is None:
            new.append((test, said))
        else:
            by_reason[reason] += 1
    for reason, count in by_reason.most_common():
        print(f"known, {count:4}: {reason}")
    skipped = skips(direct, proxied)
    for reason, count in skipped.most_common(12):
        print(f"skipped through the proxy only, {count:4}: {reason}")
    if whole:
        for pattern in known.unused():
            print(f"no longer differs, remove it: {pattern}")
    for test, said in new:
        print(f"NEW {test}\n    {said}")
    ran = any(outcome == "passed" for outcome, _ in proxied.values())
    if not ran:
        print("nothing passed through the proxy")
    return bool(new) or not ran


def skips(direct, proxied):
    return collections.Counter(
        proxied[test][1]
        for test, (outcome, _) in direct.items()
        if outcome == "passed" and proxied.get(test, ("",))[0] == "skipped"
    )


if __name__ == "__main__":
    main()
