"""Attacks that try to change, remove or take over: `(name, database, command)`."""

import uuid

from bson import Int64
from place import DATABASE

from .world import PEOPLE, SYMBOL_OWNER, VAULT, VICTIM, twice

OWNED = {"app_id": VICTIM}
TAKEN = "victim-1"


def inserts():
    rows = {
        "foreign owner": {"_id": 1, "app_id": VICTIM},
        "owner first": {"app_id": VICTIM, "_id": 1},
        "two owners": twice("app_id", "shop", VICTIM, ("_id", 1)),
        "two foreign owners": twice("app_id", VICTIM, VICTIM, ("_id", 1)),
        "array owner": {"_id": 1, "app_id": ["shop", VICTIM]},
        "null owner": {"_id": 1, "app_id": None},
        "object owner": {"_id": 1, "app_id": {"$literal": VICTIM}},
        "symbol owner": SYMBOL_OWNER,
        "taken id": {"_id": TAKEN, "secret": "gone"},
        "two ids": twice("_id", "own", TAKEN),
    }
    for name, document in rows.items():
        yield f"insert {name}", DATABASE, {"insert": VAULT, "documents": [document]}
    document = {"_id": 1, "app_id": VICTIM}
    yield "insert second of two", DATABASE, {"insert": VAULT, "documents": [{"_id": "own-1"}, document]}
    yield "insert without validation", DATABASE, {
        "insert": VAULT, "documents": [document], "bypassDocumentValidation": True
    }
    for name in ("system.js", "system.views", "system.users", "system.indexes", "system.buckets.vault"):
        yield f"insert into {name}", DATABASE, {"insert": name, "documents": [{"_id": "x", "viewOn": VAULT}]}
    yield "bulkWrite", "admin", {
        "bulkWrite": 1, "ops": [{"delete": 0, "filter": {}, "multi": True}], "nsInfo": [{"ns": f"{DATABASE}.{VAULT}"}]
    }


UPDATES = {
    "set owner": {"$set": {"app_id": VICTIM}},
    "unset owner": {"$unset": {"app_id": 1}},
    "rename owner": {"$rename": {"app_id": "x"}},
    "rename to owner": {"$rename": {"k": "app_id"}},
    "max owner": {"$max": {"app_id": "zzz"}},
    "min owner": {"$min": {"app_id": "a"}},
    "inc owner": {"$inc": {"app_id": 1}},
    "push owner": {"$push": {"app_id": VICTIM}},
    "date owner": {"$currentDate": {"app_id": True}},
    "set on insert": {"$setOnInsert": {"app_id": VICTIM}},
    "dotted owner": {"$set": {"app_id.x": 1}},
    "positional owner": {"$set": {"app_id.$[]": VICTIM}},
    "positional owner with match": {"$set": {"app_id.$": VICTIM}},
    "leading positional": {"$set": {"$[].app_id": VICTIM}},
    "leading dollar": {"$set": {"$.app_id": VICTIM}},
    "empty component": {"$set": {".app_id": VICTIM}},
    "two sets": twice("$set", {"k": 1}, {"app_id": VICTIM}),
    "two in one set": {"$set": twice("app_id", "shop", VICTIM)},
    "oplog form": {"$v": 2, "diff": {"u": {"app_id": VICTIM}}},
    "replacement": {"app_id": VICTIM, "x": 1},
    "replacement without owner": {"x": 1},
    "empty replacement": {},
    "two owners": twice("app_id", "shop", VICTIM),
    "pipeline set": [{"$set": {"app_id": VICTIM}}],
    "pipeline unset": [{"$unset": "app_id"}],
    "pipeline project": [{"$project": {"k": 1}}],
    "pipeline project away": [{"$project": {"app_id": 0}}],
    "pipeline replaceWith": [{"$replaceWith": {"_id": "$_id", "app_id": VICTIM}}],
    "pipeline replaceRoot": [{"$replaceRoot": {"newRoot": {"_id": "$_id"}}}],
    "pipeline literal": [{"$replaceWith": {"$literal": {"app_id": VICTIM}}}],
    "pipeline setField": [{"$replaceWith": {"$setField": {"field": "app_id", "input": "$$ROOT", "value": VICTIM}}}],
    "pipeline object": [{"$replaceWith": {"$arrayToObject": [[["_id", "$_id"], ["app_id", VICTIM]]]}}],
    "pipeline lookup": [{"$lookup": {"from": VAULT, "pipeline": [], "as": "stolen"}}],
    "pipeline union": [{"$unionWith": VAULT}],
    "pipeline internal": [{"$_internalApplyOplogUpdate": {"oplogUpdate": {"$v": 2, "diff": {"u": {"app_id": VICTIM}}}}}],
}

