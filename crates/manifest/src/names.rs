//! Names with a grammar: slugs of apps, the scope field, the control database.

use std::fmt;

/// Why a name is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Not `[a-z0-9][a-z0-9_-]{0,62}`.
    #[error(
        "a slug has 1 to {SLUG_BYTES_MAX} of the characters a-z, 0-9, `_` and `-`, and begins with a letter or digit"
    )]
    Slug,
    /// Not usable as the scope field.
    #[error(
        "the scope field is a top-level field of 1 to {FIELD_BYTES_MAX} bytes without `.`, `$` and NUL"
    )]
    Field,
    /// `_id` cannot be the scope field.
    #[error("`_id` identifies documents and cannot be the scope field")]
    FieldIsId,
    /// Not a legal name of a database.
    #[error(
        "a database name has 1 to {DATABASE_BYTES_MAX} bytes without `/`, `\\`, `.`, `\"`, `$`, `*`, `<`, `>`, `:`, `|`, `?`, blanks and NUL"
    )]
    Database,
    /// One of `admin`, `local` and `config`.
    #[error("admin, local and config belong to MongoDB itself")]
    DatabaseReserved,
}

/// The readable name of an app, and the value of the scope field in its documents: `[a-z0-9][a-z0-9_-]{0,62}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AppSlug(String);

impl AppSlug {
    /// Refuses anything outside the grammar.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let is_letter_or_digit = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let is_legal = |byte: u8| is_letter_or_digit(byte) || byte == b'_' || byte == b'-';
        let begins_well = text.bytes().next().is_some_and(is_letter_or_digit);
        if !begins_well || text.len() > SLUG_BYTES_MAX || !text.bytes().all(is_legal) {
            return Err(NameError::Slug);
        }
        Ok(Self(text.to_owned()))
    }

    /// The slug's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The slug as the loosest collation might see it. Two apps whose slugs fold to one text cannot be told apart under
    /// every collation, so no two may be registered (scoping rules, section 2): only letters and digits; leading zeros of
    /// each run of digits dropped; `y` as `i`, `w` as `v`; repeated letters once.
    pub fn folded(&self) -> String {
        let kept: Vec<char> = self
            .0
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .map(loosened)
            .collect();
        let mut folded = String::with_capacity(kept.len());
        for (index, character) in kept.iter().copied().enumerate() {
            let before = folded.chars().next_back();
            let follows_digit = before.is_some_and(|before| before.is_ascii_digit());
            let leads_digits = kept.get(index + 1).is_some_and(char::is_ascii_digit);
            let is_leading_zero = character == '0' && !follows_digit && leads_digits;
            let is_repeated = character.is_ascii_alphabetic() && before == Some(character);
            if !is_leading_zero && !is_repeated {
                folded.push(character);
            }
        }
        folded
    }
}

impl fmt::Display for AppSlug {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A top-level field that carries the scope: 1 to 64 bytes, no `.`, no `$`, no NUL, not `_id`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FieldName(String);

impl FieldName {
    /// Refuses a name that cannot be the scope field.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if text == "_id" {
            return Err(NameError::FieldIsId);
        }
        if text.is_empty() || text.len() > FIELD_BYTES_MAX || text.contains(['.', '$', '\0']) {
            return Err(NameError::Field);
        }
        Ok(Self(text.to_owned()))
    }

    /// The field's name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for FieldName {
    /// `app_id`: says what it holds, and is seldom a field of an application's own.
    fn default() -> Self {
        Self("app_id".to_owned())
    }
}

impl fmt::Display for FieldName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A database of the deployment: a legal name that is none of the server's own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DatabaseName(String);

impl DatabaseName {
    /// Refuses an illegal name (<https://www.mongodb.com/docs/manual/reference/limits/#naming-restrictions>, the Windows
    /// rules, which are the narrower) and the server's own databases. Names of databases may not differ only in case, so
    /// `Admin` is refused with `admin`.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if text.is_empty()
            || text.len() > DATABASE_BYTES_MAX
            || text.contains(DATABASE_CHARACTERS_ILLEGAL)
        {
            return Err(NameError::Database);
        }
        if DATABASES_RESERVED
            .iter()
            .any(|reserved| reserved.eq_ignore_ascii_case(text))
        {
            return Err(NameError::DatabaseReserved);
        }
        Ok(Self(text.to_owned()))
    }

    /// The database's name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for DatabaseName {
    /// `mdb_runtime`: the program's own name.
    fn default() -> Self {
        Self("mdb_runtime".to_owned())
    }
}

