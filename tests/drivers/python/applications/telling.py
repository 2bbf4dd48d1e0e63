"""How an application tells what it did: a line per step, the step's name, a tab, JSON."""

import os

from bson import json_util

URI = os.environ["APP_URI"]
DATABASE = os.environ["APP_DATABASE"]
# What this application puts in front of its `_id`s, which are unique over all apps of a collection.
PREFIX = os.environ["APP_PREFIX"]

CONTENT = bytes(range(256)) * 2400


def own(name):
    return f"{PREFIX}-{name}"


def tell(step, outcome):
    print(f"{step}\t{json_util.dumps(outcome, sort_keys=True)}", flush=True)


def error(failure):
    """What drivers act on in a server's error."""
    details = failure.details or {}
    errors = [[one["index"], one["code"], one["errmsg"]] for one in details.get("writeErrors", [])]
    return {"code": failure.code, "message": errors or details.get("errmsg"), "labels": details.get("errorLabels", [])}
