//! What a command needs from the roles of the credential.

use mdb_wire::Command;

use crate::apply::explained;
use crate::commands::{Action, CommandSpec, Duty, Rule};
use crate::pipeline::{self, figures};

/// Whether a command asks for validators to be passed over, which needs an action of its own from the roles.
pub fn bypasses_validation(spec: &'static CommandSpec, command: &Command<'_>) -> bool {
    if let Duty::Forward(Rule::Explain) = spec.duty {
        return explained(command).is_ok_and(|(spec, inner)| bypasses_validation(spec, &inner));
    }
    let asks = command.body.find("bypassDocumentValidation");
    asks.is_some_and(|asks| asks.as_flag() == Some(true))
        && (spec.name != "aggregate" || pipeline::written_collection(command).is_some())
}

/// What a command needs from the roles: its row's action, that of a stage that writes, that of the inner command for an
/// `explain`.
pub fn required_action(spec: &'static CommandSpec, command: &Command<'_>) -> Action {
    if let Duty::Forward(Rule::Explain) = spec.duty {
        return explained(command).map_or(Action::None, |(inner_spec, inner)| {
            required_action(inner_spec, &inner)
        });
    }
    let pipeline = command.body.find("pipeline");
    let pipeline = pipeline.filter(|_| spec.name == "aggregate");
    let writing = pipeline.and_then(|pipeline| pipeline::writing_stage(&pipeline));
    let writing = writing.map(|(_, action)| action);
    let needed = writing.or_else(|| figures::required_action(command));
    needed.unwrap_or(spec.action)
}
