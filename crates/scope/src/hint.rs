//! Sorts, hints and bounds: what a command says of the order and the index of its reads.

use mdb_wire::{Document, Element, Kind, Writer};

use crate::arguments::Take;
use crate::body::Body;
use crate::facts::{Behind, CollectionFacts, OwnIndex, base_id_index_name, base_index_name};
use crate::index::{automatic_index_shown, print_key};
use crate::projection::{self, Natural};
use crate::refusal::Refusal;
use crate::scope::no_repeats;
use crate::{filter, pipeline, point};

mod need;

pub use need::{names_index, needs_index};

/// Which order a private server would give where no index and no sort decides.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Order {
    /// Nobody can tell, and no index may be named.
    #[default]
    Any,
    /// It makes no difference.
    Indifferent,
    /// That of the records.
    OfRecords,
}

/// One of the indexes that every shared collection has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Base {
    /// On the scope field alone.
    Records,
    /// On the scope field and `_id`.
    Ids,
}

/// What a command or statement says of order and index.
#[derive(Debug, Default)]
pub(crate) struct Plan<'a> {
    pub(crate) order: Order,
    sort: Option<Element<'a>>,
    hint: Option<Element<'a>>,
    min: Option<Element<'a>>,
    max: Option<Element<'a>>,
    filter: Option<Document<'a>>,
    /// Of a pipeline.
    leading: Vec<Document<'a>>,
    /// Of a pipeline, behind its filters.
    leading_sort: Option<Document<'a>>,
    is_tailable: bool,
    /// The client will see it.
    pub(crate) is_shown: bool,
    /// Whether a collation other than `simple` is in effect.
    pub(crate) is_collated: bool,
}

impl<'a> Plan<'a> {
    /// Remembers a field.
    pub(crate) fn learn(&mut self, take: Take, element: &Element<'a>) -> Result<(), Refusal> {
        match take {
            Take::Sort => {
                let sort = match element.kind {
                    Kind::Null => return Ok(()),
                    _ => crate::generic::document(element, "sort")?,
                };
                no_repeats(sort, "a sort")?;
                self.sort = (!sort.is_empty()).then_some(*element);
            }
            Take::Hint => {
                let is_none = element.as_document().is_some_and(Document::is_empty);
                self.hint = (!is_none).then_some(*element);
            }
            Take::Bound if element.as_document().is_some_and(Document::is_empty) => {}
            Take::Bound if element.key == b"min" => self.min = Some(*element),
            Take::Bound => self.max = Some(*element),
            Take::Filter => self.filter = element.as_document(),
            Take::Pipeline => {
                self.order = Order::Indifferent;
                if pipeline::is_led_by_near(element) {
                    self.order = Order::Any;
                } else if pipeline::reads_in_record_order(element) {
                    self.order = Order::OfRecords;
                }
                self.leading = pipeline::leading_filters(element).collect();
                self.leading_sort = pipeline::leading_sort(element);
            }
            _ if element.key == b"tailable" => self.is_tailable = element.as_flag() == Some(true),
            _ => {}
        }
        Ok(())
    }

    /// Writes sort, hint and bounds.
    pub(crate) fn write(&self, body: &Body<'_, '_>, w: &mut Writer) -> Result<(), Refusal> {
        let sort = self.sort.as_ref().and_then(Element::as_document);
        let natural = sort.map_or(Natural::No, projection::natural);
        if !body.is_shared() {
            return self.write_as_said(body, w, natural);
        }
        self.check_natural(sort, natural)?;
        if let (Some(sort), Natural::No) = (sort, natural) {
            projection::sort(body.sight(), w, b"sort", sort)?;
        }
        if self.min.is_some() || self.max.is_some() {
            return self.bounds(body, w);
        }
        match (&self.hint, natural) {
            (Some(hint), _) => self.hint(body, w, hint),
            (None, Natural::Backward) => {
                natural_backward(w);
                Ok(())
            }
            (None, Natural::Forward) => {
                record_order(body, w);
                Ok(())
            }
            (None, Natural::No) => {
                match self.base_index(body, sort.or(self.leading_sort)) {
                    Some(Base::Records) => record_order(body, w),
                    Some(Base::Ids) => id_order(body, w),
                    None if self.is_shown => {}
                    None if body.facts.keeps_to_base => self.one_plan(body, w),
                    None => point(body, w),
                }
                Ok(())
            }
        }
    }

