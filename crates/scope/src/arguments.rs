//! The fields that commands and statements may have, and what is done with each. A field without a row is refused.

use std::fmt;

use mdb_wire::Element;

use crate::refusal::Refusal;
use crate::versions::{FIRST_RELEASE, Release, Versions};

mod tables;

pub use tables::*;

/// One field of a command or statement.
#[derive(Debug, Clone, Copy)]
pub struct Argument {
    /// Its name.
    pub name: &'static str,
    /// What is done with it.
    pub take: Take,
    /// Servers that take it.
    pub versions: Versions,
    /// The release of this program since which the row is as it is.
    pub since: &'static str,
}

impl Argument {
    const fn from(mut self, first: Release) -> Self {
        self.versions = Versions::from(first);
        self
    }

    const fn until(mut self, last: Release) -> Self {
        self.versions = self.versions.until(last);
        self
    }
}

/// What is done with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Take {
    /// Copied as it is.
    Pass,
    /// Accepted, and not forwarded.
    Drop,
    /// Whether validators are passed over: copied where what the command writes is the app's own, dropped on a shared one.
    Bypass,
    /// A filter: joined to the app's condition, and present even where the client sent none.
    Filter,
    /// A projection.
    Projection,
    /// A sort.
    Sort,
    /// An index, by name or key: the app's own definition is replaced by the physical one.
    Hint,
    /// Indexes by names and keys, whether they are there or not: an automatic one is none.
    Named,
    /// The lower or upper bound of an index scan.
    Bound,
    /// Options of a cursor: only those that are known.
    Cursor,
    /// A collation: it decides how the app's condition is written.
    Collation,
    /// Variables: an expression each.
    Let,
    /// An aggregation pipeline.
    Pipeline,
    /// `insert`'s documents.
    Documents,
    /// `update`'s statements.
    Updates,
    /// `delete`'s statements.
    Deletes,
    /// An update: operators, replacement or pipeline.
    Update,
    /// Conditions on array elements.
    ArrayFilters,
    /// `distinct`'s key.
    Key,
    /// `lsid`: the id is mapped into the app's own space.
    Session,
    /// `readConcern`: four members are known.
    ReadConcern,
    /// `writeConcern`: five members are known.
    WriteConcern,
    /// Read by the proxy to choose a server.
    ReadPreference,
    /// As `ReadPreference`, the way old drivers put it.
    QueryOptions,
    /// Read by the rule itself, which writes it.
    Own,
    /// A condition on what the reply lists; a path below the name is one as well.
    Condition,
    /// Copied where the collection is the app's own, refused with 72 on a shared one: why.
    Unshared(&'static str),
    /// Never, with 72: why not.
    Refuse(&'static str),
    /// Never, with 40415 as from a server that does not have it: why not.
    Withhold(&'static str),
}

const fn arg(name: &'static str, take: Take) -> Argument {
    Argument {
        name,
        take,
        versions: Versions::ALL,
        since: FIRST_RELEASE,
    }
}

const fn withhold(name: &'static str, why: &'static str) -> Argument {
    arg(name, Take::Withhold(why))
}

/// The row of a field.
pub(crate) fn look_up(table: &'static [Argument], name: &[u8]) -> Option<&'static Argument> {
    table.iter().find(|a| a.name.as_bytes() == name)
}

/// The row of a condition on a path below its name.
pub(crate) fn condition(table: &'static [Argument], path: &[u8]) -> Option<&'static Argument> {
    let name = path.split(|byte| *byte == b'.').next()?;
    look_up(table, name).filter(|argument| argument.take == Take::Condition)
}

/// What was found of a field, unless there is no row or the row refuses it.
///
/// # Errors
/// 40415 without a row or where the row withholds it, 72 where the row refuses it.
pub(crate) fn served(
    path: impl fmt::Display,
    found: Option<&'static Argument>,
    element: &Element<'_>,
) -> Result<&'static Argument, Refusal> {
    let refused = match found {
        Some(argument) => match argument.take {
            Take::Refuse(why) => return Err(unavailable(argument.name, why)),
            Take::Withhold(why) => format!("not available to apps: {why}"),
            _ => return Ok(argument),
        },
        None => "an unknown field.".to_owned(),
    };
    Err(Refusal::unknown_field(format!(
        "BSON field '{path}.{}' is {refused}",
        element.name()
    )))
}

/// The reply to an option that an app may ask for and cannot have.
pub(crate) fn unavailable(name: &str, why: &str) -> Refusal {
    Refusal::invalid_options(format!("option '{name}' is not available: {why}"))
}
