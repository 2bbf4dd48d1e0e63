//! `docs/stages.md`: the table of aggregation stages.

use std::fmt::Write as _;

use mdb_scope::{STAGES, StageDuty};

use crate::{begin, check_page};

#[test]
fn the_page_of_stages_is_fresh() {
    let mut page = begin("Aggregation stages");
    page.push_str(
        "A stage without a row is refused: 40324, or 13 for a name that begins with `$_`. A refused stage gives 13. Pipelines of \
         an update may hold the stages marked *update*; another stage there gives 72.\n\n\
         ## Stages that are served\n\n| stage | update | what is done with it |\n|---|---|---|\n",
    );
    for row in STAGES {
        if let Some(what) = served(row.duty) {
            let update = if row.in_update { "yes" } else { "" };
            writeln!(page, "| `{}` | {update} | {what} |", row.name).unwrap();
        }
    }
    page.push_str(
        "\n## Stages that are refused\n\n| stage | why, and what to do instead |\n|---|---|\n",
    );
    for row in STAGES {
        if let StageDuty::Refuse(why) = row.duty {
            writeln!(page, "| `{}` | {why} |", row.name).unwrap();
        }
    }
    check_page("stages.md", &page);
}

fn served(duty: StageDuty) -> Option<&'static str> {
    Some(match duty {
        StageDuty::Pass => "Passed on.",
        StageDuty::Match => "A filter: its operators are checked.",
        StageDuty::Sort => "Passed on without the scope field.",
        StageDuty::Expressions => "Its expressions are checked.",
        StageDuty::Facet => "Each pipeline in it by this table.",
        StageDuty::Lookup => {
            "The joined collection is bound to the app. Its pipeline by this table."
        }
        StageDuty::GraphLookup => "Every step of the search is bound to the app.",
        StageDuty::UnionWith => {
            "The added collection is bound to the app. Its pipeline by this table."
        }
        StageDuty::Documents => "Only as the first stage of a pipeline without a collection.",
        StageDuty::Refuse(_) => return None,
    })
}
