//! Validators of apps on a collection that they share. Its one physical validator has a clause for each of them, and each
//! clause holds for every document but its app's: `{$and: [{$or: [{FIELD: {$ne: SLUG}}, VALIDATOR]}, ...]}`.

use mdb_wire::writer::IndexKey;
use mdb_wire::{Command, Document, Element, Kind, Writer};

use crate::apply::{begin, seal};
use crate::body::Body;
use crate::commands::CommandSpec;
use crate::facts::{Facts, Isolation};
use crate::index::definition_outcome;
use crate::namespace;
use crate::refusal::Refusal;
use crate::scope::{FieldName, Scope, no_repeats};
use crate::scoped::Scoped;
use crate::sight::Sight;
use crate::{expression, filter};

/// What a server puts in front of what is wrong with a validator (4.4.2, 5.0.4, 6.0.5).
const BEHIND: &str = "Parsing of collection validator failed :: caused by :: ";

/// Levels of conjunctions in a physical validator and in what a server tells of it, of which the app's clause is one.
const CLAUSE_DEPTH_MAX: usize = 3;

/// Whose rules the physical validator of a shared collection has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SharedValidator {
    /// None of the app: there is none, or clauses of other apps only.
    #[default]
    Others,
    /// A clause of the app, and nothing but clauses of apps.
    Own,
    /// An operator's.
    Foreign,
}

impl SharedValidator {
    /// Reads a physical validator.
    pub fn read(scope: &Scope, validator: Document<'_>) -> Self {
        if validator.is_empty() {
            return Self::Others;
        }
        let slugs = clause_slugs(scope.field(), validator);
        match slugs {
            None => Self::Foreign,
            Some(slugs) if slugs.contains(&scope.app().as_str().as_bytes()) => Self::Own,
            Some(_) => Self::Others,
        }
    }
}

/// Whose the clauses of a physical validator are; `None` if it has anything else.
fn clause_slugs<'v>(field: &FieldName, validator: Document<'v>) -> Option<Vec<&'v [u8]>> {
    let clauses = only(validator).filter(|all| all.key == b"$and")?;
    let slug = |clause: Element<'v>| {
        let branches = only(clause.as_document()?).filter(|any| any.key == b"$or")?;
        let first = branches.as_array()?.first()?.as_document()?;
        let condition = only(first).filter(|c| c.key == field.as_str().as_bytes())?;
        let unequal = only(condition.as_document()?).filter(|o| o.key == b"$ne")?;
        unequal.as_string()
    };
    clauses.as_array()?.elements().map(slug).collect()
}

