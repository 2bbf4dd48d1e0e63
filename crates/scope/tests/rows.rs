//! Every row of every table does what it says, wherever its name may hide; rows that are added later are held to it as well.

use mdb_scope::{
    COMMANDS, EXPRESSIONS, FILTER_FIELD, FILTER_TOP, GENERIC, META, Operator, OperatorDuty, STAGES,
    SYSTEM_VARIABLES, StageDuty, Take, UPDATE_OPERATORS,
};

use crate::notation::read_text;
use crate::proxy;

/// The code and text of a refusal, `None` for a command that is rewritten or answered.
fn refusal(command: &str) -> Option<(i32, String)> {
    let collection = proxy::collection(proxy::hidden(), &[], true);
    let message = proxy::message(&read_text(command).message());
    let facts = proxy::facts(&collection);
    let outcome = proxy::run(proxy::hidden(), &facts, None, &message);
    outcome.err().map(|refusal| (refusal.code, refusal.text))
}

/// The code of a refusal of the command, or of its only statement.
fn told(command: &str) -> Option<i32> {
    let collection = proxy::collection(proxy::hidden(), &[], true);
    let message = proxy::message(&read_text(command).message());
    let facts = proxy::facts(&collection);
    match proxy::run(proxy::hidden(), &facts, None, &message) {
        Err(refusal) => Some(refusal.code),
        Ok(proxy::Outcome::Forwarded(scoped, _)) => {
            scoped.refused().first().map(|refused| refused.refusal.code)
        }
        Ok(_) => None,
    }
}

/// Places of an expression, with `EXPR` where it stands.
const EXPRESSION_PLACES: &[&str] = &[
    r#"{find: "c", filter: {$expr: EXPR}, $db: "d"}"#,
    r#"{find: "c", filter: {$nor: [{$and: [{$expr: {$not: [EXPR]}}]}]}, $db: "d"}"#,
    r#"{find: "c", let: {v: EXPR}, $db: "d"}"#,
    r#"{find: "c", projection: {o: {p: {$abs: EXPR}}}, $db: "d"}"#,
    r#"{delete: "c", let: {v: [EXPR]}, $db: "d"} + deletes [{q: {}, limit: 1}]"#,
    r#"{update: "c", $db: "d"} + updates [{q: {}, u: [{$set: {x: EXPR}}]}]"#,
    r#"{update: "c", $db: "d"} + updates [{q: {}, u: [], c: {v: EXPR}}]"#,
    r#"{findAndModify: "c", query: {}, update: [{$replaceWith: EXPR}], $db: "d"}"#,
    r#"{aggregate: "c", pipeline: [{$project: {o: {p: EXPR}}}], cursor: {}, $db: "d"}"#,
    r#"{aggregate: "c", pipeline: [{$group: {_id: EXPR}}], cursor: {}, $db: "d"}"#,
    r#"{aggregate: "c", pipeline: [{$group: {_id: 1, x: {$sum: EXPR}}}], cursor: {}, $db: "d"}"#,
    r#"{aggregate: "c", pipeline: [{$redact: EXPR}], cursor: {}, $db: "d"}"#,
    r#"{aggregate: "c", pipeline: [{$setWindowFields: {partitionBy: EXPR, output: {}}}], cursor: {}, $db: "d"}"#,
    r#"{aggregate: "c", pipeline: [{$facet: {f: [{$unionWith: {coll: "g", pipeline: [{$sortByCount: EXPR}]}}]}}], cursor: {}, $db: "d"}"#,
    r#"{aggregate: "c", pipeline: [{$lookup: {from: "g", let: {v: EXPR}, pipeline: [], as: "x"}}], cursor: {}, $db: "d"}"#,
    r#"{explain: {aggregate: "c", pipeline: [{$set: {x: EXPR}}], cursor: {}}, $db: "d"}"#,
];

fn rows(table: &'static [Operator]) -> impl Iterator<Item = (&'static str, bool)> {
    table
        .iter()
        .map(|row| (row.name, matches!(row.duty, OperatorDuty::Refuse(_))))
}

/// The least argument with which an operator is looked at.
fn argument(name: &str) -> &'static str {
    match name {
        "$meta" => r#""textScore""#,
        "$getField" => r#""x""#,
        _ => "{}",
    }
}

