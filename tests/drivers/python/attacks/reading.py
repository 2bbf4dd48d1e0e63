"""Attacks that try to see: `(name, database, command)`."""

from bson import Code
from bson.raw_bson import RawBSONDocument
from place import DATABASE

from .world import LOOK_ALIKES, PEOPLE, VAULT, VICTIM, twice

OWNED = {"app_id": VICTIM}
EVERYTHING = {"$or": [{"app_id": VICTIM}, {"_id": {"$exists": True}}]}


def finds():
    rows = {
        "all": {},
        "foreign owner": {"filter": OWNED},
        "or": {"filter": EVERYTHING},
        "nor": {"filter": {"$nor": [{"app_id": "shop"}]}},
        "not": {"filter": {"app_id": {"$not": {"$eq": "shop"}}}},
        "in": {"filter": {"app_id": {"$in": ["shop", VICTIM]}}},
        "regex": {"filter": {"app_id": {"$regex": "."}}},
        "second and": {"filter": {"$and": [OWNED, {"$and": [OWNED]}]}},
        "expression": {"filter": {"$expr": {"$eq": ["$app_id", VICTIM]}}},
        "root": {"filter": {"$expr": {"$eq": ["$$ROOT.app_id", VICTIM]}}},
        "current": {"filter": {"$expr": {"$let": {"vars": {"CURRENT": {"x": 1}}, "in": True}}}},
        "where": {"filter": {"$where": "true"}},
        "where in or": {"filter": {"$or": [{"$where": "return true"}, {"k": 1}]}},
        "function": {"filter": {"$expr": {"$function": {"body": "function(){return true}", "args": [], "lang": "js"}}}},
        "schema": {"filter": {"$jsonSchema": {"required": ["app_id"]}}},
        "always true": {"filter": {"$alwaysTrue": 1}},
        "internal": {"filter": {"$_internalExprEq": {"app_id": VICTIM}}},
        "project the owner": {"projection": {"app_id": 1}},
        "project an alias": {"projection": {"owner": "$app_id"}},
        "project the root": {"projection": {"all": "$$ROOT"}},
        "project nothing": {"projection": {"app_id": 0}},
        "return key": {"returnKey": True, "hint": "app_id_1__id_1"},
        "record ids": {"showRecordId": True},
        "bounds": {"min": {"app_id": VICTIM}, "max": {"app_id": "z"}, "hint": {"app_id": 1}},
        "own bounds": {"min": {"k": 0}, "max": {"k": 5000}, "hint": {"k": 1}},
        "foreign index": {"hint": f"{VICTIM}.k_1"},
        "base index": {"hint": "app_id_1"},
        "natural": {"hint": {"$natural": -1}, "sort": {"$natural": -1}},
        "sort by owner": {"sort": {"app_id": 1}},
        "by id": {"filter": {"_id": "victim-1"}},
        "by many ids": {"filter": {"_id": {"$in": [f"victim-{i}" for i in range(50)]}}},
        "let": {"filter": {"$expr": {"$eq": ["$app_id", "$$who"]}}, "let": {"who": VICTIM}},
        "tailable": {"tailable": True, "awaitData": True},
        "read once": {"readOnce": True},
        "resume token": {"$_requestResumeToken": True, "hint": {"$natural": 1}},
        "at cluster time": {"readConcern": {"level": "snapshot"}},
        "uuid option": {"collectionUUID": b"0123456789abcdef"},
        "raw data": {"rawData": True},
        "two filters": {"filter": twice("app_id", "shop", VICTIM)},
        "two ands": {"filter": twice("$and", [{"app_id": "shop"}], [OWNED])},
    }
    for name, rest in rows.items():
        yield f"find {name}", DATABASE, {"find": VAULT, "batchSize": 1000, **rest}
    collations = [
        {"locale": "en", "strength": 1},
        {"locale": "en", "strength": 2},
        {"locale": "en", "strength": 1, "alternate": "shifted"},
        {"locale": "en"},
        {"locale": "lt", "strength": 1},
        {"locale": "sv@collation=search", "strength": 1},
        {"locale": "en", "numericOrdering": True, "alternate": "shifted", "maxVariable": "space"},
    ]
    for number, collation in enumerate(collations):
        yield from collated(number, {"collation": collation})


