//! A policy "no", with MongoDB's code for it.

/// Why a command is not forwarded. The connection stays; nothing was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text} ({name}, {code})")]
pub struct Refusal {
    /// MongoDB's number.
    pub code: i32,
    /// MongoDB's name for the number.
    pub name: &'static str,
    /// What, why, and what to do instead; fit for the client.
    pub text: String,
}

macro_rules! refusals {
    ($($(#[$doc:meta])* $function:ident = $code:literal $name:literal;)*) => {
        impl Refusal {
            $($(#[$doc])* pub fn $function(text: impl Into<String>) -> Self {
                Self { code: $code, name: $name, text: text.into() }
            })*
        }
        /// Every code that a refusal can carry, with its name: the source of `docs/errors.md`.
        pub const REFUSAL_CODES: &[(i32, &str)] = &[$(($code, $name)),*];
    };
}

refusals! {
    /// A value that the server would not take, or a reserved field in a read.
    bad_value = 2 "BadValue";
    /// Parsing failed.
    failed_to_parse = 9 "FailedToParse";
    /// Refused by policy or by the credential's roles.
    unauthorized = 13 "Unauthorized";
    /// A field of the wrong kind.
    type_mismatch = 14 "TypeMismatch";
    /// Too deep.
    overflow = 15 "Overflow";
    /// Too many statements, or a batch without any.
    invalid_length = 16 "InvalidLength";
    /// A stage that change streams do not have.
    illegal_operation = 20 "IllegalOperation";
    /// No such collection.
    namespace_not_found = 26 "NamespaceNotFound";
    /// No such index.
    index_not_found = 27 "IndexNotFound";
    /// No such cursor, or not this app's.
    cursor_not_found = 43 "CursorNotFound";
    /// The collection exists.
    namespace_exists = 48 "NamespaceExists";
    /// The operation's time is up.
    time_exceeded = 50 "MaxTimeMSExpired";
    /// No such command.
    command_not_found = 59 "CommandNotFound";
    /// Not as the first document of an update or as an upsert.
    immutable_field = 66 "ImmutableField";
    /// The index cannot be created.
    cannot_create_index = 67 "CannotCreateIndex";
    /// An option that is not available.
    invalid_options = 72 "InvalidOptions";
    /// A name that is none.
    invalid_namespace = 73 "InvalidNamespace";
    /// No replication here.
    no_replication = 76 "NoReplicationEnabled";
    /// An index of the same options has another name.
    index_options_conflict = 85 "IndexOptionsConflict";
    /// An index of the same name has other options.
    index_key_specs_conflict = 86 "IndexKeySpecsConflict";
    /// Not for this kind of collection or command.
    command_not_supported = 115 "CommandNotSupported";
    /// `maxStalenessSeconds` too small.
    max_staleness = 160 "MaxStalenessOutOfRange";
    /// Not for views.
    not_on_view = 166 "CommandNotSupportedOnView";
    /// Unknown expression.
    invalid_pipeline_operator = 168 "InvalidPipelineOperator";
    /// An index option that no server knows.
    invalid_index_option = 197 "InvalidIndexSpecificationOption";
    /// Not inside a transaction.
    not_in_transaction = 263 "OperationNotSupportedInTransaction";
    /// A document beyond the size limit.
    object_too_large = 10334 "BSONObjectTooLarge";
    /// A database whose name differs from another's in case only.
    database_differs_in_case = 13297 "DatabaseDifferCase";
    /// A `$match` that is no object.
    match_shape = 15959 "Location15959";
    /// A `$changeStream` that is no object.
    change_stream_shape = 6_188_500 "Location6188500";
    /// A `$sort` that is no object.
    sort_shape = 15973 "Location15973";
    /// An option that `$bucket` does not have.
    bucket_option = 40197 "Location40197";
    /// An option that `$bucketAuto` does not have.
    bucket_auto_option = 40245 "Location40245";
    /// An option that `$sample` does not have.
    sample_option = 28748 "Location28748";
    /// An option that `$unwind` does not have.
    unwind_option = 28811 "Location28811";
    /// No search here.
    search_not_enabled = 31082 "SearchNotEnabled";
    /// Unknown projection expression.
    unknown_projection = 31325 "Location31325";
    /// Unknown stage.
    unknown_stage = 40324 "Location40324";
    /// A stage that is no object with one field.
    stage_shape = 40323 "Location40323";
    /// A field that stands twice.
    repeated_field = 40413 "Location40413";
    /// A required field is missing.
    missing_field = 40414 "Location40414";
    /// Unknown field.
    unknown_field = 40415 "Location40415";
    /// A stage in the wrong place.
    misplaced_stage = 40602 "Location40602";
    /// A number below the least that is allowed.
    below_minimum = 51024 "Location51024";
    /// `min` or `max` without a hint.
    bounds_without_hint = 51173 "Location51173";
}

/// In place of what the server says of a database whose name differs in case only: it names the other, which may be another
/// app's.
pub const DATABASE_CASE: &str =
    "db already exists with different case; choose a name that differs in more than case";

impl Refusal {
    /// A field of the wrong kind, in mongod's words.
    pub fn wrong_kind(path: &str, found: &str, expected: &str) -> Self {
        Self::type_mismatch(format!(
            "BSON field '{path}' is the wrong type '{found}', expected type '{expected}'"
        ))
    }
}
