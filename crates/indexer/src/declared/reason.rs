//! Why an index is not there, in words that hold no value of a document.

use std::fmt;

use bson::Document;

/// Why an index could not be built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// The server's code, or the proxy's.
    pub code: i32,
    /// For people. No value of a document stands in it, and no other app's name.
    pub text: String,
}

/// The server can make no such index, or no further one.
pub(crate) const CANNOT_CREATE_INDEX: i32 = 67;

/// Codes whose texts speak of definitions alone; the others may quote documents.
const ABOUT_DEFINITIONS: &[i32] = &[2, 67, 72, 85, 86, 166, 197];

/// What is said instead of the server's text.
const TEXTS: &[(i32, &str)] = &[
    (8, "the deployment refused it; its reason is in the log"),
    (171, "a document holds arrays in two of its fields"),
    (11000, "documents of the app hold the same values"),
    (13027, "a document holds no valid place in its field"),
    (16755, "a document holds no valid geometry in its field"),
    (16766, "a document holds an array in its field"),
    (17261, "a document's language is no text"),
    (17262, "a document's language is not known"),
];

/// What is said of a collection with 64 indexes, and what is said instead (67).
const FULL: (&str, &str) = (
    "too many indexes",
    "the collection has 64 indexes, of all apps together: MongoDB takes no more",
);

/// How much of a text is shown.
const TEXT_CHARS_MAX: usize = 300;

impl Reason {
    /// From a reply that says `ok: 0`.
    pub(crate) fn of_reply(reply: &Document) -> Self {
        let code = reply.get_i32("code").unwrap_or_default();
        let said = TEXTS.iter().find(|(known, _)| *known == code);
        let errmsg = reply.get_str("errmsg").unwrap_or_default();
        let text = match said {
            Some((_, text)) => (*text).to_owned(),
            None if code == CANNOT_CREATE_INDEX && errmsg.contains(FULL.0) => FULL.1.to_owned(),
            None if ABOUT_DEFINITIONS.contains(&code) => {
                errmsg.chars().take(TEXT_CHARS_MAX).collect()
            }
            None => {
                let name = reply.get_str("codeName").unwrap_or("an error");
                format!("the deployment refused it: {name}")
            }
        };
        Self { code, text }
    }

    /// As a server without search says it.
    pub(crate) fn no_search() -> Self {
        Self {
            code: 31082,
            text: "search indexes are not available: no stage that searches them is served"
                .to_owned(),
        }
    }

    pub(crate) fn differs() -> Self {
        Self {
            code: 85,
            text:
                "the app has an index of this name that is hidden, or not hidden, unlike this one"
                    .to_owned(),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.text, self.code)
    }
}

/// Whether a reply says that there is another index in the way: of this name, or of this kind.
pub(crate) fn is_conflict(reply: &Document) -> bool {
    matches!(reply.get_i32("code"), Ok(85 | 86))
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    #[test]
    fn values_of_documents_are_left_out() {
        for (reply, expected) in [
            (
                doc! {"code": 11000, "errmsg": "E11000 dup key: { z: \"secret\" }"},
                "documents of the app hold the same values (11000)",
            ),
            (
                doc! {"code": 4711, "codeName": "Odd", "errmsg": "secret"},
                "the deployment refused it: Odd (4711)",
            ),
            (
                doc! {"code": 67, "errmsg": "no such kind"},
                "no such kind (67)",
            ),
            (
                doc! {"code": 67, "errmsg": "add index fails, too many indexes for shop.c@a key:{ x: 1 }"},
                "the collection has 64 indexes, of all apps together: MongoDB takes no more (67)",
            ),
        ] {
            assert_eq!(Reason::of_reply(&reply).to_string(), expected);
        }
    }
}
