//! Validators that apps give to collections which they share: `collMod` with `validator`, and what becomes of them.

use bson::{Document, doc};
use futures_util::TryStreamExt;
use mdb_scope::{Refusal, SharedValidator, joined_clauses};
use mdb_upstream::wait_until_free;
use mongodb::error::Error as DriverError;

use crate::control::Validation;
use crate::error::Error;
use crate::forward::Journey;
use crate::ground::Ground;
use crate::namespaces::{Known, Place};
use crate::reply;

/// Apps with a validator on one shared collection: a write compares the app with each.
const CLAUSES_MAX: usize = 500;
/// Bytes of their clauses. The server keeps them in one document of its catalog, of at most 16 MiB with all else there.
const CLAUSES_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Looks at a validator before the proxy gives up: each change of another proxy costs one.
const ROUNDS_MAX: usize = 50;

/// What `collMod` says of a validator.
const FIELDS: [&str; 3] = ["validator", "validationLevel", "validationAction"];

impl Journey<'_> {
    /// Whether a `collMod` says anything of a validator.
    pub(crate) fn says_validation(&self) -> bool {
        FIELDS
            .iter()
            .any(|field| self.command.body.find(field).is_some())
    }

    /// Does what a `collMod` of a shared collection says of its validator. Gives whether that went well; if not the reply
    /// says why.
    ///
    /// # Errors
    /// 72 for a level that the server has for a whole collection only, beside an operator's validator, and beyond the limits.
    pub(crate) async fn modify_validation(
        &self,
        place: Place<'_>,
        known: &Known,
        out: &mut Vec<u8>,
    ) -> Result<bool, Error> {
        let before = self.validation_of(place).await?;
        let validation = self.validation_after(before)?;
        let has_clause = known.facts.validator == SharedValidator::Own;
        if validation.clause.is_some() || has_clause {
            let control = place.control();
            let app = self.scope.app();
            let others = control.clauses(place.database, place.collection, Some(app));
            let mut clauses = self.driver(others).await?;
            clauses.extend(validation.clause.clone());
            check_clauses(known, &clauses)?;
            let ground = Ground::of(&known.facts);
            let mut scoped = self.with_facts(ground, |facts| {
                self.scope
                    .set_validator(self.spec, self.command, facts, &clauses)
            })?;
            self.wait_until_free(place).await?;
            if !self.exchange(&mut scoped, ground, out).await?.is_ok {
                return Ok(false);
            }
        }
        self.define_validation(place, Some(&validation)).await?;
        if !has_clause && validation.clause.is_none() {
            reply::ok(out, |_| {});
        }
        Ok(true)
    }

    /// What documents of a shared collection must be like now, as the app's lists show it.
    pub(crate) async fn validation_of(&self, place: Place<'_>) -> Result<Option<Document>, Error> {
        let control = place.control();
        let entry = control.entry(self.scope.app(), place.database, place.collection);
        let entry = self.driver(entry).await?;
        Ok(entry.and_then(|entry| entry.validation))
    }

    /// What documents must be like after this `collMod`.
    fn validation_after(&self, before: Option<Document>) -> Result<Validation, Error> {
        let body = Document::from_reader(self.command.body.bytes()).unwrap_or_default();
        let before = before.unwrap_or_default();
        let said = |field: &str| body.get(field).or(before.get(field));
        let validator = said("validator")
            .and_then(|validator| validator.as_document())
            .filter(|validator| !validator.is_empty());
        let level = said("validationLevel").and_then(|level| level.as_str());
        let level = level.unwrap_or("strict");
        let action = said("validationAction").and_then(|action| action.as_str());
        let action = action.unwrap_or("error");
        let mut shown = Document::new();
        if let Some(validator) = validator {
            shown.insert("validator", validator.clone());
        }
        shown.extend(doc! {"validationLevel": level, "validationAction": action});
        let Some(validator) = validator else {
            return Ok(Validation {
                shown,
                clause: None,
            });
        };
        let is_enforced = level != "off" && action == "error";
        if is_enforced && level == "moderate" {
            return Err(Refusal::invalid_options(
                "a validator of a shared collection is 'strict' or 'off': servers know a document that was there before for a whole collection only; make the collection dedicated in the app's manifest before it is created",
            ).into());
        }
        let bytes = validator.to_vec().unwrap_or_default();
        let validator = mdb_wire::Document::parse(&bytes).unwrap_or(mdb_wire::Document::EMPTY);
        let wire_version = self.hello.as_ref().map_or(0, |h| h.wire_version_max);
        let clause = self
            .scope
            .validator_clause(validator, is_enforced, wire_version)?;
        Ok(Validation {
            shown,
            clause: Some(clause),
        })
    }

    /// Writes down what documents of a shared collection must be like, and makes it so.
    pub(crate) async fn define_validation(
        &self,
        place: Place<'_>,
        validation: Option<&Validation>,
    ) -> Result<(), Error> {
        let control = place.control();
        let app = self.scope.app();
        let at = (place.database, place.collection);
        let define = control.define_validation(app, at, validation);
        self.driver(define).await?;
        self.at_length(settle(place)).await?;
        self.forward.namespaces.forget(place);
        self.tell_changed(place).await
    }
}

