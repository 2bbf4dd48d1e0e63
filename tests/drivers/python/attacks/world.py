"""The two apps of the attacks: what belongs to the victim, and how a trace of it is recognised."""

import secrets

import bson
from bson import Int64

import place
import raw
from place import DATABASE, client

VICTIM, ATTACKER = "notes", "shop"
VAULT, PEOPLE = "vault", "vault_people"

# Numbers that occur nowhere else, so that a count that includes the victim's documents is seen.
VICTIMS_DOCUMENTS, ATTACKERS_DOCUMENTS = 977, 13

# Owners that a collation takes for the attacker; such documents are written past the proxy.
LOOK_ALIKES = ["SHOP", "shóp", "sh-op", "sh\u200bop", "shop "]


class World:
    """Both apps' documents, the same before each attack."""

    def __init__(self):
        self.mark = "TRACE-" + secrets.token_hex(8)
        self.server = place.upstream()
        self.victim = client(VICTIM)
        self.attacker = client(ATTACKER)
        self.mine = self.attacker[DATABASE]
        theirs = self.victim[DATABASE]
        for name in (VAULT, PEOPLE, "vault_private"):
            self.server[DATABASE][name].delete_many({})
        theirs[VAULT].insert_many(
            {"_id": f"victim-{i}", "k": i, "secret": self.mark, "tags": [1, {"t": self.mark}]}
            for i in range(VICTIMS_DOCUMENTS)
        )
        theirs[PEOPLE].insert_many({"_id": f"victim-p{i}", "k": i, "secret": self.mark} for i in range(5))
        theirs[VAULT].create_index("k")
        theirs["vault_private"].insert_one({"_id": "victim-only", "secret": self.mark})
        self.fill()
        self.server[DATABASE][VAULT].insert_many(
            {"_id": f"victim-like-{owner}", "app_id": owner, "k": 1, "secret": self.mark}
            for owner in LOOK_ALIKES
        )
        self.before = self.snapshot()

    def close(self):
        for client in (self.server, self.victim, self.attacker):
            client.close()

    def fill(self):
        """The attacker's own documents, as they were, and no rules of its own for them."""
        for name in (VAULT, PEOPLE):
            self.mine.command({"collMod": name, "validator": {}}, check=False)
            self.mine[name].delete_many({})
            self.mine[name].insert_many(
                {"_id": f"own-{name}-{i}", "k": i, "tags": [1, {"t": 1}]} for i in range(ATTACKERS_DOCUMENTS)
            )

    def snapshot(self):
        """Every byte that is not the attacker's, the victim's indexes and its collections."""
        documents = {}
        for name in (VAULT, PEOPLE, "vault_private"):
            there = self.server[DATABASE].get_collection(name, codec_options=place.RAW)
            found = there.find({"app_id": {"$ne": ATTACKER}}).sort("_id")
            documents[name] = [document.raw for document in found]
        indexes = self.victim[DATABASE][VAULT].index_information()
        names = sorted(n for n in self.victim[DATABASE].list_collection_names() if n.startswith("vault"))
        stored = self.server[DATABASE].list_collections(filter={"name": VAULT})
        seen = self.victim[DATABASE].list_collections(filter={"name": VAULT})
        options = [of_others(c["options"]) for c in stored], [c["options"] for c in seen]
        return documents, indexes, names, options

    def owners(self):
        """Documents by owner, of everything that is stored."""
        counted = {}
        for database, collection in place.shared_collections(self.server):
            for row in self.server[database][collection].aggregate([{"$sortByCount": "$app_id"}]):
                key = repr(row["_id"])
                counted[key] = counted.get(key, 0) + row["count"]
        return counted

    def problems(self, reply, command=None):
        """What in a reply, or in what is stored now, must not be."""
        found = list(self.traces(reply, command))
        after = self.snapshot()
        for before, now, what in zip(self.before, after, ("documents", "indexes", "collections", "options")):
            if before != now:
                found.append(f"the victim's {what} changed")
                self.before = after
        allowed = {repr(owner) for owner in (*place.APPS, *LOOK_ALIKES)}
        strangers = {k: v for k, v in self.owners().items() if k not in allowed}
        if strangers:
            found.append(f"documents without a known owner: {strangers}")
        return found

    def traces(self, reply, command=None):
        text, asked = repr(reply), repr(command)
        for word in (self.mark, "victim-", "vault_private", "oplog", f"'{VICTIM}'", f'"{VICTIM}"'):
            # An error may repeat what was asked.
            if word in text and word.strip("'\"") not in asked:
                yield f"the reply contains {word}"
        forbidden = {VICTIMS_DOCUMENTS, VICTIMS_DOCUMENTS + ATTACKERS_DOCUMENTS}
        forbidden |= {number + len(LOOK_ALIKES) for number in forbidden}
        for number in numbers(reply):
            if number in forbidden or number == ATTACKERS_DOCUMENTS + len(LOOK_ALIKES):
                yield f"the reply counts foreign documents: {number}"

    def run(self, database, command):
        """The whole reply, later batches included."""
        there = self.attacker[database]
        reply = there.command(command, check=False)
        batches = [reply]
        cursor = reply.get("cursor", {})
        while isinstance(cursor, dict) and cursor.get("id") and len(batches) < 30:
            name = cursor["ns"].split(".", 1)[1]
            batches.append(there.command({"getMore": Int64(cursor["id"]), "collection": name}, check=False))
            cursor = batches[-1].get("cursor", {})
        return batches


def of_others(options):
    """The options of a shared collection without the attacker's own rules for its own documents."""
    rules = options.get("validator", {}).get("$and", [])
    own = {"app_id": {"$ne": ATTACKER}}
    others = [rule for rule in rules if rule.get("$or", [None])[0] != own]
    of_rules = ("validator", "validationLevel", "validationAction")
    rest = {name: value for name, value in options.items() if name not in of_rules}
    is_mine = rules and options["validator"] == {"$and": rules} and not others
    is_none = not options.get("validator") and options.get("validationLevel", "strict") == "strict"
    return rest if is_mine or is_none else {**options, "others": others}


def numbers(value):
    """Every number in a reply, at any depth, but for those of the time."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name not in ("$clusterTime", "operationTime"):
                yield from numbers(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from numbers(inner)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield value


def twice(name, first, second, *rest):
    """A document with the same name twice."""
    return raw.pairs((name, first), (name, second), *rest)


SYMBOL_OWNER = bson.raw_bson.RawBSONDocument(
    # {_id: "symbol", app_id: Symbol("notes")}, a type that no driver writes any more.
    (39).to_bytes(4, "little")
    + b"\x02_id\x00\x07\x00\x00\x00symbol\x00"
    + b"\x0eapp_id\x00\x06\x00\x00\x00notes\x00\x00"
)