QUERIES = {
    "everything": {},
    "foreign": OWNED,
    "taken id": {"_id": TAKEN},
    "or": {"$or": [OWNED, {"k": 1}]},
    "where": {"$where": "true"},
    "expression": {"$expr": {"$eq": ["$app_id", VICTIM]}},
    "two owners": twice("app_id", "shop", VICTIM),
    "not mine": {"app_id": {"$ne": "shop"}},
    "exists": {"app_id": {"$exists": True}},
}


def updates():
    for name, update in UPDATES.items():
        multi = isinstance(update, list) or any(key.startswith("$") for key in update)
        for upsert in (False, True):
            query = {"_id": "new"} if upsert else {"tags": 1}
            statement = {"q": query, "u": update, "multi": multi and not upsert, "upsert": upsert}
            yield f"update {name}, upsert {upsert}", DATABASE, {"update": VAULT, "updates": [statement]}
        modify = {"findAndModify": VAULT, "query": {"k": 1}, "update": update, "new": True}
        yield f"findAndModify {name}", DATABASE, modify
    for name, query in QUERIES.items():
        statement = {"q": query, "u": {"$set": {"secret": "gone"}}, "multi": True}
        yield f"update where {name}", DATABASE, {"update": VAULT, "updates": [statement]}
        statement = {"q": query, "u": {"$set": {"secret": "gone"}}, "upsert": True}
        yield f"upsert where {name}", DATABASE, {"update": VAULT, "updates": [statement]}
        yield f"delete where {name}", DATABASE, {"delete": VAULT, "deletes": [{"q": query, "limit": 0}]}
        modify = {"findAndModify": VAULT, "query": query, "update": {"$set": {"x": 1}}, "new": True}
        yield f"modify where {name}", DATABASE, modify
        yield f"remove where {name}", DATABASE, {"findAndModify": VAULT, "query": query, "remove": True}
    yield "findAndModify null", DATABASE, {"findAndModify": VAULT, "query": None, "remove": True, "sort": {"_id": -1}}
    yield "findAndModify alias", DATABASE, {"findandmodify": VAULT, "remove": True, "sort": {"_id": -1}}
    yield "findAndModify fields", DATABASE, {
        "findAndModify": VAULT, "query": {}, "update": {"$inc": {"k": 0}}, "fields": {"app_id": 1}
    }
    replace = {"q": {"_id": TAKEN}, "u": {"_id": TAKEN, "secret": "gone"}, "upsert": True}
    yield "upsert taken id", DATABASE, {"update": VAULT, "updates": [replace]}
    arrays = {"q": {}, "u": {"$set": {"app_id.$[e]": 1}}, "arrayFilters": [{"e": VICTIM}], "multi": True}
    yield "array filter", DATABASE, {"update": VAULT, "updates": [arrays]}
    constants = {"q": {}, "u": [{"$set": {"app_id": "$$who"}}], "c": {"who": VICTIM}, "multi": True}
    yield "constants", DATABASE, {"update": VAULT, "updates": [constants]}
    for option in ({"fromOplogV2": True}, {"$_hidden": 1}, {"collectionUUID": uuid.UUID(int=1).bytes}):
        yield f"option {next(iter(option))}", DATABASE, {
            "update": VAULT, "updates": [{"q": {}, "u": {"$set": {"x": 1}}, **option}]
        }
    yield "two queries", DATABASE, {"delete": VAULT, "deletes": [twice("q", {"k": 5000}, {}, ("limit", 0))]}
    yield "no limit", DATABASE, {"delete": VAULT, "deletes": [{"q": {}}]}