fn check_clauses(known: &Known, clauses: &[Vec<u8>]) -> Result<(), Refusal> {
    if known.facts.validator == SharedValidator::Foreign {
        return Err(Refusal::invalid_options(
            "the shared collection has a validator of its operator, beside which an app has none of its own; make the collection dedicated in the app's manifest before it is created",
        ));
    }
    let bytes: usize = clauses.iter().map(Vec::len).sum();
    if clauses.len() > CLAUSES_MAX || bytes > CLAUSES_BYTES_MAX {
        return Err(Refusal::invalid_options(format!(
            "the validator does not fit: of a shared collection there are at most {CLAUSES_MAX}, of {CLAUSES_BYTES_MAX} bytes in all; make the collection dedicated in the app's manifest before it is created"
        )));
    }
    Ok(())
}

/// Gives the physical collection the validator that the catalog says. As proxies may do so at the same time, it is looked at
/// again behind each change: whoever comes last sees what all have written down.
pub(crate) async fn settle(place: Place<'_>) -> Result<(), DriverError> {
    for _ in 0..ROUNDS_MAX {
        if settle_once(place).await? {
            return Ok(());
        }
    }
    tracing::warn!(
        namespace = format!("{}.{}", place.database, place.collection),
        "the validator of a shared collection is still not the one that its apps have asked for: it is changed elsewhere, again and again"
    );
    Ok(())
}

/// One look, and a change where it is needed. Gives whether none was.
async fn settle_once(place: Place<'_>) -> Result<bool, DriverError> {
    let database = place.client.database(place.database);
    let clauses = place
        .control()
        .clauses(place.database, place.collection, None)
        .await?;
    let wanted = joined_clauses(&clauses);
    let list = doc! {"listCollections": 1, "filter": {"name": place.collection}};
    let mut found = database.run_cursor_command(list).await?;
    let Some(collection) = found.try_next().await? else {
        return Ok(true);
    };
    let validator = validator_of(&collection).unwrap_or_default();
    // By their bytes: a number that is none is not equal to itself. One that an operator has put in its place stays.
    if bson::serialize_to_vec(&validator)? == wanted
        || shared_validator(place, &collection) == SharedValidator::Foreign
    {
        return Ok(true);
    }
    wait_until_free(&database, place.collection).await?;
    let wanted: Document = bson::deserialize_from_slice(&wanted)?;
    let change = doc! {
        "collMod": place.collection, "validator": wanted,
        "validationLevel": "strict", "validationAction": "error",
    };
    database.run_command(change).await?;
    Ok(false)
}

/// The validator of a collection, as `listCollections` shows it.
fn validator_of(collection: &Document) -> Option<Document> {
    let options = collection.get_document("options").ok()?;
    options.get_document("validator").ok().cloned()
}

/// Whose rules it has.
pub(crate) fn shared_validator(place: Place<'_>, collection: &Document) -> SharedValidator {
    let bytes = validator_of(collection).and_then(|validator| validator.to_vec().ok());
    let validator = bytes
        .as_deref()
        .and_then(|bytes| mdb_wire::Document::parse(bytes).ok());
    validator.map_or(SharedValidator::Others, |validator| {
        SharedValidator::read(place.scope, validator)
    })
}
