//! MongoDB's names of error codes.

use std::borrow::Cow;

/// The name of a code, as mongod writes it into `codeName`; codes without name are `Location<code>`.
pub fn code_name(code: i32) -> Cow<'static, str> {
    NAMES.iter().find(|(known, _)| *known == code).map_or_else(
        || format!("Location{code}").into(),
        |(_, name)| Cow::Borrowed(*name),
    )
}

/// From mongod's `error_codes.yml` (6.0; 462 from 8.2).
const NAMES: &[(i32, &str)] = &[
    (1, "InternalError"),
    (2, "BadValue"),
    (4, "NoSuchKey"),
    (6, "HostUnreachable"),
    (8, "UnknownError"),
    (9, "FailedToParse"),
    (11, "UserNotFound"),
    (13, "Unauthorized"),
    (14, "TypeMismatch"),
    (15, "Overflow"),
    (16, "InvalidLength"),
    (17, "ProtocolError"),
    (18, "AuthenticationFailed"),
    (20, "IllegalOperation"),
    (22, "InvalidBSON"),
    (24, "LockTimeout"),
    (26, "NamespaceNotFound"),
    (27, "IndexNotFound"),
    (43, "CursorNotFound"),
    (48, "NamespaceExists"),
    (50, "MaxTimeMSExpired"),
    (59, "CommandNotFound"),
    (66, "ImmutableField"),
    (67, "CannotCreateIndex"),
    (72, "InvalidOptions"),
    (73, "InvalidNamespace"),
    (76, "NoReplicationEnabled"),
    (85, "IndexOptionsConflict"),
    (86, "IndexKeySpecsConflict"),
    (89, "NetworkTimeout"),
    (91, "ShutdownInProgress"),
    (115, "CommandNotSupported"),
    (117, "ConflictingOperationInProgress"),
    (121, "DocumentValidationFailure"),
    (133, "FailedToSatisfyReadPreference"),
    (146, "ExceededMemoryLimit"),
    (160, "MaxStalenessOutOfRange"),
    (166, "CommandNotSupportedOnView"),
    (167, "OptionNotSupportedOnView"),
    (168, "InvalidPipelineOperator"),
    (171, "CannotIndexParallelArrays"),
    (175, "QueryPlanKilled"),
    (181, "AmbiguousIndexKeyPattern"),
    (183, "ClientMetadataMissingField"),
    (184, "ClientMetadataAppNameTooLarge"),
    (186, "ClientMetadataCannotBeMutated"),
    (197, "InvalidIndexSpecificationOption"),
    (202, "NetworkInterfaceExceededTimeLimit"),
    (207, "InvalidUUID"),
    (224, "QueryFeatureNotAllowed"),
    (251, "NoSuchTransaction"),
    (260, "InvalidResumeToken"),
    (261, "TooManyLogicalSessions"),
    (262, "ExceededTimeLimit"),
    (263, "OperationNotSupportedInTransaction"),
    (322, "APIVersionError"),
    (323, "APIStrictError"),
    (334, "MechanismUnavailable"),
    (352, "UnsupportedOpQueryCommand"),
    (462, "IngressRequestRateLimitExceeded"),
    (10334, "BSONObjectTooLarge"),
    (11000, "DuplicateKey"),
    (13297, "DatabaseDifferCase"),
    (31082, "SearchNotEnabled"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_sorted_and_stand_once() {
        assert!(NAMES.is_sorted_by(|(one, _), (next, _)| one < next));
    }

    #[test]
    fn refusals_and_this_table_agree() {
        for (code, name) in mdb_scope::REFUSAL_CODES {
            assert_eq!(code_name(*code), *name, "{code}");
        }
    }
}
