//! The way of a command to the upstream and back.

use std::sync::Arc;

use mdb_scope::{CommandSpec, Refusal};
use mdb_wire::Command;

use crate::error::Error;
use crate::identity::Identity;
use crate::shared::Shared;

/// Carries commands upstream.
#[derive(Debug, Default)]
pub struct Forward;

impl Forward {
    /// Appends the body of the reply to `out`, which holds the reply's header.
    pub async fn command(
        &self,
        _shared: &Shared,
        _identity: &Arc<Identity>,
        spec: &'static CommandSpec,
        _command: &Command<'_>,
        _out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let refusal = Refusal::command_not_supported(format!("{} is not forwarded", spec.name));
        std::future::ready(Err(refusal.into())).await
    }
}