def definitions():
    on_vault = {
        "collMod": [{"validator": {"x": 1}}, {"validationLevel": "off"}, {"viewOn": PEOPLE, "pipeline": []},
                    {"index": {"name": "app_id_1", "hidden": True}}, {"index": {"keyPattern": {"k": 1}, "hidden": True}},
                    {"changeStreamPreAndPostImages": {"enabled": False}}, {"expireAfterSeconds": 1}],
        "dropIndexes": [{"index": "*"}, {"index": "app_id_1"}, {"index": "k_1"}, {"index": f"{VICTIM}.k_1"},
                        {"index": {"app_id": 1, "k": 1}}, {"index": ["app_id_1", "app_id_1__id_1"]}],
        "convertToCapped": [{"size": 1000}],
        "cloneCollectionAsCapped": [{"toCollection": "vault_clone", "size": 100000}],
        "compact": [{}],
        "reIndex": [{}],
        "validate": [{"full": True}],
        "create": [{"capped": True, "size": 1000}, {"validator": {"x": 1}}, {"collation": {"locale": "en", "strength": 1}}],
        "setIndexCommitQuorum": [{"indexNames": ["k_1"], "commitQuorum": 1}],
        "drop": [{}],
        "planCacheClear": [{}],
        "planCacheListFilters": [{}],
        "autoSplitVector": [{"keyPattern": {"_id": 1}, "min": {"_id": 1}, "max": {"_id": 2}, "maxChunkSizeBytes": 1}],
    }
    for command, options in on_vault.items():
        for option in options:
            yield f"{command} {list(option.items())[:1]}", DATABASE, {command: VAULT, **option}
    keys = [
        ({"app_id": 1}, {}), ({"k": 1, "app_id": 1}, {}), ({"k": 1}, {"name": "app_id_1"}),
        ({"k": 1}, {"name": f"{VICTIM}.k_1"}), ({"secret": 1}, {"unique": True}), ({"tags": 1, "k": 1}, {}),
        ({"k": "2dsphere"}, {}), ({"$**": "text"}, {}), ({"$**": 1}, {}), ({"k": 1}, {"expireAfterSeconds": 0}),
        ({"k": 1}, {"partialFilterExpression": {"app_id": VICTIM}}), ({"k": 1}, {"unique": True, "collation": {"locale": "en", "strength": 1}}),
    ]
    for key, options in keys:
        spec = {"key": key, "name": "attack", **options}
        yield f"createIndexes {key} {options}", DATABASE, {"createIndexes": VAULT, "indexes": [spec]}
    yield "drop own indexes", DATABASE, {"dropIndexes": VAULT, "index": "*"}
    yield "view of everything", DATABASE, {"create": "vault_view", "viewOn": VAULT, "pipeline": []}
    yield "read the view", DATABASE, {"find": "vault_view"}
    yield "view of a private one", DATABASE, {"create": "vault_peek", "viewOn": "vault_private", "pipeline": []}
    yield "read the peek", DATABASE, {"find": "vault_peek"}
    for target in (f"{DATABASE}.vault_moved", "mdb_runtime.moved", "elsewhere.moved"):
        for drop in (False, True):
            rename = {"renameCollection": f"{DATABASE}.{VAULT}", "to": target, "dropTarget": drop}
            yield f"rename to {target} {drop}", "admin", rename
    yield "rename over", "admin", {"renameCollection": f"{DATABASE}.{PEOPLE}", "to": f"{DATABASE}.{VAULT}", "dropTarget": True}
    yield "drop private", DATABASE, {"drop": "vault_private"}
    yield "drop views", DATABASE, {"drop": "system.views"}
    yield "splitVector", "admin", {"splitVector": f"{DATABASE}.{VAULT}", "keyPattern": {"_id": 1}, "maxChunkSizeBytes": 1024}
    operations = [{"op": "d", "ns": f"{DATABASE}.{VAULT}", "o": {"_id": TAKEN}}]
    yield "applyOps", "admin", {"applyOps": operations}
    yield "applyOps here", DATABASE, {"applyOps": operations}
    yield "doTxn", "admin", {"doTxn": operations}
    yield "dropDatabase", DATABASE, {"dropDatabase": 1}


