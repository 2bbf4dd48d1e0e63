//! `$readPreference`, as servers read it (6.0.5).

use mdb_wire::{Document, Element, Kind};

use crate::common::of_kind;
use crate::generic::members;
use crate::index::print_value;
use crate::refusal::Refusal;
use crate::scope::no_repeats;
use crate::scoped::{ReadMode, ReadPreference, TagSet};

/// Tag sets of one read preference: mongos takes any number; no application has more than a handful.
const TAG_SETS_MAX: usize = 16;
/// The smallest `maxStalenessSeconds` that servers take, but for 0, which is none.
const STALENESS_SECONDS_MIN: i64 = 90;

const MODES: [(&str, ReadMode); 5] = [
    ("primary", ReadMode::Primary),
    ("primaryPreferred", ReadMode::PrimaryPreferred),
    ("secondary", ReadMode::Secondary),
    ("secondaryPreferred", ReadMode::SecondaryPreferred),
    ("nearest", ReadMode::Nearest),
];

/// Reads and checks a read preference. `None` means primary.
///
/// `hedge` is checked and has no effect in front of a replica set, as on its members: only a mongos could ask two.
pub(crate) fn read_preference(element: &Element<'_>) -> Result<Option<ReadPreference>, Refusal> {
    let Some(document) = element.as_document() else {
        return Err(Refusal::type_mismatch(format!(
            "$readPreference has incorrect type: expected object but got {}",
            element.kind.name()
        )));
    };
    no_repeats(document, "$readPreference")?;
    let mode = mode(document.find("mode"))?;
    let tags = document.find("tags");
    let tag_sets = tags.map_or(Ok(Vec::new()), |tags| tag_sets(&tags))?;
    let staleness = document.find("maxStalenessSeconds");
    let max_staleness_seconds = staleness.map_or(Ok(None), |limit| staleness_seconds(&limit))?;
    let hedge = document.find("hedge");
    let hedges = hedge.map_or(Ok(false), |hedge| hedges(&hedge))?;
    if mode != ReadMode::Primary {
        return Ok(Some(ReadPreference {
            mode,
            tag_sets,
            max_staleness_seconds,
        }));
    }
    if tag_sets.iter().any(|set| !set.is_empty()) || max_staleness_seconds.is_some() {
        return Err(Refusal::bad_value(if max_staleness_seconds.is_some() {
            "maxStalenessSeconds can not be set for the primary mode"
        } else {
            "Only empty tags are allowed with primary read preference"
        }));
    }
    if hedges {
        return Err(Refusal::invalid_options(
            "mode 'primary' does not allow hedge; leave it out, or set hedge.enabled to false",
        ));
    }
    Ok(None)
}

fn mode(element: Option<Element<'_>>) -> Result<ReadMode, Refusal> {
    let Some(element) = element else {
        return Err(Refusal::no_such_key("Missing expected field \"mode\""));
    };
    of_kind(&element, Kind::String)?;
    let name = element.as_string().unwrap_or_default();
    let known = MODES.iter().find(|(known, _)| known.as_bytes() == name);
    known.map(|(_, mode)| *mode).ok_or_else(|| {
        Refusal::bad_value(format!(
            "Could not parse $readPreference mode '{0}'. Only the modes 'primary', 'primaryPreferred', 'secondary', \
             'secondaryPreferred', and 'nearest' are supported. :: caused by :: Enumeration value '{0}' for field \
             'mode' is not a valid value.",
            String::from_utf8_lossy(name)
        ))
    })
}

fn staleness_seconds(element: &Element<'_>) -> Result<Option<u32>, Refusal> {
    if !matches!(
        element.kind,
        Kind::Int32 | Kind::Int64 | Kind::Double | Kind::Decimal128
    ) {
        return Err(Refusal::type_mismatch(format!(
            "Expected field \"maxStalenessSeconds\" to have numeric type, but found {}",
            element.kind.name()
        )));
    }
    match element.as_integer() {
        Some(0) => Ok(None),
        Some(seconds) if seconds >= STALENESS_SECONDS_MIN => {
            Ok(Some(u32::try_from(seconds).unwrap_or(u32::MAX)))
        }
        Some(1..) => Err(Refusal::max_staleness(
            "maxStalenessSeconds value can not be less than 90",
        )),
        Some(_) => Err(Refusal::bad_value(
            "maxStalenessSeconds must be a non-negative integer",
        )),
        None => Err(Refusal::bad_value(format!(
            "Expected field \"maxStalenessSeconds\" to have a value exactly representable as a 64-bit integer, but found \
             maxStalenessSeconds: {}",
            print_value(element)
        ))),
    }
}

/// Whether hedging is asked for, which an empty document does.
fn hedges(element: &Element<'_>) -> Result<bool, Refusal> {
    if element.kind != Kind::Document {
        return Err(Refusal::type_mismatch(format!(
            "hedge field must be of type object if provided; found hedge: {}",
            print_value(element)
        )));
    }
    members(element, &["enabled"])?;
    let enabled = element.as_document().and_then(|d| d.find("enabled"));
    match enabled {
        None => Ok(true),
        Some(flag) if flag.kind == Kind::Boolean => Ok(flag.as_flag() == Some(true)),
        Some(flag) => Err(Refusal::wrong_kind(
            "hedge.enabled",
            flag.kind.name(),
            "bool",
        )),
    }
}

fn tag_sets(element: &Element<'_>) -> Result<Vec<TagSet>, Refusal> {
    of_kind(element, Kind::Array)?;
    let array = element.as_array().unwrap_or(Document::EMPTY);
    // A server takes other values for tags that no member has.
    let wrong = || Refusal::bad_value("$readPreference.tags must hold documents of strings");
    let mut sets = Vec::new();
    for set in array.elements() {
        if sets.len() >= TAG_SETS_MAX {
            return Err(Refusal::bad_value(format!(
                "$readPreference.tags may hold {TAG_SETS_MAX} documents at most"
            )));
        }
        let set = set.as_document().ok_or_else(wrong)?;
        let tags = set.elements().map(|tag| {
            let value = tag.as_str().ok_or_else(wrong)?;
            Ok((tag.name().to_owned(), value.to_owned()))
        });
        sets.push(tags.collect::<Result<TagSet, Refusal>>()?);
    }
    Ok(sets)
}

#[cfg(test)]
mod tests {
    use bson::{Document, doc};

    use super::*;

    fn read(preference: Document) -> Result<Option<ReadPreference>, Refusal> {
        let bytes = bson::serialize_to_vec(&doc! {"p": preference}).unwrap();
        let document = mdb_wire::Document::parse(&bytes).unwrap();
        read_preference(&document.find("p").unwrap())
    }

    /// What members are chosen by.
    #[test]
    fn every_part_is_read() {
        let all = read(doc! {
            "mode": "secondaryPreferred", "maxStalenessSeconds": 120.0, "hedge": {"enabled": true},
            "tags": [{"dc": "east", "use": "reports"}, {}],
        });
        let all = all.unwrap().unwrap();
        assert_eq!(all.mode, ReadMode::SecondaryPreferred);
        assert_eq!(all.max_staleness_seconds, Some(120));
        let tag = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let east = vec![tag("dc", "east"), tag("use", "reports")];
        assert_eq!(all.tag_sets, [east, vec![]]);
        let unbounded = read(doc! {"mode": "nearest", "maxStalenessSeconds": 0_i64});
        assert_eq!(unbounded.unwrap().unwrap().max_staleness_seconds, None);
        assert_eq!(read(doc! {"mode": "primary"}), Ok(None));
    }
}
