"""Runs one application three times at once, and compares what the runs tell.

    compare.py COMPRESSORS COMMAND ...

Directly on the replica set, as the app `shop` through the proxy with compression, and as the app `notes`
through the proxy's listener with TLS. The two apps work in one database, on the same collections. Every
line of a telling is a step, a tab and JSON; all three must tell the same, and then what is stored must be
two apps' documents, as many of each as the direct run left. That the compressed run was compressed is
seen on the way to the proxy.
"""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import place
from tap import Tap

# Of one length, so that nothing differs but the name.
DIRECT, PROXIED = "apps_direct", "apps_shared"
TIMEOUT_SECONDS = 240


def runs(compressors, proxy):
    """`{name: (connection string, database, prefix of _id)}`"""
    certificates = os.environ["DRIVERS_CA"]
    tls = f"localhost:{os.environ['DRIVERS_TLS_PORT']}/?tls=true&tlsCAFile={certificates}"
    return {
        "direct": (f"{place.UPSTREAM_URI}&compressors={compressors}", DIRECT, "own-0"),
        "shop": (f"mongodb://shop:{place.password('shop')}@{proxy}/?compressors={compressors}", PROXIED, "own-1"),
        "notes": (f"mongodb://notes:{place.password('notes')}@{tls}", PROXIED, "own-2"),
    }


def telling(command, uri, database, prefix):
    """`(exit code, {step: JSON}, what it complained of)`"""
    environment = {**os.environ, "APP_URI": uri, "APP_DATABASE": database, "APP_PREFIX": prefix}
    environment["APP_CA"] = os.environ["DRIVERS_CA"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_SECONDS)
    lines = [line.split("\t", 1) for line in done.stdout.splitlines() if "\t" in line]
    told = {step: text.replace(database, "<db>").replace(prefix, "<own>") for step, text in lines}
    return done.returncode, told, done.stderr


def differences(tellings):
    failed = [f"{name} ended with {code}: {said[-3000:]}" for name, (code, _, said) in tellings.items() if code]
    _, expected, _ = tellings["direct"]
    if not expected:
        failed.append("direct told nothing")
    for name, (_, told, _) in tellings.items():
        for step in [*expected, *(set(told) - set(expected))]:
            if told.get(step) != expected.get(step):
                failed.append(f"{step}: direct {expected.get(step)}\n    {name} {told.get(step)}")
    return failed


def misplaced(server):
    """Collections that hold something else than two apps' documents, as many of each as the direct run left."""
    for name in server[DIRECT].list_collection_names():
        count = server[DIRECT][name].count_documents({})
        stored = server[PROXIED][name]
        owned = {app: stored.count_documents({"app_id": app}) for app in ("shop", "notes")}
        if set(owned.values()) != {count} or stored.count_documents({}) != 2 * count:
            yield f"{name}: {count} documents directly, stored for the apps {owned} of {stored.count_documents({})}"


def main():
    compressors, *command = sys.argv[1:]
    with Tap(place.PROXY) as tap, ThreadPoolExecutor() as pool:
        started = {name: pool.submit(telling, command, *run) for name, run in runs(compressors, tap.address).items()}
        tellings = {name: run.result() for name, run in started.items()}
    failed = differences(tellings)
    if "OP_COMPRESSED" not in tap.seen:
        failed.append(f"nothing was compressed: {dict(tap.seen)}")
    with place.upstream() as server:
        failed += misplaced(server)
    for problem in failed:
        print(problem)
    print(f"sent by the app shop: {', '.join(f'{count} {name}' for name, count in sorted(tap.seen.items()))}")
    print(f"steps: {', '.join(tellings['direct'][1])}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
