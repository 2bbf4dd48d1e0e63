//! `$geoNear`: the stage that must be first, with a filter and an index of its own.

use mdb_wire::{Document, Element, Kind};

use super::foreign::output_path;
use super::{Stages, Surroundings, Within, specification};
use crate::facts::NearKey;
use crate::refusal::Refusal;
use crate::sight::Sight;
use crate::stages::{self, StageDuty};
use crate::versions::WIRE_VERSION_6_0;
use crate::{expression, filter, generic};

/// Writes the first stage if it is a `$geoNear`, and says whether it was.
pub(super) fn leads<'a>(
    around: Surroundings<'a>,
    out: &mut Stages<'_>,
    first: Option<&Element<'a>>,
) -> Result<bool, Refusal> {
    let Some(first) = first else {
        return Ok(false);
    };
    let (spec, body) = stages::look_up(first)?;
    if spec.duty != StageDuty::GeoNear {
        return Ok(false);
    }
    stage(around, out, &body)?;
    Ok(true)
}

/// Writes the stage: its `query` joined to the app's condition, its `key` said, since the server takes the field of the only
/// index that it finds, and would find those of other apps.
pub(super) fn stage<'a>(
    around: Surroundings<'a>,
    out: &mut Stages<'_>,
    body: &Element<'a>,
) -> Result<(), Refusal> {
    let sight = around.sight;
    let fields = required(sight, body)?;
    let key = out.next();
    let stage = out.w.begin_document(key.as_bytes());
    let near = out.w.begin_document(b"$geoNear");
    let mut user = None;
    for element in fields.elements() {
        match element.key {
            b"query" => user = Some(generic::document(&element, "$geoNear.query")?),
            b"key" => {
                if element.as_string().is_some_and(|k| sight.is_reserved(k)) {
                    return Err(sight.scope().reserved());
                }
                out.w.element(&element);
            }
            b"distanceField" | b"includeLocs" => {
                output_path(sight, &element)?;
                out.w.element(&element);
            }
            b"near" | b"minDistance" | b"maxDistance" | b"distanceMultiplier" => {
                expression::write(sight, out.w, element.key, &element)?;
            }
            // The last three are gone; the server says so.
            b"spherical" | b"uniqueDocs" | b"num" | b"limit" | b"start" => out.w.element(&element),
            _ => {
                return Err(Refusal::failed_to_parse(format!(
                    "unknown argument to $geoNear: {}",
                    element.name()
                )));
            }
        }
    }
    if sight.is_shared() && fields.find("key").is_none() {
        out.w.string(b"key", own_key(around)?);
    }
    if sight.is_shared() || user.is_some() {
        filter::bound(sight, out.w, b"query", around.is_collated, user)?;
    }
    out.w.end(near);
    out.w.end(stage);
    Ok(())
}

/// What a server asks for before it looks for an index (4.4.2, 5.0.4, 6.0.5).
fn required<'a>(sight: Sight<'_>, body: &Element<'a>) -> Result<Document<'a>, Refusal> {
    if body.kind != Kind::Document {
        let text = "invalid parameter: expected an object ($geoNear)";
        return Err(Refusal::cluster_time_shape(text));
    }
    let fields = specification(body, "$geoNear")?;
    if fields.find("near").is_none() {
        return Err(if sight.wire_version() < WIRE_VERSION_6_0 {
            Refusal::near_place_option("$geoNear requires a 'near' option as an Array")
        } else {
            Refusal::near_place("$geoNear requires a 'near' argument")
        });
    }
    if fields.find("distanceField").is_none() {
        let text = "$geoNear requires a 'distanceField' option as a String";
        return Err(Refusal::near_distance(text));
    }
    Ok(fields)
}

/// The field that the server would take if there were no other apps; its texts (6.0.5) if there is none.
fn own_key(around: Surroundings<'_>) -> Result<&str, Refusal> {
    match around.near {
        NearKey::Field(field) => Ok(field),
        NearKey::None => Err(Refusal::index_not_found(
            "$geoNear requires a 2d or 2dsphere index, but none were found",
        )),
        NearKey::Several(kind) => Err(Refusal::index_not_found(format!(
            "There is more than one {kind} index on {}.{}; unsure which to use for $geoNear",
            around.database, around.collection
        ))),
    }
}

/// A `$geoNear` that is not first.
pub(super) fn misplaced(around: Surroundings<'_>) -> Refusal {
    if around.within == Within::Facet {
        return Refusal::stage_in_facet("$geoNear is not allowed to be used within a $facet stage");
    }
    if around.sight.wire_version() < WIRE_VERSION_6_0 {
        return Refusal::misplaced_stage(
            "$geoNear is only valid as the first stage in a pipeline.",
        );
    }
    Refusal::near_not_first("$geoNear is only valid as the first stage in an optimized pipeline")
}
