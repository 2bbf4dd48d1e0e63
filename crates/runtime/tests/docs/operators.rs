//! `docs/operators.md`: the tables of operators.

use std::fmt::Write as _;

use mdb_scope::{
    EXPRESSIONS, FILTER_FIELD, FILTER_TOP, GEOMETRY, META, Operator, OperatorDuty,
    SYSTEM_VARIABLES, TEXT, UPDATE_MODIFIERS, UPDATE_OPERATORS, Versions,
};

use crate::{begin, check_page};

/// A table, and how a name without a row in it is refused.
struct Section {
    title: &'static str,
    about: &'static str,
    code: i32,
    table: &'static [Operator],
}

const SECTIONS: &[Section] = &[
    Section {
        title: "Filters: at the top level and in branches",
        about: "In `find`, `$match` and wherever else a filter stands.",
        code: 2,
        table: FILTER_TOP,
    },
    Section {
        title: "Filters: on a field",
        about: "Also in `$elemMatch`, `$pull` and `arrayFilters`, whose paths are relative to an element.",
        code: 2,
        table: FILTER_FIELD,
    },
    Section {
        title: "Members of a geometry",
        about: "In `$geoWithin`, `$geoIntersects`, `$near`, `$nearSphere`, `$within`.",
        code: 2,
        table: GEOMETRY,
    },
    Section {
        title: "Members of `$text`",
        about: "",
        code: 2,
        table: TEXT,
    },
    Section {
        title: "Arguments of `$meta`",
        about: "",
        code: 2,
        table: META,
    },
    Section {
        title: "Variables of the server",
        about: "Written with `$$`. Names of an app's own variables begin with a lower-case letter.",
        code: 2,
        table: SYSTEM_VARIABLES,
    },
    Section {
        title: "Update operators",
        about: "",
        code: 9,
        table: UPDATE_OPERATORS,
    },
    Section {
        title: "Modifiers of `$push` and `$addToSet`",
        about: "",
        code: 2,
        table: UPDATE_MODIFIERS,
    },
];

#[test]
fn the_page_of_operators_is_fresh() {
    let mut page = begin("Operators");
    page.push_str(
        "A name without a row is refused with the code of its table, as is a row that says *refused*. *Servers* have the name, \
         *since* is the release of this program since which the row is as it is. What is served reads nothing but its arguments and \
         the app's own documents.\n\n## Expressions, accumulators, window functions\n\n\
         Code 168; 31325 in a projection. Which may stand where is the server's to say: the columns name the servers that take it as \
         an expression, in `$group`, and in `$setWindowFields`.\n\n\
         | name | expression | `$group` | window | what happens | why | since |\n|---|---|---|---|---|---|---|\n",
    );
    let servers = |versions: Option<Versions>| versions.map_or(String::new(), |v| v.to_string());
    for row in EXPRESSIONS {
        let (what, why) = duty(row);
        let (expression, group) = (servers(row.versions), servers(row.accumulator));
        let (window, name, since) = (servers(row.window), row.name, row.since);
        writeln!(
            page,
            "| `{name}` | {expression} | {group} | {window} | {what} | {why} | {since} |"
        )
        .unwrap();
    }
    for section in SECTIONS {
        let Section {
            title,
            about,
            code,
            table,
        } = section;
        let about = format!("Code {code}. {about}");
        writeln!(page, "\n## {title}\n\n{}\n", about.trim_end()).unwrap();
        page.push_str("| name | servers | what happens | why | since |\n|---|---|---|---|---|\n");
        for row in *table {
            let ((what, why), servers) = (duty(row), servers(row.versions));
            let (name, since) = (row.name, row.since);
            writeln!(page, "| `{name}` | {servers} | {what} | {why} | {since} |").unwrap();
        }
    }
    check_page("operators.md", &page);
}

fn duty(row: &Operator) -> (&'static str, &'static str) {
    match row.duty {
        OperatorDuty::Serve(what) => (what, "it sees no other app's documents"),
        OperatorDuty::Refuse(why) => ("refused", why),
    }
}
