//! A message read as a command.

use crate::bson::{Document, Element, Kind};
use crate::message::{Message, Sequence};

/// Why a message is no command. The connection can go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// `{}` as a command inside another.
    #[error("no command name")]
    Empty,
    /// `$db` is missing.
    #[error("OP_MSG requests require a $db argument")]
    NoDatabase,
    /// `$db` is no string, but of this kind.
    #[error("wrong type for field ($db) {0} != string")]
    DatabaseKind(&'static str),
    /// `$db` is not a legal database name.
    #[error("Invalid database name: '{0}'")]
    Database(String),
    /// A field stands twice in the body.
    #[error("Command contains duplicate field '{0}'; a field may stand once only")]
    RepeatedField(String),
    /// Two document sequences of one name.
    #[error("Duplicate document sequence: {0}")]
    RepeatedSequence(String),
    /// A document sequence and a field of one name.
    #[error("Document sequence '{0}' also stands in the body")]
    SequenceInBody(String),
}

impl CommandError {
    /// The code that mongod answers with (6.0.5).
    pub fn code(&self) -> i32 {
        match self {
            Self::Empty => 59,
            Self::NoDatabase => 40571,
            Self::DatabaseKind(_) => 13111,
            Self::Database(_) => 73,
            Self::RepeatedField(_) => 40413,
            Self::RepeatedSequence(_) => 40431,
            Self::SequenceInBody(_) => 40433,
        }
    }
}

/// A command, borrowed from its message: a name, a database, and fields of which none stands twice.
#[derive(Debug, Clone, Copy)]
pub struct Command<'a> {
    /// The name as the client wrote it.
    pub name: &'a [u8],
    /// The name's value: the collection of most commands.
    pub target: Element<'a>,
    /// `$db`.
    pub database: &'a str,
    /// The body, name and `$db` included.
    pub body: Document<'a>,
    message: Option<&'a Message>,
}

/// Bytes of a database name (mongod's limit).
const DATABASE_BYTES_MAX: usize = 63;

impl<'a> Command<'a> {
    /// Reads a message as a command.
    pub fn parse(message: &'a Message) -> Result<Self, CommandError> {
        let body = message.body();
        // What servers miss first.
        let target = body.first().ok_or(CommandError::NoDatabase)?;
        if let Some(key) = body.repeated_key() {
            return Err(CommandError::RepeatedField(text(key)));
        }
        let mut seen: Vec<&[u8]> = Vec::new();
        for sequence in message.sequences() {
            if seen.contains(&sequence.name) {
                return Err(CommandError::RepeatedSequence(text(sequence.name)));
            }
            if body.elements().any(|e| e.key == sequence.name) {
                return Err(CommandError::SequenceInBody(text(sequence.name)));
            }
            seen.push(sequence.name);
        }
        let database = body.find("$db").ok_or(CommandError::NoDatabase)?;
        Ok(Self {
            name: target.key,
            target,
            database: legal_database(&database)?,
            body,
            message: Some(message),
        })
    }

    /// A command without message of its own: the one inside an `explain`. It has no sequences.
    pub fn inner(body: Document<'a>, database: &'a str) -> Result<Self, CommandError> {
        let target = body.first().ok_or(CommandError::Empty)?;
        if let Some(key) = body.repeated_key() {
            return Err(CommandError::RepeatedField(text(key)));
        }
        Ok(Self {
            name: target.key,
            target,
            database,
            body,
            message: None,
        })
    }

    /// Its document sequences.
    pub fn sequences(&self) -> impl Iterator<Item = Sequence<'a>> {
        self.message.into_iter().flat_map(Message::sequences)
    }

    /// Whether it has the document sequence `name`, and its documents.
    pub fn sequence(&self, name: &str) -> Option<Sequence<'a>> {
        self.sequences().find(|s| s.name == name.as_bytes())
    }

    /// Bytes of the whole message.
    pub fn message_bytes(&self) -> usize {
        self.message.map_or(self.body.bytes().len(), Message::len)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The rules of mongod for database names: not empty, at most 63 bytes, none of `/\. "$` and no zero byte.
pub fn is_legal_database(name: &str) -> bool {
    let illegal = |c: char| matches!(c, '/' | '\\' | '.' | ' ' | '"' | '$' | '\0');
    !name.is_empty() && name.len() <= DATABASE_BYTES_MAX && !name.contains(illegal)
}

fn legal_database<'a>(element: &Element<'a>) -> Result<&'a str, CommandError> {
    if element.kind != Kind::String {
        return Err(CommandError::DatabaseKind(element.kind.name()));
    }
    match element.as_str() {
        Some("$external") => Ok("$external"),
        Some(name) if is_legal_database(name) => Ok(name),
        other => Err(CommandError::Database(
            other.unwrap_or_default().chars().take(64).collect(),
        )),
    }
}

#[cfg(test)]
mod tests;
