//! `docs/commands.md`: the tables of commands and their arguments.

use std::fmt::Write as _;

use mdb_proxy::{Grants, code_name};
use mdb_scope::{
    Action, Argument, BULK_DELETE, BULK_INSERT, BULK_UPDATE, COMMANDS, CommandSpec,
    DELETE_STATEMENT, Denial, Duty, GENERIC, REFUSED, RefusedGroup, Rule, Take, UPDATE_STATEMENT,
    servers_of, since,
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
         marked *open* is also answered before log-in. *Servers* have the command, *since* is the release of this program since which \
         the row is as it is.\n\n\
         | command | servers | who | needs | open | what happens | why | since |\n|---|---|---|---|---|---|---|---|\n",
    );
    for row in COMMANDS {
        let mut names = vec![row.name];
        names.extend(row.aliases);
        let open = if row.before_authentication { "yes" } else { "" };
        let (servers, since) = (servers(row.name), since(row.name));
        let (who, needs, what, why) = (who(row), needs(row), row.summary, why(row));
        writeln!(
            page,
            "| {} | {servers} | {who} | {needs} | {open} | {what} | {why} | {since} |",
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
    page.push_str("\n### A statement of update\n\n");
    arguments(&mut page, UPDATE_STATEMENT);
    page.push_str("\n### A statement of delete\n\n");
    arguments(&mut page, DELETE_STATEMENT);
    page.push_str("\n### An insert of bulkWrite\n\n");
    arguments(&mut page, BULK_INSERT);
    page.push_str("\n### An update of bulkWrite\n\n");
    arguments(&mut page, BULK_UPDATE);
    page.push_str("\n### A delete of bulkWrite\n\n");
    arguments(&mut page, BULK_DELETE);
    page.push_str("\n## Commands that are refused\n");
    for group in REFUSED {
        refused(&mut page, group);
    }
    page.push_str(
        "\n### Everything else\n\n59 CommandNotFound, as from a server that does not have it.\n",
    );
    check_page("commands.md", &page);
}

fn refused(page: &mut String, group: &'static RefusedGroup) {
    let code = denial_code(group.denial);
    let code = format!("{code} {}", code_name(code));
    let why = match group.advice {
        "" => "servers took it out, or never had it outside of Atlas",
        advice => advice,
    };
    writeln!(page, "\n### {}\n", group.title).unwrap();
    page.push_str("| command | servers | what happens | why | since |\n|---|---|---|---|---|\n");
    for name in group.rows() {
        let (servers, since) = (servers(name), since(name));
        writeln!(page, "| `{name}` | {servers} | {code} | {why} | {since} |").unwrap();
    }
    if !group.prefixes.is_empty() {
        let prefixes = coded(group.prefixes.iter().copied());
        writeln!(page, "\nSo is every name that begins with {prefixes}.").unwrap();
    }
}

fn servers(name: &str) -> String {
    let (versions, edition) = servers_of(name);
    format!("{versions}{}", edition.remark())
}

fn why(row: &CommandSpec) -> &'static str {
    match row.duty {
        Duty::Local(_) => "to an app, the proxy is the deployment",
        Duty::Catalog(_) => "what of a shared collection is the app's, only the proxy can tell",
        Duty::Forward(Rule::Body | Rule::Bulk | Rule::Explain) => {
            "the upstream does it, on the app's documents only"
        }
        Duty::Forward(Rule::GetMore) => "to the upstream, cursors of all apps are one user's",
        Duty::Forward(Rule::Sessions | Rule::Transaction) => {
            "to the upstream, sessions of all apps are one user's"
        }
        Duty::Refuse(_) => "",
    }
}

const ACTIONS: [Action; 20] = [
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
    Action::CollStats,
    Action::DbStats,
    Action::IndexStats,
    Action::PlanCacheRead,
    Action::PlanCacheWrite,
    Action::PlanCacheIndexFilter,
    Action::CollMod,
    Action::Validate,
    Action::ConvertToCapped,
    Action::RenameCollection,
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
    page.push_str("| argument | servers | what happens | why | since |\n|---|---|---|---|---|\n");
    for argument in table {
        let Argument {
            name,
            versions,
            since,
            ..
        } = argument;
        let (what, why) = (take(argument.take), reason(argument.take));
        writeln!(page, "| `{name}` | {versions} | {what} | {why} | {since} |").unwrap();
    }
}

fn take(take: Take) -> &'static str {
    match take {
        Take::Pass => "passed on",
        Take::Drop => "accepted, not forwarded",
        Take::Bypass => {
            "needs `dbAdmin`; passed on where what is written is dedicated or has no validator but apps' own, else not forwarded"
        }
        Take::Filter => "joined to the app's condition, which is there also without it",
        Take::Projection | Take::Sort => "passed on without the scope field",
        Take::Hint => "an index of the app, by name or key",
        Take::Named => {
            "indexes of the app, by names or keys; those that the proxy makes by itself have no name"
        }
        Take::Bound => "kept inside the app's part of the index",
        Take::Cursor => "passed on; its options are checked",
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
        Take::Condition => "a condition, also on a path below it, which the proxy tests",
        Take::Unshared(_) => {
            "passed on for a dedicated collection; refused with 72 on a shared one"
        }
        Take::Refuse(_) => "refused with 72",
        Take::Withhold(_) => "refused with 40415",
    }
}

fn reason(take: Take) -> &'static str {
    match take {
        Take::Refuse(why) | Take::Withhold(why) | Take::Unshared(why) => why,
        Take::Pass => "it reads no documents and names none",
        Take::Cursor => "they size batches and name nothing",
        Take::Drop => "without effect on a shared collection",
        Take::Bypass => "an operator's validator on a shared collection holds for every app",
        Take::Filter | Take::Pipeline | Take::Updates | Take::Deletes => {
            "without the condition it would reach every app's documents"
        }
        Take::Documents | Take::Update => "each document is the app's, and stays so",
        Take::Projection | Take::Sort | Take::Key => "the app has no such field",
        Take::Hint | Take::Named | Take::Bound => "indexes are the app's own definitions",
        Take::Collation => "two slugs can be equal under a collation",
        Take::Let | Take::ArrayFilters => "an expression or a filter could run code",
        Take::Session => "to the upstream, sessions of all apps are one user's",
        Take::ReadConcern | Take::WriteConcern => "other members are for servers",
        Take::ReadPreference | Take::QueryOptions => "the client sees one server",
        Take::Own => "the command's own row says what it is for",
        Take::Condition => "it is tested on the app's own operations only",
    }
}
