//! The unit of isolation.

use std::fmt;
use std::sync::Arc;

/// The slug of an app, checked: `[a-z0-9][a-z0-9_-]{0,62}`. Cheap to clone.
///
/// The grammar keeps it free of everything that an index name, a regular expression or a BSON string could
/// read as something else.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AppId(Arc<str>);

/// Bytes of the longest slug.
pub const SLUG_BYTES_MAX: usize = 63;

/// A text that is no slug.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no slug: 1 to 63 of a-z, 0-9, _ and -, the first a letter or a digit")]
pub struct SlugError(pub String);

impl AppId {
    /// Checks a slug.
    pub fn parse(slug: &str) -> Result<Self, SlugError> {
        let first = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
        let legal = slug.len() <= SLUG_BYTES_MAX
            && slug.bytes().next().is_some_and(first)
            && slug.bytes().all(|c| first(c) || matches!(c, b'_' | b'-'));
        if legal {
            Ok(Self(slug.into()))
        } else {
            Err(SlugError(slug.to_owned()))
        }
    }

    /// The slug.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AppId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs() {
        let long = "a".repeat(63);
        for good in ["a", "0", "task_manager", "a-b", long.as_str()] {
            assert!(AppId::parse(good).is_ok(), "{good}");
        }
        let too_long = "a".repeat(64);
        for bad in [
            "",
            "A",
            "_a",
            "-a",
            "a.b",
            "a b",
            "é",
            "a\n",
            "a\0",
            too_long.as_str(),
        ] {
            assert!(AppId::parse(bad).is_err(), "{bad:?}");
        }
    }
}
