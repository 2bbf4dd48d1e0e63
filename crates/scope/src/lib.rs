//! What a command may do for one app, and its rewriting so that it cannot see or touch another app's documents.
//!
//! Promised: [`Scoped`], the only thing that may go upstream, comes from [`Scope::apply`] alone, and every place of
//! it that reads or writes documents is bound to the app. Refused: whatever has no row in a table.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic
)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::panic
    )
)]

mod app;
mod apply;
mod arguments;
mod before_five;
mod body;
mod bulk;
mod change_stream;
mod commands;
mod common;
mod composed;
mod concern;
mod covering;
mod creation;
mod cursor;
mod dedicated;
mod entry;
mod explain;
mod expression;
mod facts;
mod filter;
mod generic;
mod hint;
mod identifier;
mod index;
mod modify;
mod namespace;
mod operators;
mod pipeline;
mod point;
mod preference;
mod privilege;
mod projection;
mod race;
mod refusal;
mod refused;
mod reply;
mod scope;
mod scoped;
mod session;
mod sight;
mod stages;
mod stamp;
mod statements;
mod text;
mod tree;
mod update;
mod validator;
pub mod verify;
mod versions;

pub use app::{AppId, SLUG_BYTES_MAX, SlugError};
pub use apply::check_sequences;
pub use arguments::{
    Argument, BULK_DELETE, BULK_INSERT, BULK_UPDATE, DELETE_STATEMENT, GENERIC, Take,
    UPDATE_STATEMENT,
};
pub use body::check_fields;
pub use bulk::{bulk_collections, bulk_creates};
pub use change_stream::{StreamReach, stream_reach};
pub use commands::{
    Action, COMMANDS, Catalog, CommandSpec, DATED, Dated, Denial, Duty, Local, REFUSED,
    RefusedGroup, Rule, look_up, servers_of, since,
};
pub use common::check_common;
pub use composed::{COMPOSED_WRITES, check_catalog_command, check_composed, check_list_cursor};
pub use concern::{Awaited, awaited};
pub use creation::{check_creation, check_has_id_index, note_of_creation};
pub use cursor::{check_get_more, cursor_ids, cursor_not_found};
pub use entry::{CATALOG, Entering, Statement, entry_ids, named_by_entry};
pub use facts::{
    Aside, AutomaticIndexes, Behind, CollectionFacts, CursorFacts, Facts, ForeignCollection,
    Isolation, NearKey, OwnIndex, base_id_index_name, base_index_name, cluster_time_of,
};
pub use hint::{names_index, needs_index};
pub use index::{
    automatic_index_app, automatic_index_name, automatic_index_shown, dropped, dropped_indexes,
    drops_all,
};
pub use modify::check_known_options;
pub use namespace::{
    NAMESPACE_BYTES_MAX, check_collection, check_database, check_namespace, collection_of,
};
pub use operators::{
    EXPRESSIONS, FILTER_FIELD, FILTER_TOP, GEOMETRY, META, Operator, OperatorDuty,
    SYSTEM_VARIABLES, TEXT, UPDATE_MODIFIERS, UPDATE_OPERATORS,
};
pub use pipeline::figures::{FiguresStage, figures_stage, unknown_figure};
pub use pipeline::operations::{OperationsStage, operations_stage};
pub use pipeline::{WrittenCollection, foreign_collections, written_collection};
pub use privilege::{bypasses_validation, required_action};
pub use race::Race;
pub use refusal::{DATABASE_CASE, REFUSAL_CODES, Refusal};
pub use refused::{Refused, with_refused};
pub use reply::{Glance, Incident, Killed, ReplyView, STATE_CHANGE_CODES, ends_stream, glance};
pub use scope::{FieldName, FieldNameError, IdPolicy, Scope};
pub use scoped::{
    ReadMode, ReadPreference, ReplyRule, Retry, Routing, Scoped, ServerAddress, TagSet,
};
pub use session::SessionCipher;
pub use stages::{STAGES, StageDuty, StageSpec};
pub use validator::{SharedValidator, joined_clauses};
pub use versions::{
    Edition, FIRST_RELEASE, Release, V4_2, V4_4, V5_0, V6_0, V7_0, V8_0, Versions,
    WIRE_VERSION_5_0, WIRE_VERSION_6_0, WIRE_VERSION_7_0,
};