def collated(number, option):
    name = f"collation {number}"
    pipeline = [{"$match": {"app_id": "shop"}}]
    yield f"{name} find", DATABASE, {"find": VAULT, "filter": {"k": 1}, **option}
    yield f"{name} count", DATABASE, {"count": VAULT, "query": {}, **option}
    yield f"{name} distinct", DATABASE, {"distinct": VAULT, "key": "secret", **option}
    yield f"{name} aggregate", DATABASE, {"aggregate": VAULT, "pipeline": pipeline, "cursor": {}, **option}
    join = {"from": VAULT, "localField": "k", "foreignField": "k", "as": "j"}
    yield f"{name} lookup", DATABASE, {"aggregate": VAULT, "pipeline": [{"$lookup": join}], "cursor": {}, **option}
    union = [{"$unionWith": VAULT}]
    yield f"{name} union", DATABASE, {"aggregate": PEOPLE, "pipeline": union, "cursor": {}, **option}
    update = {"q": {}, "u": {"$set": {"stolen": 1}}, "multi": True, **option}
    yield f"{name} update", DATABASE, {"update": VAULT, "updates": [update]}
    yield f"{name} delete", DATABASE, {"delete": VAULT, "deletes": [{"q": {"k": 1}, "limit": 0, **option}]}
    for owner in LOOK_ALIKES:
        query = {"_id": f"victim-like-{owner}"}
        modify = {"findAndModify": VAULT, "query": query, "remove": True, **option}
        yield f"{name} findAndModify {owner!r}", DATABASE, modify


def counts():
    yield "count without query", DATABASE, {"count": VAULT}
    yield "count null", DATABASE, {"count": VAULT, "query": None}
    yield "count foreign", DATABASE, {"count": VAULT, "query": OWNED}
    yield "count with hint", DATABASE, {"count": VAULT, "hint": "_id_"}
    yield "count where", DATABASE, {"count": VAULT, "query": {"$where": "true"}}
    yield "count fields", DATABASE, {"count": VAULT, "fields": {"app_id": 1}}
    yield "count private", DATABASE, {"count": "vault_private"}
    yield "distinct owner", DATABASE, {"distinct": VAULT, "key": "app_id"}
    yield "distinct dotted owner", DATABASE, {"distinct": VAULT, "key": "app_id.x"}
    yield "distinct ids", DATABASE, {"distinct": VAULT, "key": "_id"}
    yield "distinct secret", DATABASE, {"distinct": VAULT, "key": "secret", "query": OWNED}
    yield "distinct null", DATABASE, {"distinct": VAULT, "key": "secret", "query": None}
    yield "statistics", DATABASE, {"collStats": VAULT}
    yield "database statistics", DATABASE, {"dbStats": 1}
    yield "data size", DATABASE, {"dataSize": f"{DATABASE}.{VAULT}"}
    yield "data size bounds", DATABASE, {
        "dataSize": f"{DATABASE}.{VAULT}", "keyPattern": {"_id": 1}, "min": {"_id": "v"}, "max": {"_id": "w"}
    }
    for verbosity in ("queryPlanner", "executionStats", "allPlansExecution"):
        for inner in (
            {"find": VAULT, "filter": {"secret": "x"}},
            {"find": VAULT, "filter": {}, "hint": {"$natural": 1}},
            {"count": VAULT},
            {"distinct": VAULT, "key": "k"},
            {"aggregate": VAULT, "pipeline": [{"$group": {"_id": "$secret"}}], "cursor": {}},
            {"update": VAULT, "updates": [{"q": {}, "u": {"$set": {"x": 1}}, "multi": True}]},
            {"delete": VAULT, "deletes": [{"q": {}, "limit": 0}]},
        ):
            name = f"explain {next(iter(inner))} {verbosity}"
            yield name, DATABASE, {"explain": inner, "verbosity": verbosity}
    yield "explain elsewhere", DATABASE, {"explain": {"find": "system.users", "$db": "admin"}}