/// The element of a document that has no other.
fn only(document: Document<'_>) -> Option<Element<'_>> {
    let mut elements = document.elements();
    elements.next().filter(|_| elements.next().is_none())
}

impl Scope {
    /// The clause of a validator, a document. One that is not enforced is read by the server all the same, and holds for the
    /// app's documents as well.
    ///
    /// # Errors
    /// Those of a filter behind the words that servers put in front, 72 for what would observe the scope field.
    pub fn validator_clause(
        &self,
        validator: Document<'_>,
        is_enforced: bool,
        wire_version: i32,
    ) -> Result<Vec<u8>, Refusal> {
        let sight = Sight::of(self, Isolation::Shared, wire_version);
        let behind = |refusal: Refusal| refusal.behind(BEHIND);
        no_repeats(validator, "a validator")?;
        let mut w = Writer::default();
        let clause = w.begin();
        let branches = w.begin_array(b"$or");
        let other = w.begin_document(b"0");
        let unequal = w.begin_document(self.field().as_str().as_bytes());
        w.string(b"$ne", self.app().as_str());
        w.end(unequal);
        w.end(other);
        let mut place = 1;
        if !is_enforced {
            let own = w.begin_document(b"1");
            self.stamp(&mut w);
            w.end(own);
            place = 2;
        }
        let rule = w.begin_document(IndexKey::new(place).as_bytes());
        for element in validator.elements() {
            if let Some(schema) = self.closing_schema(&element) {
                self.open(&mut w, sight, schema).map_err(behind)?;
                continue;
            }
            let mut alone = Writer::default();
            let mark = alone.begin();
            alone.element(&element);
            alone.end(mark);
            let bytes = alone.into_bytes();
            let alone = Document::parse(&bytes).unwrap_or(Document::EMPTY);
            check_expressions(sight, alone)?;
            filter::write(sight, &mut w, alone).map_err(behind)?;
        }
        w.end(rule);
        w.end(branches);
        w.end(clause);
        Ok(w.into_bytes())
    }

    /// The schema of an element that says what fields beside those that it names must be like, if it does no more than that.
    fn closing_schema<'v>(&self, element: &Element<'v>) -> Option<Document<'v>> {
        let schema = element.as_document()?;
        let closes = element.key == b"$jsonSchema" && schema.find("additionalProperties").is_some();
        (closes && self.is_hidden()).then_some(schema)
    }

    /// Writes such a schema so that the scope field is one of those that it names.
    fn open(&self, w: &mut Writer, sight: Sight<'_>, schema: Document<'_>) -> Result<(), Refusal> {
        let mut rest = Writer::default();
        let mark = rest.begin();
        let keywords = schema.elements();
        let others = keywords.filter(|k| k.key != b"additionalProperties");
        others.for_each(|keyword| rest.element(&keyword));
        rest.end(mark);
        let rest = rest.into_bytes();
        filter::check_schema(sight, Document::parse(&rest).unwrap_or(Document::EMPTY))?;
        let written = w.begin_document(b"$jsonSchema");
        for keyword in schema.elements() {
            match (keyword.key, keyword.as_document()) {
                (b"properties", Some(properties)) => {
                    let mark = w.begin_document(keyword.key);
                    properties.elements().for_each(|p| w.element(&p));
                    self.any_value(w);
                    w.end(mark);
                }
                _ => w.element(&keyword),
            }
        }
        if schema.find("properties").is_none() {
            let mark = w.begin_document(b"properties");
            self.any_value(w);
            w.end(mark);
        }
        w.end(written);
        Ok(())
    }

    /// `FIELD: {}`: a property that may have any value.
    fn any_value(&self, w: &mut Writer) {
        let any = w.begin_document(self.field().as_str().as_bytes());
        w.end(any);
    }

    /// Rewrites a `collMod` that says what documents of a shared collection must be like, from the clauses of all apps.
    ///
    /// # Errors
    /// Those of the fields that every command may have.
    pub fn set_validator(
        &self,
        spec: &'static CommandSpec,
        command: &Command<'_>,
        facts: &Facts<'_>,
        clauses: &[Vec<u8>],
    ) -> Result<Scoped, Refusal> {
        let body = Body::read(self, spec, command, facts)?;
        let mut w = begin(command);
        let mark = w.begin();
        w.string(b"collMod", namespace::collection_of(command)?);
        let validator = joined_clauses(clauses);
        let validator = Document::parse(&validator).unwrap_or(Document::EMPTY);
        w.document(b"validator", validator);
        w.string(b"validationLevel", "strict");
        w.string(b"validationAction", "error");
        body.fields(&mut w, false)?;
        w.end(mark);
        seal(w, facts, definition_outcome())
    }

    /// Writes `errInfo` of a document that breaks the rule of the app's own clause, as a server tells it where the rule is the
    /// whole validator. Gives whether it tells of one.
    pub(crate) fn own_rule(&self, w: &mut Writer, info: &Element<'_>) -> bool {
        let info = info.as_document().unwrap_or(Document::EMPTY);
        let details = info
            .find("details")
            .and_then(|details| details.as_document());
        let rule = details.and_then(|details| self.rule_in(details, CLAUSE_DEPTH_MAX));
        let Some(rule) = rule else {
            return false;
        };
        let written = w.begin_document(b"errInfo");
        for element in info.elements() {
            if element.key == b"details" {
                let mark = w.begin_document(element.key);
                self.unguarded(w, rule);
                w.end(mark);
            } else {
                w.element(&element);
            }
        }
        w.end(written);
        true
    }

    /// What is told of the app's rule, among what is told of the clauses.
    fn rule_in<'d>(&self, details: Document<'d>, depth: usize) -> Option<Document<'d>> {
        let depth = depth.checked_sub(1)?;
        let clauses = details.find("clausesNotSatisfied")?.as_array()?;
        let told = || {
            clauses
                .elements()
                .filter_map(|c| c.as_document()?.find("details")?.as_document())
        };
        if told()
            .next()
            .is_some_and(|first| self.tells_of_owner(first))
        {
            return told().nth(1);
        }
        told().find_map(|details| self.rule_in(details, depth))
    }

    /// Whether it is told that a document is the app's.
    fn tells_of_owner(&self, details: Document<'_>) -> bool {
        let said = details
            .find("specifiedAs")
            .and_then(|said| said.as_document());
        let condition = said.and_then(only);
        condition.is_some_and(|c| c.key == self.field().as_str().as_bytes())
    }

    /// Copies what is told, with expressions as the app has written them.
    fn unguarded(&self, w: &mut Writer, told: Document<'_>) {
        for element in told.elements() {
            let guarded = (element.key == b"$expr").then(|| filter::guarded(self, &element));
            match (guarded.flatten(), element.kind, element.as_nested()) {
                (Some(expression), ..) => w.renamed(element.key, &expression),
                (None, Kind::Array, Some(items)) => {
                    let mark = w.begin_array(element.key);
                    self.unguarded(w, items);
                    w.end(mark);
                }
                (None, _, Some(nested)) => {
                    let mark = w.begin_document(element.key);
                    self.unguarded(w, nested);
                    w.end(mark);
                }
                _ => w.element(&element),
            }
        }
    }
}

/// The physical validator of these clauses, a document: empty if there are none.
pub fn joined_clauses(clauses: &[Vec<u8>]) -> Vec<u8> {
    let mut w = Writer::default();
    let validator = w.begin();
    if !clauses.is_empty() {
        let all = w.begin_array(b"$and");
        for (index, clause) in clauses.iter().enumerate() {
            let clause = Document::parse(clause).unwrap_or(Document::EMPTY);
            w.document(IndexKey::new(index).as_bytes(), clause);
        }
        w.end(all);
    }
    w.end(validator);
    w.into_bytes()
}

/// Refuses expressions that would have to be written otherwise, and then be told otherwise: those that read whole documents.
fn check_expressions(sight: Sight<'_>, filter: Document<'_>) -> Result<(), Refusal> {
    for element in filter.elements() {
        match element.as_nested() {
            Some(nested) if element.key != b"$expr" => check_expressions(sight, nested)?,
            _ if element.key != b"$expr" => {}
            _ => {
                let mut w = Writer::default();
                expression::write(sight, &mut w, element.key, &element)
                    .map_err(|refusal| refusal.behind(BEHIND))?;
                let mut said = Writer::default();
                said.element(&element);
                if w.into_bytes() != said.into_bytes() {
                    return Err(Refusal::invalid_options(
                        "a validator of a shared collection cannot read whole documents; make the collection dedicated in the app's manifest before it is created",
                    ));
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
