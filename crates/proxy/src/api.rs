//! The Stable API, for commands that the proxy answers itself. The upstream checks the others.

use mdb_scope::CommandSpec;
use mdb_wire::Document;

use crate::error::ApiError;

/// Checks `apiVersion`, `apiStrict` and `apiDeprecationErrors` of a local command as mongod does.
pub(crate) fn check(spec: &CommandSpec, body: Document<'_>) -> Result<(), ApiError> {
    let (mut version, mut is_strict, mut asks_for_more) = (None, false, false);
    for element in body.elements() {
        match element.key {
            b"apiVersion" => version = Some(element),
            b"apiStrict" => {
                asks_for_more = true;
                is_strict = element.as_flag() == Some(true);
            }
            b"apiDeprecationErrors" => asks_for_more = true,
            _ => {}
        }
    }
    match version {
        Some(version) if version.as_string() != Some(b"1") => Err(ApiError::Version),
        Some(_) if is_strict && !IN_VERSION_1.contains(&spec.name) => {
            Err(ApiError::Strict(spec.name))
        }
        None if asks_for_more => Err(ApiError::NoVersion),
        Some(_) | None => Ok(()),
    }
}

/// The local commands of API version 1 (MongoDB manual, "Stable API").
const IN_VERSION_1: &[&str] = &["hello", "ping", "saslStart", "saslContinue"];

#[cfg(test)]
mod tests {
    use super::*;
    use bson::doc;

    #[test]
    fn local_commands_obey_the_stable_api() {
        let cases = [
            (doc! {"ping": 1}, Ok(())),
            (
                doc! {"ping": 1, "apiVersion": "1", "apiStrict": true},
                Ok(()),
            ),
            (doc! {"ping": 1, "apiVersion": "2"}, Err(ApiError::Version)),
            (doc! {"ping": 1, "apiVersion": 1}, Err(ApiError::Version)),
            (
                doc! {"ping": 1, "apiStrict": true},
                Err(ApiError::NoVersion),
            ),
            (
                doc! {"ping": 1, "apiDeprecationErrors": false},
                Err(ApiError::NoVersion),
            ),
            (
                doc! {"buildInfo": 1, "apiVersion": "1", "apiStrict": false},
                Ok(()),
            ),
            (
                doc! {"buildInfo": 1, "apiVersion": "1", "apiStrict": true},
                Err(ApiError::Strict("buildInfo")),
            ),
        ];
        for (body, expected) in cases {
            let bytes = bson::serialize_to_vec(&body).unwrap();
            let body_read = Document::parse(&bytes).unwrap();
            let spec = mdb_scope::look_up(body_read.first().unwrap().key, "admin").unwrap();
            assert_eq!(check(spec, body_read), expected, "{body}");
        }
    }
}