STAGES = {
    "match": [{"$match": OWNED}],
    "owner alias": [{"$project": {"owner": "$app_id"}}],
    "group by owner": [{"$group": {"_id": "$app_id", "n": {"$sum": 1}}}],
    "count": [{"$count": "n"}],
    "root": [{"$project": {"all": {"$objectToArray": "$$ROOT"}}}],
    "getField": [{"$project": {"v": {"$getField": "app_id"}}}],
    "setField": [{"$replaceWith": {"$setField": {"field": "app_id", "input": "$$ROOT", "value": VICTIM}}}],
    "lookup": [{"$lookup": {"from": VAULT, "pipeline": [], "as": "j"}}],
    "lookup by owner": [
        {"$set": {"who": VICTIM}},
        {"$lookup": {"from": VAULT, "localField": "who", "foreignField": "app_id", "as": "j"}},
    ],
    "lookup private": [{"$lookup": {"from": "vault_private", "pipeline": [], "as": "j"}}],
    "lookup database": [{"$lookup": {"from": {"db": "local", "coll": "oplog.rs"}, "pipeline": [], "as": "j"}}],
    "lookup other database": [{"$lookup": {"from": {"db": "mdb_runtime", "coll": "keys"}, "pipeline": [], "as": "j"}}],
    "lookup object": [{"$lookup": {"from": {"db": DATABASE, "coll": VAULT}, "pipeline": [], "as": "j"}}],
    "lookup views": [{"$lookup": {"from": "system.views", "pipeline": [], "as": "j"}}],
    "lookup of internals": [
        {"$lookup": {"from": VAULT, "pipeline": [{"$collStats": {"count": {}}}], "as": "j"}}
    ],
    "lookup of indexes": [{"$lookup": {"from": VAULT, "pipeline": [{"$indexStats": {}}], "as": "j"}}],
    "lookup twice from": [{"$lookup": twice("from", PEOPLE, VAULT, ("pipeline", []), ("as", "j"))}],
    "lookup twice pipeline": [
        {"$lookup": twice("pipeline", [], [{"$match": OWNED}], ("from", VAULT), ("as", "j"))}
    ],
    "lookup twice": [twice("$lookup", {"from": PEOPLE, "pipeline": [], "as": "j"}, {"from": VAULT, "pipeline": [], "as": "j"})],
    "lookup nested": [
        {"$facet": {"f": [{"$lookup": {"from": VAULT, "as": "j", "pipeline": [{"$unionWith": VAULT}]}}]}}
    ],
    "lookup as owner": [{"$lookup": {"from": VAULT, "pipeline": [], "as": "app_id"}}],
    "lookup internals": [{"$lookup": {"from": VAULT, "as": "j", "pipeline": [], "_internalUnwind": {"$unwind": "$j"}}}],
    "facet twice": [{"$facet": twice("f", [], [{"$unionWith": VAULT}])}],
    "union": [{"$unionWith": VAULT}],
    "union pipeline": [{"$unionWith": {"coll": VAULT, "pipeline": [{"$match": OWNED}]}}],
    "union private": [{"$unionWith": "vault_private"}],
    "union database": [{"$unionWith": {"db": "local", "coll": "oplog.rs"}}],
    "union statistics": [{"$unionWith": {"coll": VAULT, "pipeline": [{"$collStats": {"count": {}}}]}}],
    "graph": [
        {"$graphLookup": {"from": VAULT, "startWith": "$k", "connectFromField": "k", "connectToField": "k", "as": "g"}}
    ],
    "graph by owner": [
        {"$graphLookup": {"from": VAULT, "startWith": VICTIM, "connectFromField": "app_id", "connectToField": "app_id", "as": "g"}}
    ],
    "graph restricted": [
        {"$graphLookup": {"from": VAULT, "startWith": "$k", "connectFromField": "k", "connectToField": "k", "as": "g",
                          "restrictSearchWithMatch": OWNED}}
    ],
    "graph restricted twice": [
        {"$graphLookup": twice(
            "restrictSearchWithMatch", {}, OWNED,
            ("from", VAULT), ("startWith", "$k"), ("connectFromField", "k"), ("connectToField", "k"), ("as", "g"))}
    ],
    "graph twice from": [
        {"$graphLookup": twice(
            "from", PEOPLE, VAULT,
            ("startWith", "$k"), ("connectFromField", "k"), ("connectToField", "k"), ("as", "g"))}
    ],
    "statistics": [{"$collStats": {"count": {}, "storageStats": {}, "latencyStats": {}}}],
    "indexes": [{"$indexStats": {}}],
    "plan cache": [{"$planCacheStats": {}}],
    "internal update": [{"$_internalApplyOplogUpdate": {"oplogUpdate": {"$v": 2, "diff": {"u": {"app_id": VICTIM}}}}}],
    "internal split": [{"$_internalSplitPipeline": {}}],
    "unpack": [{"$_internalUnpackBucket": {"timeField": "t", "bucketMaxSpanSeconds": 1}}],
    "merge cursors": [{"$mergeCursors": {"nss": f"{DATABASE}.{VAULT}"}}],
    "function": [{"$project": {"x": {"$function": {"body": "function(){return 1}", "args": [], "lang": "js"}}}}],
    "accumulator": [
        {"$group": {"_id": 1, "x": {"$accumulator": {
            "init": "function(){}", "accumulate": "function(){}", "accumulateArgs": [], "merge": "function(){}", "lang": "js"}}}}
    ],
    "geo": [{"$geoNear": {"near": [0, 0], "distanceField": "app_id"}}],
    "search": [{"$search": {"text": {"query": "TRACE", "path": "secret"}}}],
    "changes": [{"$changeStream": {"allChangesForCluster": True}}],
    "roles": [{"$project": {"x": "$$USER_ROLES"}}],
    "record": [{"$project": {"x": {"$meta": "recordId"}}}],
    "documents": [{"$documents": [{"x": 1}]}],
    "out": [{"$out": VAULT}],
    "out elsewhere": [{"$out": {"db": "vault_elsewhere", "coll": "x"}}],
    "merge": [{"$project": {"_id": "victim-1", "secret": "gone"}}, {"$merge": VAULT}],
    "merge taking over": [
        {"$project": {"_id": "victim-1"}},
        {"$merge": {"into": VAULT, "whenMatched": [{"$set": {"app_id": "shop", "stolen": "$secret"}}]}},
    ],
    "merge into admin": [{"$merge": {"into": {"db": "admin", "coll": "x"}}}],
    "two operators": [{"$match": {}, "$unionWith": VAULT}],
    "raw stage": [RawBSONDocument(twice("$match", {}, OWNED).raw)],
}