    /// Checks what is said of the order of records, in mongod's words (4.4.2, 5.0.4, 6.0.5): another index stands for it
    /// upstream, so the server does not see what was said.
    fn check_natural(&self, sort: Option<Document<'_>>, natural: Natural) -> Result<(), Refusal> {
        let hint = self.hint.as_ref().and_then(Element::as_document);
        let hinted = hint.map_or(Natural::No, projection::natural);
        if natural == Natural::No && hinted == Natural::No {
            return Ok(());
        }
        for (place, said, direction) in [("sort", sort, natural), ("hint", hint, hinted)] {
            if let Some(said) = said.filter(|said| is_compound_natural(*said, direction)) {
                return Err(Refusal::bad_value(format!(
                    "Cannot include '$natural' in compound {place}: {}",
                    print_key(said)
                ))
                .of_statement());
            }
        }
        let is_sorted = natural != Natural::No;
        let text = match (hinted, self.own_kind_of_index()) {
            (Natural::No, Some(kind)) => {
                format!("{kind} expression not allowed with $natural sort order")
            }
            (Natural::No, None) if self.hint.is_some() => {
                "index hint not allowed with $natural sort order".to_owned()
            }
            (Natural::No, None) => return Ok(()),
            (hinted, _) if is_sorted && hinted != natural => {
                "$natural hint must be in the same direction as $natural sort order".to_owned()
            }
            // Of `$text` the server says by itself that it takes no hint.
            (_, Some("geoNear")) if !is_sorted => {
                "geoNear expression not allowed with $natural hint".to_owned()
            }
            _ => return Ok(()),
        };
        Err(Refusal::bad_value(text).of_statement())
    }

