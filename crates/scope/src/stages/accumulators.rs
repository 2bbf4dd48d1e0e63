//! What no server takes among the accumulators of `$group` and its like, and the functions of `$setWindowFields`.

use mdb_wire::{Document, Element};

use crate::operators::{EXPRESSIONS, has};
use crate::refusal::Refusal;
use crate::sight::Sight;

/// Checks the names of accumulators and window functions; what is in them is for [`crate::expression`].
///
/// # Errors
/// 15952, 40236, 9: as 4.4.2, 5.0.4 and 6.0.5.
pub(super) fn check(sight: Sight<'_>, stage: &str, body: &Element<'_>) -> Result<(), Refusal> {
    let fields = body.as_document().unwrap_or(Document::EMPTY);
    let output = fields.find("output").and_then(|e| e.as_document());
    let output = output.unwrap_or(Document::EMPTY);
    match stage {
        "$group" => fields
            .elements()
            .filter(|field| field.key != b"_id")
            .try_for_each(|field| accumulator(&field)),
        "$bucket" | "$bucketAuto" => output.elements().try_for_each(|field| accumulator(&field)),
        "$setWindowFields" => output
            .elements()
            .try_for_each(|field| window_function(sight, &field)),
        _ => Ok(()),
    }
}

fn accumulator(field: &Element<'_>) -> Result<(), Refusal> {
    if field.key.first() == Some(&b'$') {
        return Err(Refusal::group_field_name(format!(
            "The field name '{}' cannot be an operator name",
            field.name()
        )));
    }
    unknown(field).map_or(Ok(()), |operator| {
        Err(Refusal::unknown_accumulator(format!(
            "unknown group operator '{}'",
            operator.name()
        )))
    })
}

fn window_function(sight: Sight<'_>, field: &Element<'_>) -> Result<(), Refusal> {
    unknown(field).map_or(Ok(()), |function| {
        let named = match sight.wire_version() {
            WIRE_6_0.. => format!(", {}", function.name()),
            _ => String::new(),
        };
        Err(Refusal::failed_to_parse(format!(
            "Unrecognized window function{named}"
        )))
    })
}

/// `maxWireVersion` of 6.0, the first server that names the function.
const WIRE_6_0: i32 = 17;

/// The operator in front, if it is none that a server knows.
fn unknown<'a>(field: &Element<'a>) -> Option<Element<'a>> {
    let first = field.as_document()?.first()?;
    let is_operator = first.key.first() == Some(&b'$');
    let is_known =
        has(EXPRESSIONS, first.key) || crate::operators::why(EXPRESSIONS, first.key).is_some();
    (is_operator && !is_known).then_some(first)
}