def sessions():
    mine = {"id": uuid.uuid4().bytes}
    find = {"find": VAULT}
    for name, lsid in {
        "uid": {**mine, "uid": b"0" * 32},
        "transaction": {**mine, "txnNumber": Int64(1), "txnUUID": uuid.uuid4().bytes},
        "statement": {**mine, "stmtId": 1},
        "text": {"id": "x"},
        "twice": twice("id", mine["id"], uuid.uuid4().bytes),
    }.items():
        yield f"lsid {name}", DATABASE, {**find, "lsid": lsid}
    for name in ("killSessions", "endSessions", "refreshSessions", "killAllSessions"):
        yield f"{name} none", "admin", {name: []}
    yield "kill by user", "admin", {"killAllSessions": [{"user": "proxy", "db": "admin"}]}
    yield "kill by pattern", "admin", {"killAllSessionsByPattern": [{"lsid": {"id": uuid.UUID(int=1).bytes}}]}
    yield "prepare", "admin", {"prepareTransaction": 1}
    yield "coordinate", "admin", {"coordinateCommitTransaction": 1, "participants": []}


SERVER_COMMANDS = """
currentOp killOp serverStatus getParameter setParameter getLog getCmdLineOpts hostInfo top profile fsync fsyncUnlock
shutdown replSetGetStatus replSetGetConfig replSetStepDown replSetReconfig replSetInitiate replSetFreeze logRotate
connPoolStats lockInfo dbHash usersInfo rolesInfo createUser updateUser dropUser dropAllUsersFromDatabase
grantRolesToUser revokeRolesFromUser createRole dropRole invalidateUserCache listCommands features eval copydb clone
filemd5 getShardMap getShardVersion setShardVersion shardingState enableSharding addShard moveChunk moveCollection
configureFailPoint setFeatureCompatibilityVersion setDefaultRWConcern getDefaultRWConcern setUserWriteBlockMode
dropConnections setClusterParameter getClusterParameter getDiagnosticData startRecordingTraffic oidcListKeys
_configsvrAddShard _shardsvrDropCollection _recvChunkStart _isSelf _mergeAuthzCollections internalRenameIfOptionsAndIndexesMatch
clusterFind clusterAggregate clusterUpdate donorStartMigration recipientSyncData analyze setQuerySettings replSetHeartbeat
replSetRequestVotes appendOplogNote waitForFailPoint sleep godinsert captrunc setAuditConfig rotateCertificates
logout authenticate getnonce saslStart FIND $eval Find
""".split()


def administration():
    specific = {
        "killOp": {"op": 1}, "profile": {"slowms": 0}, "currentOp": {"$all": True}, "getParameter": {"allParameters": True},
        "setParameter": {"logLevel": 0}, "createUser": {"pwd": "x", "roles": ["root"]}, "updateUser": {"pwd": "x"},
        "fsync": {"lock": True}, "usersInfo": {"showCredentials": True}, "replSetStepDown": {"force": True},
    }
    first = {"createUser": "attack", "updateUser": "proxy", "dropUser": "proxy", "getLog": "global", "profile": 2,
             "filemd5": "victim-1", "getParameter": "*", "clusterFind": VAULT, "FIND": VAULT, "Find": VAULT,
             "usersInfo": {"forAllDBs": True}, "currentOp": True}
    for command in SERVER_COMMANDS:
        # It would end the attacker's own log-in, as it should.
        if command in ("logout", "saslStart"):
            continue
        body = {command: first.get(command, 1), **specific.get(command, {})}
        for database in ("admin", DATABASE):
            yield f"{command} on {database}", database, body


def everything():
    for source in (inserts, updates, definitions, sessions, administration):
        yield from source()
