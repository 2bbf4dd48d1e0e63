//! Statements of a write that are refused while the others are executed, as a server does with what it cannot parse.
//!
//! In place of such a statement goes one that every server refuses before it does anything. So the server keeps all that
//! depends on it: the order, transactions, numbers of statements that are sent again. In its reply the error of that
//! statement is replaced by the refusal.

use mdb_wire::{Document, Element, Writer};

use crate::arguments::Take;
use crate::body::Body;
use crate::filter;
use crate::refusal::Refusal;

/// What the texts of one reply may take, in bytes: a server, too, leaves them empty beyond, since they could grow a reply of
/// 100,000 errors past the size of a document.
const TEXT_BYTES_MAX: usize = 1024 * 1024;

/// A statement that was refused alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Its place in the client's command.
    pub place: usize,
    /// What is said of it.
    pub refusal: Refusal,
}

/// Writes a document or statement that no server takes, for the sequence of `take`. Were one to take it, it would do nothing:
/// the statement finds no document, and the document is the app's.
pub(crate) fn substitute(body: &Body<'_, '_>, w: &mut Writer, take: Take) -> Result<(), Refusal> {
    let mark = w.begin();
    if take == Take::Documents {
        // `_id` may not be an array.
        let id = w.begin_array(b"_id");
        w.end(id);
        body.scope.stamp(w);
    } else {
        let nothing = nothing();
        let user = Document::parse_shallow(&nothing).unwrap_or(Document::EMPTY);
        filter::bound(body.sight(), w, b"q", false, Some(user))?;
        if take == Take::Updates {
            let update = w.begin_document(b"u");
            let operator = w.begin_document(b"$setOnInsert");
            w.end(operator);
            w.end(update);
        } else {
            w.int32(b"limit", 1);
        }
    }
    w.end(mark);
    Ok(())
}

/// `{$nor: [{}], $or: []}`: the first holds for nothing, the second is refused (4.4 to 6.0).
fn nothing() -> Vec<u8> {
    let mut w = Writer::default();
    let filter = w.begin();
    let nor = w.begin_array(b"$nor");
    w.document(b"0", Document::EMPTY);
    w.end(nor);
    let or = w.begin_array(b"$or");
    w.end(or);
    w.end(filter);
    w.into_bytes()
}

/// A reply to a write in which the errors of refused statements say why they were refused. Its places are those of the
/// client's command.
pub fn with_refused(reply: Document<'_>, refused: &[Refused]) -> Vec<u8> {
    let mut w = Writer::default();
    let mut left = TEXT_BYTES_MAX;
    let mark = w.begin();
    for element in reply.elements() {
        match element.as_array().filter(|_| element.key == b"writeErrors") {
            None => w.element(&element),
            Some(errors) => {
                let array = w.begin_array(element.key);
                for error in errors.elements() {
                    match refusal_of(&error, refused) {
                        Some(said) => write_error(&mut w, &error, said, &mut left),
                        None => w.element(&error),
                    }
                }
                w.end(array);
            }
        }
    }
    w.end(mark);
    w.into_bytes()
}

fn refusal_of<'r>(error: &Element<'_>, refused: &'r [Refused]) -> Option<&'r Refused> {
    let place = error.as_document()?.find("index")?.as_integer()?;
    let place = usize::try_from(place).ok()?;
    let found = refused.binary_search_by_key(&place, |refused| refused.place);
    refused.get(found.ok()?)
}

fn write_error(w: &mut Writer, error: &Element<'_>, said: &Refused, left: &mut usize) {
    let document = w.begin_document(error.key);
    w.int32(b"index", i32::try_from(said.place).unwrap_or(i32::MAX));
    w.int32(b"code", said.refusal.code);
    let text = said.refusal.text.as_str();
    let fits = text.len() <= *left;
    *left = left.saturating_sub(text.len());
    w.string(b"errmsg", if fits { text } else { "" });
    w.end(document);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(place: usize, text: &str) -> Refused {
        let refusal = Refusal::bad_value(text).of_statement();
        Refused { place, refusal }
    }

    /// `(index, code, errmsg)` of a reply to errors at these places.
    fn told(places: &[i32], refused: &[Refused]) -> Vec<(i64, i64, String)> {
        let mut w = Writer::default();
        let mark = w.begin();
        let array = w.begin_array(b"writeErrors");
        for place in places {
            let error = w.begin_document(b"0");
            w.int32(b"index", *place);
            w.int32(b"code", 11000);
            w.string(b"errmsg", "E11000");
            w.end(error);
        }
        w.end(array);
        w.int32(b"n", 1);
        w.end(mark);
        let reply = w.into_bytes();
        let reply = with_refused(Document::parse(&reply).unwrap(), refused);
        let reply = Document::parse(&reply).unwrap();
        assert_eq!(reply.find("n").unwrap().as_integer(), Some(1));
        let errors = reply.find("writeErrors").unwrap().as_array().unwrap();
        let told = errors.elements().map(|error| {
            let error = error.as_document().unwrap();
            let integer = |name| error.find(name).unwrap().as_integer().unwrap();
            let text = error.find("errmsg").unwrap().as_str().unwrap().to_owned();
            (integer("index"), integer("code"), text)
        });
        told.collect()
    }

    #[test]
    fn errors_of_refused_statements_say_why_and_others_stay() {
        let told = told(&[1, 2, 5], &[refused(2, "no"), refused(5, "never")]);
        let of = |place, code, text: &str| (place, code, text.to_owned());
        let expected = [of(1, 11000, "E11000"), of(2, 2, "no"), of(5, 2, "never")];
        assert_eq!(told, expected);
    }

    #[test]
    fn texts_beyond_a_limit_are_left_empty() {
        let long = "x".repeat(TEXT_BYTES_MAX - 1);
        let all = [refused(0, &long), refused(1, "xy"), refused(2, "x")];
        let lengths = told(&[0, 1, 2], &all);
        let lengths: Vec<usize> = lengths.iter().map(|(_, _, text)| text.len()).collect();
        assert_eq!(lengths, [TEXT_BYTES_MAX - 1, 0, 0]);
    }
}