#[test]
fn expressions_do_what_their_rows_say_in_every_place() {
    for (name, is_refused) in rows(EXPRESSIONS) {
        let expression = format!("{{{name}: {}}}", argument(name));
        for place in EXPRESSION_PLACES {
            let refusal = refusal(&place.replace("EXPR", &expression));
            let code = refusal.as_ref().map(|(code, _)| *code);
            let is_right = if is_refused {
                matches!(code, Some(168 | 31325))
            } else {
                refusal.is_none()
            };
            assert!(is_right, "{name} in {place}: {refusal:?}");
        }
    }
}

#[test]
fn variables_do_what_their_rows_say_in_every_place() {
    for (name, is_refused) in rows(SYSTEM_VARIABLES) {
        for path in ["", ".x"] {
            for place in EXPRESSION_PLACES {
                let expression = format!("\"$${name}{path}\"");
                let refusal = refusal(&place.replace("EXPR", &expression));
                assert_eq!(refusal.is_some(), is_refused, "{name}{path} in {place}");
            }
        }
    }
}

#[test]
fn arguments_of_meta_do_what_their_rows_say() {
    for (name, is_refused) in rows(META) {
        for place in [
            r#"{find: "c", projection: {x: {$meta: "NAME"}}, $db: "d"}"#,
            r#"{find: "c", sort: {x: {$meta: "NAME"}}, $db: "d"}"#,
            r#"{aggregate: "c", pipeline: [{$sort: {x: {$meta: "NAME"}}}], cursor: {}, $db: "d"}"#,
            r#"{aggregate: "c", pipeline: [{$group: {_id: {$meta: "NAME"}}}], cursor: {}, $db: "d"}"#,
        ] {
            let refusal = refusal(&place.replace("NAME", name));
            assert_eq!(refusal.is_some(), is_refused, "{name} in {place}");
        }
    }
}

/// Places of a filter, with `FILTER` where it stands.
const FILTER_PLACES: &[&str] = &[
    r#"{find: "c", filter: FILTER, $db: "d"}"#,
    r#"{count: "c", query: {$or: [{x: 1}, FILTER]}, $db: "d"}"#,
    r#"{distinct: "c", key: "x", query: {$nor: [FILTER]}, $db: "d"}"#,
    r#"{delete: "c", $db: "d"} + deletes [{q: FILTER, limit: 1}]"#,
    r#"{update: "c", $db: "d"} + updates [{q: {$and: [FILTER]}, u: {$set: {x: 1}}}]"#,
    r#"{aggregate: "c", pipeline: [{$limit: 1}, {$match: FILTER}], cursor: {}, $db: "d"}"#,
    r#"{aggregate: "c", pipeline: [{$graphLookup: {from: "g", startWith: 1, connectFromField: "a", connectToField: "b", as: "x", restrictSearchWithMatch: FILTER}}], cursor: {}, $db: "d"}"#,
];

#[test]
fn filters_do_what_their_rows_say_in_every_place() {
    let top = rows(FILTER_TOP).map(|(name, is_refused)| {
        let value = match name {
            "$and" | "$or" | "$nor" => "[{}]",
            _ => "{}",
        };
        (format!("{{{name}: {value}}}"), is_refused)
    });
    let field = rows(FILTER_FIELD).flat_map(|(name, is_refused)| {
        [
            format!("{{a: {{{name}: {{}}}}}}"),
            format!("{{a: {{$not: {{{name}: {{}}}}}}}}"),
            format!("{{a: {{$elemMatch: {{b: {{{name}: {{}}}}}}}}}}"),
        ]
        .map(|filter| (filter, is_refused))
    });
    for (filter, is_refused) in top.chain(field) {
        for place in FILTER_PLACES {
            let refusal = refusal(&place.replace("FILTER", &filter));
            let code = refusal.map(|(code, _)| code);
            assert_eq!(code, is_refused.then_some(2), "{filter} in {place}");
        }
    }
}

#[test]
fn update_operators_do_what_their_rows_say() {
    for (name, is_refused) in rows(UPDATE_OPERATORS) {
        for place in [
            r#"{update: "c", $db: "d"} + updates [{q: {}, u: {NAME: {a: 1}}}]"#,
            r#"{findAndModify: "c", query: {}, update: {$set: {x: 1}, NAME: {a: 1}}, $db: "d"}"#,
        ] {
            // `$set` would stand twice.
            if name == "$set" && place.contains("$set") {
                continue;
            }
            // Of a statement, it is told of that alone, and the others go.
            let code = told(&place.replace("NAME", name));
            assert_eq!(code, is_refused.then_some(9), "{name} in {place}");
        }
    }
}