def aggregates():
    for name, pipeline in STAGES.items():
        yield f"aggregate {name}", DATABASE, {"aggregate": VAULT, "pipeline": pipeline, "cursor": {}}
    database_level = {
        "operations": [{"$currentOp": {"allUsers": True, "idleConnections": True}}],
        "sessions": [{"$listLocalSessions": {"allUsers": True}}],
        "documents and lookup": [{"$documents": [{"k": 1}]}, {"$lookup": {"from": VAULT, "pipeline": [], "as": "j"}}],
        "changes": [{"$changeStream": {}}],
        "catalog": [{"$listCatalog": {}}],
        "empty": [],
    }
    for name, pipeline in database_level.items():
        for database in (DATABASE, "admin"):
            yield f"aggregate 1 {name} on {database}", database, {"aggregate": 1, "pipeline": pipeline, "cursor": {}}
    for name in ("fromMongos", "needsMerge", "isMapReduceCommand"):
        yield f"aggregate {name}", DATABASE, {"aggregate": VAULT, "pipeline": [], "cursor": {}, name: True}
    exchange = {"policy": "broadcast", "consumers": 1}
    yield "aggregate exchange", DATABASE, {"aggregate": VAULT, "pipeline": [], "cursor": {}, "exchange": exchange}
    yield "aggregate let", DATABASE, {
        "aggregate": VAULT, "pipeline": [{"$match": {"$expr": {"$eq": ["$app_id", "$$x"]}}}], "let": {"x": VICTIM}, "cursor": {}
    }


