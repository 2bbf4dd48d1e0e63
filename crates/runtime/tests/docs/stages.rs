//! `docs/stages.md`: the table of aggregation stages.

use std::fmt::Write as _;

use mdb_scope::{STAGES, StageDuty, StageSpec};

use crate::{begin, check_page};

/// Of stages that read a collection besides the command's own.
const OTHER: &str = "The other collection is shared with other apps, too.";

#[test]
fn the_page_of_stages_is_fresh() {
    let mut page = begin("Aggregation stages");
    page.push_str(
        "A stage without a row is refused: 40324, or 13 for a name that begins with `$_`. A refused stage gives 13. Pipelines of \
         an update may hold the stages marked *update*; another stage there gives 72.\n\n\
         *Servers* have the stage, *since* is the release of this program since which the row is as it is. Expressions, filters and \
         what stands in them: [operators.md](operators.md).\n\n\
         ## Stages that are served\n\n\
         | stage | servers | update | what happens | why | since |\n|---|---|---|---|---|---|\n",
    );
    for row in STAGES {
        if let Some((what, why)) = served(row.duty) {
            let update = if row.in_update { "yes" } else { "" };
            let (servers, since) = (servers(row), row.since);
            writeln!(
                page,
                "| `{}` | {servers} | {update} | {what} | {why} | {since} |",
                row.name
            )
            .unwrap();
        }
    }
    page.push_str(
        "\n## Stages that are refused\n\n\
         | stage | servers | what happens | why, and what to do instead | since |\n|---|---|---|---|---|\n",
    );
    for row in STAGES {
        if let StageDuty::Refuse(why) = row.duty {
            let (servers, since) = (servers(row), row.since);
            writeln!(
                page,
                "| `{}` | {servers} | refused with 13 | {why} | {since} |",
                row.name
            )
            .unwrap();
        }
    }
    check_page("stages.md", &page);
}

fn servers(row: &StageSpec) -> String {
    format!("{}{}", row.versions, row.edition.remark())
}

/// What is done with a stage, and why.
fn served(duty: StageDuty) -> Option<(&'static str, &'static str)> {
    Some(match duty {
        StageDuty::Pass => ("Passed on.", "Its input is the app's already."),
        StageDuty::Match => (
            "A filter: its operators are checked.",
            "An operator could run code.",
        ),
        StageDuty::Sort => (
            "Passed on without the scope field.",
            "The app has no such field.",
        ),
        StageDuty::Expressions => (
            "Its expressions are checked.",
            "An expression could run code or show the server.",
        ),
        StageDuty::Facet => (
            "Each pipeline in it by this table.",
            "Its input is the app's already.",
        ),
        StageDuty::Lookup => (
            "The joined collection is bound to the app. Its pipeline by this table.",
            OTHER,
        ),
        StageDuty::GraphLookup => ("Every step of the search is bound to the app.", OTHER),
        StageDuty::UnionWith => (
            "The added collection is bound to the app. Its pipeline by this table.",
            OTHER,
        ),
        StageDuty::Documents => (
            "Only as the first stage of a pipeline without a collection.",
            "The command itself holds its documents.",
        ),
        StageDuty::ChangeStream => (
            "Only as the first stage, of a collection, a database or the deployment, with the stages of the server's list behind it: \
             `$match`, `$project`, `$addFields`, `$set`, `$unset`, `$replaceRoot`, `$replaceWith`, `$redact`.",
            "Only the app's own events pass.",
        ),
        StageDuty::SplitLargeEvent => (
            "Only as the last stage of a change stream.",
            "Its input is the app's already.",
        ),
        StageDuty::Figures => (
            "Only as the first stage of an aggregate: the app's own figures. Of a shared collection no operations are counted, and \
             `$planCacheStats` is refused (13).",
            "The server counts the documents of all apps.",
        ),
        StageDuty::Operations => (
            "First in an `aggregate` without a collection, `$currentOp` in `admin` only: the operations, or the sessions in use, of the \
             calling user at this proxy; with `allUsers` and the role `dbAdmin` those of the app. Stages behind need a server of 5.1 or \
             later.",
            "To the upstream, all apps are one user.",
        ),
        StageDuty::GeoNear => (
            "First. Its `query` is joined to the app's condition; `key`, where it is missing, is the field of the app's only index of its kind.",
            "The server would take the only index that it finds, of whatever app.",
        ),
        StageDuty::Merge => (
            "Last, not in a pipeline within another. Into a shared collection documents are stamped and matched by `_id` and the scope \
             field; `on` may name `_id` only. Needs `readWrite`.",
            "Matched by `_id` alone, another app's document would be met.",
        ),
        StageDuty::Out => (
            "Last, not in a pipeline within another. Into a dedicated collection, or a name under which the app has nothing yet: that \
             becomes a dedicated one. Of a shared collection a transaction replaces the app's documents; \
             13 for more than it takes. Needs `readWrite`.",
            "It replaces the collection as a whole.",
        ),
        StageDuty::Refuse(_) => return None,
    })
}
