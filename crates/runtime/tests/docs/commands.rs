//! `docs/commands.md`: the tables of commands and their arguments.

use std::fmt::Write as _;

use mdb_proxy::{Grants, code_name};
use mdb_scope::{
    Action, Argument, COMMANDS, CommandSpec, Denial, Duty, GENERIC, REFUSED, Rule, Take,
};

use crate::{begin, check_page, coded};

#[test]
fn the_page_of_commands_is_fresh() {
    let mut page = begin("Commands");
    page.push_str(
        "A command, or an argument of a command, that has no row here is refused. Command names are case-sensitive, as on the \
         server.\n\n## Commands that are served\n\n\
         *Who*: `proxy` answers from what it knows; `catalog` is composed by the proxy, which asks the upstream in its own name; \
         `upstream` is rewritten and forwarded. *Needs* names the action that the roles of the credential must grant. A command \
         marked *open* is also answered before log-in.\n\n\
         | command | who | needs | open | what happens |\n|---|---|---|---|---|\n",
    );
    for row in COMMANDS {
        let mut names = vec![row.name];
        names.extend(row.aliases);
        let open = if row.before_authentication { "yes" } else { "" };
        let (who, needs, what) = (who(row), needs(row), row.summary);
        writeln!(
            page,
            "| {} | {who} | {needs} | {open} | {what} |",
            coded(names)
        )
        .unwrap();
    }
    roles(&mut page);
    page.push_str(
        "\n## Arguments\n\n### Of every command that is not answered by the proxy alone\n\n",
    );
    arguments(&mut page, GENERIC);
    for row in COMMANDS.iter().filter(|row| !row.arguments.is_empty()) {
        writeln!(page, "\n### {}\n", row.name).unwrap();
        arguments(&mut page, row.arguments);
    }
    page.push_str("\n## Commands that are refused\n");
    for group in REFUSED {
        let code = denial_code(group.denial);
        let name = code_name(code);
        let advice = group.advice;
        writeln!(page, "\n### {}\n\n{code} {name}: {advice}.\n", group.title).unwrap();
        if !group.names.is_empty() {
            writeln!(page, "{}", coded(group.names.iter().copied())).unwrap();
        }
        if !group.prefixes.is_empty() {
            let prefixes = coded(group.prefixes.iter().copied());
            writeln!(page, "\nEvery name that begins with {prefixes}.").unwrap();
        }
    }
    page.push_str(
        "\n### Everything else\n\n59 CommandNotFound, as from a server that does not have it.\n",
    );
    check_page("commands.md", &page);
}

const ACTIONS: [Action; 10] = [
    Action::Find,
    Action::Insert,
    Action::Update,
    Action::Remove,
    Action::ListCollections,
    Action::ListIndexes,
    Action::CreateCollection,
    Action::DropCollection,
    Action::CreateIndex,
    Action::DropIndex,
];

/// What each role allows.
fn roles(page: &mut String) {
    let none = Grants::default();
    let by_role = [
        Grants { read: true, ..none },
        Grants {
            write: true,
            ..none
        },
        Grants {
            admin: true,
            ..none
        },
    ];
    page.push_str(
        "\n## Roles\n\n| action | `read` | `readWrite` | `dbAdmin` |\n|---|---|---|---|\n",
    );
    for action in ACTIONS {
        let cells = by_role.map(|grants| if grants.allows(action) { "yes" } else { "" });
        writeln!(page, "| {} | {} |", action.name(), cells.join(" | ")).unwrap();
    }
    page.push_str(
        "\nRoles hold for every database of the app. What they do not allow is refused with 13, naming the action and the \
         namespace.\n",
    );
}

fn who(row: &CommandSpec) -> &'static str {
    match row.duty {
        Duty::Local(_) => "proxy",
        Duty::Catalog(_) => "catalog",
        Duty::Forward(_) => "upstream",
        Duty::Refuse(_) => "nobody",
    }
}

fn needs(row: &CommandSpec) -> &'static str {
    match (row.duty, row.action) {
        (Duty::Forward(Rule::Explain), _) => "that of the inner command",
        (_, Action::None) => "",
        (_, action) => action.name(),
    }
}

fn denial_code(denial: Denial) -> i32 {
    match denial {
        Denial::Policy => 13,
        Denial::Unknown => 59,
        Denial::Search => 31082,
        Denial::NoReplication => 76,
    }
}

fn arguments(page: &mut String, table: &[Argument]) {
    page.push_str("| argument | what is done with it |\n|---|---|\n");
    for argument in table {
        writeln!(page, "| `{}` | {} |", argument.name, take(argument.take)).unwrap();
    }
}

fn take(take: Take) -> String {
    let text = match take {
        Take::Pass => "passed on",
        Take::Drop => "accepted, not forwarded",
        Take::Filter => "joined to the app's condition, which is there also without it",
        Take::Projection | Take::Sort => "passed on without the scope field",
        Take::Hint => "an index of the app, by name or key",
        Take::Bound => "kept inside the app's part of the index",
        Take::Collation => {
            "passed on; the app's condition is written so that no collation loosens it"
        }
        Take::Let => "expressions, checked",
        Take::Pipeline => "stages by their own table; the app's condition comes first",
        Take::Documents => "each document is stamped with the app",
        Take::Updates | Take::Deletes => "each statement's filter is joined to the app's condition",
        Take::Update => "operators, replacement or pipeline; the scope field cannot be changed",
        Take::ArrayFilters => "checked, passed on",
        Take::Key => "a path; the scope field has no values",
        Take::Session => "the session id is mapped into the app's own space",
        Take::ReadConcern => "`level`, `afterClusterTime`, `atClusterTime`",
        Take::WriteConcern => "`w`, `j`, `wtimeout`, `fsync`",
        Take::ReadPreference => "read by the proxy to choose a member",
        Take::QueryOptions => "as `$readPreference`, the way old drivers put it",
        Take::Own => "read by the proxy",
        Take::Unshared(why) => {
            return format!(
                "passed on for a dedicated collection; refused with 72 on a shared one: {why}"
            );
        }
        Take::Refuse(why) => return format!("refused with 72: {why}"),
    };
    text.to_owned()
}