def javascript():
    emit, total = Code("function(){emit(this.app_id,1)}"), Code("function(k,v){return Array.sum(v)}")
    yield "mapReduce", DATABASE, {"mapReduce": VAULT, "map": emit, "reduce": total, "out": {"inline": 1}}
    yield "mapReduce out", DATABASE, {"mapReduce": VAULT, "map": emit, "reduce": total, "out": VAULT}
    yield "mapreduce", DATABASE, {"mapreduce": VAULT, "map": emit, "reduce": total, "out": {"inline": 1}}
    yield "eval", DATABASE, {"eval": Code("db.vault.find().toArray()")}
    yield "group", DATABASE, {"group": {"ns": VAULT, "$reduce": Code("function(){}"), "initial": {}}}
    yield "stored javascript", DATABASE, {"insert": "system.js", "documents": [{"_id": "f", "value": Code("1")}]}


def elsewhere():
    """Collections that are no app's."""
    places = [("admin", n) for n in ("system.users", "system.version", "system.roles", "system.keys", VAULT)]
    places += [("local", n) for n in ("oplog.rs", "startup_log", "system.replset", "replset.election")]
    places += [("config", n) for n in ("transactions", "system.sessions", "system.indexBuilds", "image_collection")]
    places += [("mdb_runtime", n) for n in ("keys", "catalog", "collections", "indexes", "apps")]
    places += [(DATABASE, n) for n in ("system.views", "system.profile", "system.js", "system.buckets.vault", "$cmd")]
    places += [(DATABASE, n) for n in (f"{VAULT}@{VICTIM}", f"{VAULT}.$_id_", "$cmd.sys.inprog", "$cmd.aggregate")]
    places += [(f"{DATABASE}__{VICTIM}", VAULT), ("$external", VAULT), (f"{VICTIM}", "vault_private")]
    for database, name in places:
        yield f"find {database}.{name}", database, {"find": name}
        yield f"count {database}.{name}", database, {"count": name}
        yield f"indexes of {database}.{name}", database, {"listIndexes": name}
    for database in ("admin", "local", "config", "mdb_runtime"):
        yield f"collections of {database}", database, {"listCollections": 1}
        yield f"insert into {database}", database, {"insert": "attack", "documents": [{"x": 1}]}
        yield f"drop {database}", database, {"dropDatabase": 1}
    yield "collections", DATABASE, {"listCollections": 1, "filter": {"name": {"$regex": "private"}}}
    yield "collections by expression", DATABASE, {"listCollections": 1, "filter": {"$or": [{"name": "vault_private"}, {}]}}
    yield "databases", "admin", {"listDatabases": 1, "authorizedDatabases": False}
    yield "indexes", DATABASE, {"listIndexes": VAULT}
    yield "indexes of a private one", DATABASE, {"listIndexes": "vault_private"}


def everything():
    for source in (finds, counts, aggregates, javascript, elsewhere):
        yield from source()