    /// What a predicate that is served by an index of its own kind alone is called, if there is one.
    fn own_kind_of_index(&self) -> Option<&'static str> {
        let mut kind = None;
        if let Some(filter) = self.filter {
            filter::predicates(filter, &mut |predicate| {
                if filter::asks_for_its_own_index(predicate) {
                    kind = Some(if predicate.key == b"$text" {
                        "text"
                    } else {
                        "geoNear"
                    });
                }
            });
        }
        kind
    }

    /// The app's own collection has the app's own indexes and order.
    fn write_as_said(
        &self,
        body: &Body<'_, '_>,
        w: &mut Writer,
        natural: Natural,
    ) -> Result<(), Refusal> {
        match (&self.sort, natural) {
            (Some(sort), Natural::No) => {
                let document = sort.as_document().unwrap_or(Document::EMPTY);
                projection::sort(body.sight(), w, b"sort", document)?;
            }
            (Some(sort), _) => w.element(sort),
            (None, _) => {}
        }
        let facts = body.facts.collection;
        if self.hint.is_some_and(|hint| is_hidden(facts, &hint)) {
            return Err(unknown_hint());
        }
        for element in [&self.hint, &self.min, &self.max].into_iter().flatten() {
            if let Some(document) = element.as_document() {
                no_repeats(document, "a hint or an index bound")?;
            }
            if facts.is_view && element.key == b"hint" && !is_of_every_collection(element) {
                hint_on_view(facts, w, element)?;
            } else {
                w.element(element);
            }
        }
        Ok(())
    }

    /// The base index that stands for the only plan of a private server: for the scan of the collection, in the order of its
    /// records, or for that of the index on `_id`.
    ///
    /// The index on `_id` holds every app's keys. As one plan among several it wins or loses by how many of them are in
    /// its range, which `explain` and the order of documents would tell (6.0.5).
    ///
    /// Among several plans a server tries each, and an error of the trial ends also an `explain`, which tells of an error by
    /// the only plan in its figures (6.0.5).
    fn base_index(&self, body: &Body<'_, '_>, sort: Option<Document<'_>>) -> Option<Base> {
        if self.is_tailable || self.order == Order::Any {
            return None;
        }
        let facts = body.facts.collection;
        let (mut names_id, mut may_fail, mut is_served) = (false, false, false);
        let mut serve = |path: &[u8]| match path {
            b"_id" => names_id = true,
            path => is_served |= facts.may_serve(path),
        };
        if let Some(first) = sort.and_then(Document::first) {
            serve(first.key);
        }
        if let Some(filter) = self.filter {
            filter::predicates(filter, &mut |predicate| {
                if filter::expression_may_fail(predicate) {
                    may_fail = true;
                } else {
                    serve(predicate.key);
                }
            });
        }
        for filter in &self.leading {
            filter::predicates(*filter, &mut |predicate| serve(predicate.key));
        }
        let mut filters = self.filter.iter().chain(&self.leading);
        let is_point = filters.any(|f| f.find("_id").is_some_and(|id| is_equality(&id)));
        let (base, is_wanted) = if names_id {
            (Base::Ids, may_fail || !is_point && !self.is_collated)
        } else {
            (Base::Records, may_fail || self.order == Order::OfRecords)
        };
        (is_wanted && !is_served).then_some(base)
    }

    /// Names a base index where several plans would do, if that serves the command at all.
    fn one_plan(&self, body: &Body<'_, '_>, w: &mut Writer) {
        let mut filters = self.filter.iter().chain(&self.leading);
        let asks_for_its_own = filters.any(|filter| need::of_filter(*filter));
        if !asks_for_its_own && !self.is_tailable && self.order != Order::Any {
            record_order(body, w);
        }
    }

    fn hint(&self, body: &Body<'_, '_>, w: &mut Writer, hint: &Element<'_>) -> Result<(), Refusal> {
        if let Some(document) = hint.as_document() {
            no_repeats(document, "a hint")?;
            match projection::natural(document) {
                Natural::Forward => {
                    record_order(body, w);
                    return Ok(());
                }
                Natural::Backward => {
                    natural_backward(w);
                    return Ok(());
                }
                Natural::No => {}
            }
        }
        if names_id_index(hint) {
            // With an equality on `_id` the planner takes `_id_` by itself; naming it would cost.
            let has_equality = self
                .filter
                .and_then(|f| f.find("_id"))
                .is_some_and(|e| is_equality(&e));
            if body.facts.collection.has_base_indexes && !has_equality {
                w.string(b"hint", &base_id_index_name(body.scope.field().as_str()));
            }
            return Ok(());
        }
        let index = find_index(body.facts.collection, hint)?;
        w.string(b"hint", &index.physical_name);
        Ok(())
    }

    /// `min` and `max` need their index named; both sides get the app in front, so that the scan stays inside the app.
    fn bounds(&self, body: &Body<'_, '_>, w: &mut Writer) -> Result<(), Refusal> {
        let Some(hint) = &self.hint else {
            return Err(Refusal::bounds_without_hint(
                "A hint is required when using min()/max(), naming the index to use",
            ));
        };
        let (name, key, has_filler) =
            if names_id_index(hint) && body.facts.collection.has_base_indexes {
                (
                    base_id_index_name(body.scope.field().as_str()),
                    ID_KEY.to_vec(),
                    false,
                )
            } else {
                let index = find_index(body.facts.collection, hint)?;
                if !index.is_prefixed {
                    return Err(Refusal::invalid_options(
                        "min and max are not available with TTL, 2d and wildcard indexes",
                    ));
                }
                (
                    index.physical_name.clone(),
                    index.key.clone(),
                    index.has_filler,
                )
            };
        w.string(b"hint", &name);
        let key = Document::parse(&key).unwrap_or(Document::EMPTY);
        let filler = has_filler.then(|| body.scope.filler());
        for (name, user, is_upper) in [(b"min", &self.min, false), (b"max", &self.max, true)] {
            let document = w.begin_document(name);
            bound(body, w, user.as_ref(), key, is_upper)?;
            // Every document has null there: both bounds stand before it.
            if let Some(filler) = &filler {
                w.renamed(filler.as_bytes(), &MIN_KEY);
            }
            w.end(document);
        }
        Ok(())
    }
}