impl fmt::Display for DatabaseName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Letters that some collation holds for the same.
fn loosened(character: char) -> char {
    match character {
        'y' => 'i',
        'w' => 'v',
        other => other,
    }
}

/// As long as a label of DNS, which slugs tend to become.
const SLUG_BYTES_MAX: usize = 63;

/// Every document carries the name; nobody needs a longer one.
const FIELD_BYTES_MAX: usize = 64;

/// The server: "fewer than 64 bytes".
const DATABASE_BYTES_MAX: usize = 63;

const DATABASE_CHARACTERS_ILLEGAL: [char; 13] = [
    '/', '\\', '.', ' ', '"', '$', '*', '<', '>', ':', '|', '?', '\0',
];

const DATABASES_RESERVED: [&str; 3] = ["admin", "local", "config"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs() {
        let longest = "a".repeat(63);
        for text in [
            "a",
            "0",
            "shop",
            "task_manager",
            "a-",
            "a_-9",
            longest.as_str(),
        ] {
            assert_eq!(AppSlug::parse(text).unwrap().as_str(), text);
        }
        let too_long = "a".repeat(64);
        for text in [
            "",
            "-a",
            "_a",
            "Shop",
            "a.b",
            "a b",
            "a\n",
            "ä",
            "a$",
            too_long.as_str(),
        ] {
            assert_eq!(AppSlug::parse(text), Err(NameError::Slug), "{text:?}");
        }
    }

    #[test]
    fn slugs_fold() {
        for (slug, folded) in [
            ("shop", "shop"),
            ("my-shop", "mishop"),
            ("my_shop", "mishop"),
            ("app01", "ap1"),
            ("app-1", "ap1"),
            ("app10", "ap10"),
            ("app0", "ap0"),
            ("app00", "ap0"),
            ("a0b00c", "a0b0c"),
            ("2wwyyi", "2vi"),
            ("1-01", "101"),
            ("a11", "a11"),
            ("00a", "0a"),
        ] {
            assert_eq!(AppSlug::parse(slug).unwrap().folded(), folded, "{slug}");
        }
    }

    #[test]
    fn scope_fields() {
        let longest = "f".repeat(64);
        for text in ["app_id", "App", "ä", "_ID", longest.as_str()] {
            assert_eq!(FieldName::parse(text).unwrap().as_str(), text);
        }
        let too_long = "f".repeat(65);
        for text in ["", "a.b", "$a", "a$", "a\0", too_long.as_str()] {
            assert_eq!(FieldName::parse(text), Err(NameError::Field), "{text:?}");
        }
        assert_eq!(FieldName::parse("_id"), Err(NameError::FieldIsId));
        assert_eq!(
            FieldName::parse(FieldName::default().as_str()),
            Ok(FieldName::default())
        );
    }

    #[test]
    fn databases() {
        let longest = "d".repeat(63);
        for text in ["mdb_runtime", "x-1", longest.as_str()] {
            assert_eq!(DatabaseName::parse(text).unwrap().as_str(), text);
        }
        let too_long = "d".repeat(64);
        for text in ["", "a.b", "a b", "a/b", "$x", "a\0", too_long.as_str()] {
            assert_eq!(
                DatabaseName::parse(text),
                Err(NameError::Database),
                "{text:?}"
            );
        }
        for text in ["admin", "local", "config", "Admin"] {
            assert_eq!(
                DatabaseName::parse(text),
                Err(NameError::DatabaseReserved),
                "{text}"
            );
        }
        assert_eq!(
            DatabaseName::parse(DatabaseName::default().as_str()),
            Ok(DatabaseName::default())
        );
    }
}
