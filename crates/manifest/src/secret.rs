//! Secrets: a literal text, `{ env: NAME }` or `{ file: PATH }`.
//!
//! No problem reported here holds the value of a secret, whole or in part.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use mdb_auth::Secret;

use crate::file;
use crate::reader::{Field, quoted};
use crate::yaml::Kind;

/// Where references to secrets lead.
pub(crate) struct Secrets<'e> {
    /// Relative paths begin here: the directory of the file that names them.
    pub(crate) directory: &'e Path,
    pub(crate) environment: &'e dyn Fn(&str) -> Option<String>,
    /// Which files were asked for, also those that could not be read.
    pub(crate) files: &'e RefCell<BTreeSet<PathBuf>>,
}

impl Secrets<'_> {
    /// The secret at `field`. A literal text is taken with a warning if `is_secret` says that it holds something secret.
    pub(crate) fn read(&self, field: &Field<'_>, is_secret: fn(&str) -> bool) -> Option<Secret> {
        let value = match field.kind() {
            Kind::Text(text) => {
                if is_secret(text) {
                    field.warning("literal secret; use { env: NAME } or { file: PATH }");
                }
                non_empty(field, text.clone(), "the secret is empty")?
            }
            Kind::Mapping(_) => self.referred(field)?,
            _ => {
                field.error("expected { env: NAME }, { file: PATH } or a text in quotes");
                return None;
            }
        };
        if value.len() as u64 > SECRET_BYTES_MAX {
            field.error(&format!(
                "the secret is larger than {SECRET_BYTES_MAX} bytes"
            ));
            return None;
        }
        Some(Secret::new(value))
    }

    fn referred(&self, field: &Field<'_>) -> Option<String> {
        let section = field.open_mapping()?;
        let mut references = section.fields();
        match (references.next(), references.next()) {
            (Some(reference), None) if reference.key() == "env" => self.of_environment(&reference),
            (Some(reference), None) if reference.key() == "file" => self.of_file(&reference),
            // The keys are not repeated: one of them may be a secret that stands in the wrong place.
            _ => {
                field.error("expected exactly one of { env: NAME } and { file: PATH }");
                None
            }
        }
    }

    fn of_environment(&self, reference: &Field<'_>) -> Option<String> {
        let name = reference.text()?;
        let Some(value) = (self.environment)(name) else {
            reference.error(&format!(
                "the environment variable {} is not set",
                quoted(name)
            ));
            return None;
        };
        non_empty(
            reference,
            value,
            &format!("the environment variable {} is empty", quoted(name)),
        )
    }

    fn of_file(&self, reference: &Field<'_>) -> Option<String> {
        let path = reference.text()?;
        let shown = quoted(path);
        let file = self.directory.join(path);
        self.files.borrow_mut().insert(file.clone());
        let bytes = match file::read(&file, SECRET_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) => {
                reference.error(&format!("the file {shown} {error}"));
                return None;
            }
        };
        let Ok(mut text) = String::from_utf8(bytes) else {
            reference.error(&format!("the file {shown} is not UTF-8"));
            return None;
        };
        // Editors and `echo` end a file with a line break that nobody means as part of the secret.
        let end = text.strip_suffix('\n').map_or(text.len(), |line| {
            line.strip_suffix('\r').unwrap_or(line).len()
        });
        text.truncate(end);
        non_empty(reference, text, &format!("the file {shown} is empty"))
    }
}

/// Every literal password is a secret.
pub(crate) fn always(_literal: &str) -> bool {
    true
}

/// Whether a connection string holds a password or token. Sees one too many rather than one too few.
pub(crate) fn in_uri(literal: &str) -> bool {
    let rest = literal.split_once("://").map_or(literal, |(_, rest)| rest);
    let has_password = rest
        .rsplit_once('@')
        .is_some_and(|(user, _)| user.contains(':'));
    let options = rest
        .split_once('?')
        .map_or("", |(_, options)| options)
        .to_ascii_lowercase();
    has_password || options.contains("password") || options.contains("token")
}

fn non_empty(field: &Field<'_>, value: String, problem: &str) -> Option<String> {
    if value.is_empty() {
        field.error(problem);
        return None;
    }
    Some(value)
}

/// A connection string with twenty seeds has about 1 KiB; a file beyond this is not a secret but a mistake.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::in_uri;

    #[test]
    fn passwords_and_tokens_in_uris() {
        for (uri, expected) in [
            ("mongodb://localhost:27017", false),
            ("mongodb://a:1,b:2/?replicaSet=rs", false),
            (
                "mongodb://user@localhost:27017/?authMechanism=MONGODB-X509",
                false,
            ),
            ("mongodb+srv://cluster.example.net", false),
            ("mongodb://user:word@localhost", true),
            ("mongodb://user:w/rd@localhost", true),
            (
                "mongodb://a/?authMechanismProperties=AWS_SESSION_TOKEN:x",
                true,
            ),
            ("mongodb://a/?tlsCertificateKeyFilePassword=x", true),
        ] {
            assert_eq!(in_uri(uri), expected, "{uri}");
        }
    }
}