/// `{_id: 1}`.
const ID_KEY: &[u8] = &[14, 0, 0, 0, 0x10, b'_', b'i', b'd', 0, 1, 0, 0, 0, 0];
/// `MinKey` as an element kind.
const MIN_KEY: Element<'static> = Element {
    kind: Kind::MinKey,
    key: b"",
    value: &[],
    raw: &[0xFF, 0],
};

/// `MaxKey` as an element kind.
const MAX_KEY: Element<'static> = Element {
    kind: Kind::MaxKey,
    key: b"",
    value: &[],
    raw: &[0x7F, 0],
};

fn bound(
    body: &Body<'_, '_>,
    w: &mut Writer,
    user: Option<&Element<'_>>,
    key: Document<'_>,
    is_upper: bool,
) -> Result<(), Refusal> {
    if let Some(element) = user {
        let fields = crate::generic::document(element, element.name())?;
        no_repeats(fields, "an index bound")?;
        body.scope.stamp(w);
        for field in fields.elements() {
            if body.scope.field().begins(field.key) {
                return Err(body.scope.reserved());
            }
            w.element(&field);
        }
    } else {
        // The side that the client left open ends where the app ends: the first string behind the slug.
        let field = body.scope.field().as_str().as_bytes();
        if is_upper {
            w.string(field, &format!("{}\0", body.scope.app()));
        } else {
            body.scope.stamp(w);
        }
        for field in key.elements() {
            // A descending field begins at its greatest value.
            let is_descending = field.as_integer().is_some_and(|direction| direction < 0);
            w.renamed(field.key, if is_descending { &MAX_KEY } else { &MIN_KEY });
        }
    }
    Ok(())
}

/// The base index on the scope field alone keeps equal keys in the order of records, as a private collection shows it.
fn record_order(body: &Body<'_, '_>, w: &mut Writer) {
    hint_base(body, w, base_index_name);
}

/// Names a base index by the proxy's own choice, if the collection has them. Gives whether it has.
fn hint_base(body: &Body<'_, '_>, w: &mut Writer, name: fn(&str) -> String) -> bool {
    let has_them = body.facts.collection.has_base_indexes;
    if has_them {
        w.string(b"hint", &name(body.scope.field().as_str()));
        body.hints_base.set(true);
    }
    has_them
}

/// Bounds around the one document that a command asks for by its `_id`.
fn point(body: &Body<'_, '_>, w: &mut Writer) {
    let Some(id) = point::id_of(body.command) else {
        return;
    };
    let Some(next) = point::next_value(&id) else {
        return;
    };
    if !hint_base(body, w, base_id_index_name) {
        return;
    }
    for (name, value) in [(b"min", id.value), (b"max", &next)] {
        let bound = w.begin_document(name);
        body.scope.stamp(w);
        w.renamed(b"_id", &Element { value, ..id });
        w.end(bound);
    }
}

/// The base index on the scope field and `_id` stands for the index on `_id`.
fn id_order(body: &Body<'_, '_>, w: &mut Writer) {
    hint_base(body, w, base_id_index_name);
}

fn natural_backward(w: &mut Writer) {
    let hint = w.begin_document(b"hint");
    w.int32(b"$natural", -1);
    w.end(hint);
}

fn names_id_index(hint: &Element<'_>) -> bool {
    if hint.as_string() == Some(b"_id_".as_slice()) {
        return true;
    }
    hint.as_document().is_some_and(is_id_key)
}

/// Whether a key pattern is `{_id: 1}`. `{_id: "hashed"}` is an index like any other.
pub(crate) fn is_id_key(key: Document<'_>) -> bool {
    same_key(key, Document::parse(ID_KEY).unwrap_or(Document::EMPTY))
}

pub(crate) fn is_equality(element: &Element<'_>) -> bool {
    element.as_document().is_none_or(|d| {
        d.first()
            .is_none_or(|first| first.key == b"$eq" || first.key.first() != Some(&b'$'))
    })
}