#[test]
fn refused_stages_are_refused_in_every_pipeline() {
    let refused = STAGES.iter().filter_map(|row| match row.duty {
        StageDuty::Refuse(why) => Some((row.name, why)),
        _ => None,
    });
    for (name, why) in refused {
        for place in [
            r"[{NAME: {}}]",
            r"[{$match: {}}, {NAME: {}}]",
            r"[{$facet: {f: [{NAME: {}}]}}]",
            r#"[{$lookup: {from: "g", pipeline: [{NAME: {}}], as: "x"}}]"#,
            r#"[{$unionWith: {coll: "g", pipeline: [{NAME: {}}]}}]"#,
            r#"[{$unionWith: {coll: "g", pipeline: [{$facet: {f: [{NAME: {}}]}}]}}]"#,
        ] {
            let pipeline = place.replace("NAME", name);
            let command =
                format!(r#"{{aggregate: "c", pipeline: {pipeline}, cursor: {{}}, $db: "d"}}"#);
            let refusal = refusal(&command);
            let is_right = refusal.as_ref().is_some_and(|(_, text)| text.contains(why));
            assert!(is_right, "{name} in {place}: {refusal:?}");
        }
    }
}

#[test]
fn withheld_arguments_say_why() {
    let commands = [
        ("find", r#"{find: "c", NAME: 1, $db: "d"}"#),
        (
            "aggregate",
            r#"{aggregate: "c", pipeline: [], cursor: {}, NAME: 1, $db: "d"}"#,
        ),
        ("count", r#"{count: "c", NAME: 1, $db: "d"}"#),
        (
            "distinct",
            r#"{distinct: "c", key: "x", NAME: 1, $db: "d"}"#,
        ),
        (
            "insert",
            r#"{insert: "c", NAME: 1, $db: "d"} + documents [{x: 1}]"#,
        ),
        (
            "update",
            r#"{update: "c", NAME: 1, $db: "d"} + updates [{q: {}, u: {$set: {x: 1}}}]"#,
        ),
        (
            "delete",
            r#"{delete: "c", NAME: 1, $db: "d"} + deletes [{q: {}, limit: 1}]"#,
        ),
        (
            "findAndModify",
            r#"{findAndModify: "c", query: {}, remove: true, NAME: 1, $db: "d"}"#,
        ),
        ("explain", r#"{explain: {find: "c"}, NAME: 1, $db: "d"}"#),
        (
            "commitTransaction",
            r#"{commitTransaction: 1, NAME: 1, $db: "admin"}"#,
        ),
        ("endSessions", r#"{endSessions: [], NAME: 1, $db: "admin"}"#),
        ("create", r#"{create: "c", NAME: 1, $db: "d"}"#),
        ("drop", r#"{drop: "c", NAME: 1, $db: "d"}"#),
        ("dropDatabase", r#"{dropDatabase: 1, NAME: 1, $db: "d"}"#),
        (
            "listCollections",
            r#"{listCollections: 1, NAME: 1, $db: "d"}"#,
        ),
        ("listIndexes", r#"{listIndexes: "c", NAME: 1, $db: "d"}"#),
        (
            "createIndexes",
            r#"{createIndexes: "c", indexes: [], NAME: 1, $db: "d"}"#,
        ),
        (
            "dropIndexes",
            r#"{dropIndexes: "c", index: "x", NAME: 1, $db: "d"}"#,
        ),
    ];
    let mut count = 0;
    for (name, command) in commands {
        let spec = COMMANDS.iter().find(|row| row.name == name).unwrap();
        for argument in spec.arguments.iter().chain(GENERIC) {
            let (code, why) = match argument.take {
                Take::Withhold(why) => (40415, why),
                Take::Refuse(why) | Take::Unshared(why) => (72, why),
                _ => continue,
            };
            count += 1;
            let refusal = refusal(&command.replace("NAME", argument.name));
            let is_right = refusal
                .as_ref()
                .is_some_and(|(c, text)| *c == code && text.contains(why));
            assert!(is_right, "{} of {name}: {refusal:?}", argument.name);
        }
    }
    assert!(count > 300, "only {count} arguments are withheld");
}
