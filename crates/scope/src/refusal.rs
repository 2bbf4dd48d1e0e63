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
    /// Whether a server says the same of one statement of a write and goes on with the others.
    is_of_statement: bool,
}

macro_rules! refusals {
    ($($(#[$doc:meta])* $function:ident = $code:literal $name:literal;)*) => {
        impl Refusal {
            $($(#[$doc])* pub fn $function(text: impl Into<String>) -> Self {
                Self { code: $code, name: $name, text: text.into(), is_of_statement: false }
            })*
        }
        /// Every code that a refusal can carry, with its name: the source of `docs/errors.md`.
        pub const REFUSAL_CODES: &[(i32, &str)] = &[$(($code, $name)),*];
    };
}

refusals! {
    /// A value that the server would not take, or a reserved field in a read.
    bad_value = 2 "BadValue";
    /// A field that must be there is not.
    no_such_key = 4 "NoSuchKey";
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
    /// A lock that is not to be had soon enough. In a transaction, which then may be tried again.
    lock_timeout = 24 "LockTimeout";
    /// No such collection.
    namespace_not_found = 26 "NamespaceNotFound";
    /// No such index.
    index_not_found = 27 "IndexNotFound";
    /// No such cursor, or not this app's.
    cursor_not_found = 43 "CursorNotFound";
    /// An id that is no UUID.
    invalid_uuid = 207 "InvalidUUID";
    /// A `$clusterTime`, or a `$geoNear`, that is no object.
    cluster_time_shape = 10065 "Location10065";
    /// A number of a transaction on a command that has none.
    unwanted_number = 50889 "Location50889";
    /// A `$changeStream` that is no object (before 6.0).
    change_stream_kind = 50808 "Location50808";
    /// A part of a name that is no string.
    wrong_name_kind = 13111 "Location13111";
    /// `$out` into a collection of servers.
    out_special = 17385 "Location17385";
    /// `$merge` into a collection of servers.
    merge_special = 31319 "Location31319";
    /// `$merge` without the name of a collection.
    merge_unnamed = 5_786_801 "Location5786801";
    /// A `$geoNear` without a place.
    near_place = 5_860_400 "Location5860400";
    /// A `$geoNear` without a place (before 6.0).
    near_place_option = 16605 "Location16605";
    /// A `$geoNear` that does not say where the distance goes.
    near_distance = 16606 "Location16606";
    /// A `$meta` in a sort that no server knows.
    sort_meta = 31138 "Location31138";
    /// The token of an `invalidate`, where only others can be resumed after.
    invalid_resume_token = 260 "InvalidResumeToken";
    /// The collection exists.
    namespace_exists = 48 "NamespaceExists";
    /// The collection exists, and a view was to be made (before 6.0).
    view_exists = 17399 "Location17399";
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
    /// A stage that writes in a view, or a collation that is not that of views on it.
    stage_in_view = 167 "OptionNotSupportedOnView";
    /// Unknown expression.
    invalid_pipeline_operator = 168 "InvalidPipelineOperator";
    /// A key pattern of several indexes.
    ambiguous_key = 181 "AmbiguousIndexKeyPattern";
    /// An index option that no server knows.
    invalid_index_option = 197 "InvalidIndexSpecificationOption";
    /// A condition on whole documents where there is none.
    query_feature_not_allowed = 224 "QueryFeatureNotAllowed";
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
    /// A name that begins with `$` where paths stand.
    dollar_name = 16410 "Location16410";
    /// An expression in a sort that is no `$meta`.
    sort_expression = 17312 "Location17312";
    /// A sort that is neither a direction nor a `$meta`.
    sort_key = 15974 "Location15974";
    /// An accumulator that no server knows.
    unknown_accumulator = 15952 "Location15952";
    /// A field of `$group` that is named like an operator.
    group_field_name = 40236 "Location40236";
    /// A `$facet` that is no object.
    facet_shape = 40169 "Location40169";
    /// A branch of `$facet` that is no array.
    facet_branch = 40170 "Location40170";
    /// A stage of a branch of `$facet` that is no object.
    facet_stage = 40171 "Location40171";
    /// An option that `$graphLookup` does not have.
    graph_lookup_option = 40104 "Location40104";
    /// A `$sort` that is no object.
    sort_shape = 15973 "Location15973";
    /// An option that `$bucket` does not have.
    bucket_option = 40197 "Location40197";
    /// An option that `$bucketAuto` does not have.
    bucket_auto_option = 40245 "Location40245";
    /// An option that `$sample` does not have.
    sample_option = 28748 "Location28748";
    /// An argument of `$meta` that no server knows.
    unknown_meta = 17308 "Location17308";
    /// A variable that no server knows.
    undefined_variable = 17276 "Location17276";
    /// An option that `$unwind` does not have.
    unwind_option = 28811 "Location28811";
    /// `$out` into something that is neither a name nor an object.
    out_kind = 16990 "Location16990";
    /// `$out` into an object of another shape.
    out_shape = 16994 "Location16994";
    /// No search here.
    search_not_enabled = 31082 "SearchNotEnabled";
    /// Unknown projection expression.
    unknown_projection = 31325 "Location31325";
    /// A `query` of `findAndModify` that is no object (4.4).
    modified_query_kind = 31160 "Location31160";
    /// A `sort` of `findAndModify` that is no object (4.4).
    modified_sort_kind = 31174 "Location31174";
    /// `fields` of `findAndModify` that are no object (4.4).
    modified_fields_kind = 31175 "Location31175";
    /// A field that `findAndModify` does not have (4.4).
    unknown_modify_field = 51177 "Location51177";
    /// A `dropDatabase` of something else than 1.
    drop_parameter = 5_255_100 "Location5255100";
    /// A path with an empty name.
    empty_name = 15998 "Location15998";
    /// A path that ends with a dot.
    dot_at_end = 40353 "Location40353";
    /// A field twice among those that `$merge` matches by.
    merge_on_repeated = 31465 "Location31465";
    /// A stage that writes in the pipeline of a `$unionWith`.
    stage_in_union = 31441 "Location31441";
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
    /// A stage that writes in a `$facet`, or one that must be first.
    stage_in_facet = 40600 "Location40600";
    /// A stage that writes, with another one behind it.
    stage_not_last = 40601 "Location40601";
    /// A stage in the wrong place.
    misplaced_stage = 40602 "Location40602";
    /// A `$geoNear` that is not first.
    near_not_first = 40603 "Location40603";
    /// A cursor of a session, asked without it.
    cursor_without_session = 50737 "Location50737";
    /// A cursor of another session.
    cursor_of_session = 50738 "Location50738";
    /// A number below the least that is allowed.
    below_minimum = 51024 "Location51024";
    /// A stage that writes in the pipeline of a `$lookup`.
    stage_in_lookup = 51047 "Location51047";
    /// `min` or `max` without a hint.
    bounds_without_hint = 51173 "Location51173";
    /// `$merge` into something that is neither a name nor an object.
    merge_into_kind = 51178 "Location51178";
    /// Fields of `$merge` to match by that are no names.
    merge_on_kind = 51186 "Location51186";
    /// No fields of `$merge` to match by.
    merge_on_empty = 51187 "Location51187";
    /// `new` among the variables of a `$merge`.
    merge_new = 51273 "Location51273";
    /// A `$meta` of something else than a name.
    meta_kind = 17307 "Location17307";
    /// A condition beside `$near` that it does not take.
    near_argument = 34413 "Location34413";
    /// The collection changes too fast for what was asked.
    conflicting_operation = 117 "ConflictingOperationInProgress";
    /// A cursor whose plan ended, with an index or a collection.
    query_plan_killed = 175 "QueryPlanKilled";
    /// A `$indexStats` with members.
    index_stats_shape = 28803 "Location28803";
    /// A `$collStats` that is no object (before 5.0).
    coll_stats_shape = 40166 "Location40166";
    /// A `$collStats` that is no object.
    coll_stats_kind = 5_447_000 "Location5447000";
    /// What `$collStats` does not have (before 5.0).
    coll_stats_option = 40168 "Location40168";
    /// A `storageStats` that is no object (before 5.0).
    storage_stats_kind = 40279 "Location40279";
    /// A scale of `storageStats` that is none (before 5.0).
    storage_stats_scale = 40280 "Location40280";
    /// A `count` of `$collStats` that is no object (before 5.0).
    coll_stats_count_kind = 40480 "Location40480";
    /// A collection without an index on `_id`.
    without_id_index = 50001 "Location50001";
}

/// In place of what the server says of a database whose name differs in case only: it names the other, which may be another
/// app's.
pub const DATABASE_CASE: &str =
    "db already exists with different case; choose a name that differs in more than case";

impl Refusal {
    /// The same in other words.
    #[must_use]
    pub fn with_text(self, text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            ..self
        }
    }

    /// The same where a server says it of one statement of a write, and goes on with the others. Never for what would break
    /// isolation: that refuses the whole command before anything is sent.
    #[must_use]
    pub(crate) fn of_statement(self) -> Self {
        Self {
            is_of_statement: true,
            ..self
        }
    }

    /// The same with what a server puts in front of it.
    pub(crate) fn behind(self, beginning: &str) -> Self {
        Self {
            text: format!("{beginning}{}", self.text),
            ..self
        }
    }

    /// Whether a server says it of one statement of a write.
    pub(crate) fn is_of_statement(&self) -> bool {
        self.is_of_statement
    }

    /// A flag of the wrong kind, in mongod's words, which set the quotation mark so.
    pub fn wrong_flag(path: &str, found: &str) -> Self {
        Self::type_mismatch(format!(
            "BSON field '{path}' is the wrong type '{found}', expected types '[bool, long, int, decimal, double']"
        ))
    }

    /// A number of the wrong kind, likewise.
    pub fn wrong_number(path: &str, found: &str) -> Self {
        Self::type_mismatch(format!(
            "BSON field '{path}' is the wrong type '{found}', expected types '[long, int, decimal, double']"
        ))
    }

    /// A field of the wrong kind, in mongod's words.
    pub fn wrong_kind(path: &str, found: &str, expected: &str) -> Self {
        Self::type_mismatch(format!(
            "BSON field '{path}' is the wrong type '{found}', expected type '{expected}'"
        ))
    }
}