/// A hint on a view is one of the collection behind it.
fn hint_on_view(view: &CollectionFacts, w: &mut Writer, hint: &Element<'_>) -> Result<(), Refusal> {
    match &view.behind {
        // What is no hint the server says of every collection.
        _ if hint.kind != Kind::String && hint.kind != Kind::Document => w.element(hint),
        Behind::Unknown => {
            let text = "the collection behind the view is not known; leave the hint out";
            return Err(Refusal::bad_value(text));
        }
        // A server does not look at it where there is nothing to read.
        Behind::Absent => {}
        Behind::Collection(facts) if !facts.is_dedicated() => {
            w.string(b"hint", &find_index(facts, hint)?.physical_name);
        }
        Behind::Collection(facts) if is_hidden(facts, hint) => return Err(unknown_hint()),
        Behind::Collection(_) => w.element(hint),
    }
    Ok(())
}

fn find_index<'f>(
    collection: &'f CollectionFacts,
    hint: &Element<'_>,
) -> Result<&'f OwnIndex, Refusal> {
    let found = match (hint.as_str(), hint.as_document()) {
        (Some(name), _) => collection.indexes.iter().find(|i| i.name == name),
        (None, Some(key)) => {
            let found = collection.indexes_of(key);
            if found.len() > 1 {
                return Err(ambiguous_hint(key, &found));
            }
            found.first().copied()
        }
        (None, None) => {
            return Err(Refusal::failed_to_parse(
                "Hint must be a string or an object",
            ));
        }
    };
    found.ok_or_else(unknown_hint)
}

/// Whether a hint means an automatic index of the app's own collection: the app has none such.
fn is_hidden(collection: &CollectionFacts, hint: &Element<'_>) -> bool {
    if let Some(name) = hint.as_str() {
        return automatic_index_shown(name).is_some();
    }
    let keys = &collection.automatic_keys;
    let mut keys = keys.iter().filter_map(|key| Document::parse(key).ok());
    hint.as_document()
        .is_some_and(|hint| keys.any(|key| same_key(key, hint)))
}

/// Whether a sort names the order of records and something else beside.
fn is_compound_natural(sort: Document<'_>, natural: Natural) -> bool {
    natural != Natural::No && sort.elements().count() > 1
}

/// A key pattern of several indexes, which differ in their collation or their filter.
fn ambiguous_hint(key: Document<'_>, found: &[&OwnIndex]) -> Refusal {
    let key = print_key(key);
    let shown = found.iter().map(|index| {
        format!(
            "kp: {key} name: '({}, )' io: {}",
            index.name,
            index.printed()
        )
    });
    let shown: Vec<String> = shown.collect();
    Refusal::index_not_found(format!(
        "error processing query: planner returned error :: caused by :: Hint matched multiple indexes, must hint by index name. Matched: {}",
        shown.join(" and ")
    ))
    .of_statement()
}

fn unknown_hint() -> Refusal {
    Refusal::bad_value(
        "error processing query: planner returned error :: caused by :: hint provided does not correspond to an existing index",
    )
    .of_statement()
}

/// Whether two key patterns are one: the same fields in order, numbers compared by value.
pub(crate) fn same_key(a: Document<'_>, b: Document<'_>) -> bool {
    let mut left = a.elements();
    let mut right = b.elements();
    loop {
        match (left.next(), right.next()) {
            (None, None) => return true,
            (Some(l), Some(r)) if l.key == r.key => {
                let same = match (l.as_integer(), r.as_integer()) {
                    (Some(l), Some(r)) => l == r,
                    _ => l.kind == r.kind && l.value == r.value,
                };
                if !same {
                    return false;
                }
            }
            _ => return false,
        }
    }
}

/// Whether a hint names what every collection has: the index on `_id`, or no index.
fn is_of_every_collection(hint: &Element<'_>) -> bool {
    let first = hint.as_document().and_then(Document::first);
    let is_natural = first.is_some_and(|f| f.key == b"$natural");
    let is_single = hint
        .as_document()
        .is_some_and(|d| d.elements().count() == 1);
    hint.key == b"hint" && (names_id_index(hint) || is_natural && is_single)
}
