//! Plans in the app's own terms.

use mdb_wire::writer::IndexKey;
use mdb_wire::{Document, Element, Kind, Writer};

use crate::facts::{CollectionFacts, base_id_index_name, base_index_name};
use crate::index::automatic_index_shown;
use crate::reply::{Incident, ReplyView};
use crate::scope::Scope;
use fields::{DEDICATED_FIELDS, FIELDS, Treat};

mod fields;

/// Whose the documents are that a part of a plan counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counted {
    /// The app's.
    Own,
    /// Perhaps also others': what is below the stage that asks whose a document is.
    Any,
}

/// Writes a plan for the client.
///
/// # Errors
/// An [`Incident`] if the plan would still name the scope field.
pub(crate) fn write(
    view: &ReplyView<'_>,
    w: &mut Writer,
    reply: Document<'_>,
) -> Result<(), Incident> {
    let ReplyView {
        scope, collection, ..
    } = *view;
    let plan = Plan {
        view,
        scope,
        collection,
    };
    let mut inner = Writer::default();
    let mark = inner.begin();
    plan.fields(&mut inner, reply, Counted::Own);
    inner.end(mark);
    let bytes = inner.into_bytes();
    let document = Document::parse(&bytes).map_err(|_| Incident::Shape("plan"))?;
    let hides = scope.is_hidden() && !collection.is_stored_apart();
    if hides && mentions(document, scope.field().as_str().as_bytes()) {
        return Err(Incident::Shape("plan without the scope field"));
    }
    w.raw(document.inner_bytes());
    Ok(())
}

struct Plan<'a> {
    view: &'a ReplyView<'a>,
    scope: &'a Scope,
    collection: &'a CollectionFacts,
}

impl Plan<'_> {
    fn fields(&self, w: &mut Writer, document: Document<'_>, counted: Counted) {
        if let Some(input) = self.record_scan(document) {
            w.string(b"stage", "COLLSCAN");
            if let Some(filter) = document.find("filter") {
                self.field(w, &filter, Treat::Predicate, counted);
            }
            if let Some(direction) = input.find("direction") {
                w.element(&direction);
            }
            return;
        }
        let (here, below) = self.counted(document, counted);
        for element in document.elements() {
            match self.treat(&element) {
                Some(Treat::Property) => self.property(w, &element, document),
                Some(Treat::Returned) if here == Counted::Any => {}
                // What asks whose a document is stands where the index does not.
                _ if !self.is_own() && element.as_document().is_some_and(is_of_sbe) => {}
                Some(treat) => self.field(w, &element, treat, below),
                None if element.key.first() == Some(&b'$') => self.part(w, &element),
                None => {}
            }
        }
    }

    /// Whose documents a stage counts, and those below it. The app's condition is asked by the bounds of a base index, by a
    /// scan, or by a FETCH, which reads what an index gave: that on `_id` gives every app's.
    fn counted(&self, document: Document<'_>, counted: Counted) -> (Counted, Counted) {
        if self.is_own() {
            return (Counted::Own, Counted::Own);
        }
        let stage = document.find("stage");
        let name = stage.and_then(|s| s.as_str()).unwrap_or_default();
        let index = document.find("indexName").and_then(|name| name.as_str());
        match (counted, name) {
            (Counted::Any, _) => (Counted::Any, Counted::Any),
            _ if index == Some("_id_") => (Counted::Any, Counted::Any),
            (Counted::Own, "FETCH") => (Counted::Own, Counted::Any),
            (Counted::Own, _) => (Counted::Own, Counted::Own),
        }
    }

    /// Whether nothing that the plan is about is shared.
    fn is_own(&self) -> bool {
        self.collection.is_stored_apart() && !self.view.shares
    }

    fn treat(&self, element: &Element<'_>) -> Option<Treat> {
        let more: &[_] = if self.is_own() { DEDICATED_FIELDS } else { &[] };
        let row = FIELDS
            .iter()
            .chain(more)
            .find(|(n, _)| n.as_bytes() == element.key);
        row.map(|(_, treat)| *treat)
    }

    /// A fetch by the base index alone is what a private server calls a scan of the collection.
    fn record_scan<'d>(&self, document: Document<'d>) -> Option<Document<'d>> {
        let input = document.find("inputStage")?.as_document()?;
        let is_fetch = document.find("stage")?.as_str() == Some("FETCH");
        let base = base_index_name(self.scope.field().as_str());
        let is_fetch = is_fetch && !self.collection.is_stored_apart();
        (is_fetch && input.find("indexName")?.as_str() == Some(base.as_str())).then_some(input)
    }

    fn field(&self, w: &mut Writer, element: &Element<'_>, treat: Treat, counted: Counted) {
        match treat {
            Treat::Pass | Treat::Property | Treat::Returned => w.element(element),
            Treat::Descend => self.descend(w, element, counted),
            Treat::Unordered if self.is_own() => self.descend(w, element, counted),
            Treat::Unordered => self.unordered(w, element),
            Treat::Predicate => {
                let document = w.begin_document(element.key);
                if let Some(predicate) = element.as_document() {
                    self.predicate(w, predicate);
                }
                w.end(document);
            }
            Treat::Key => self.key(w, element),
            Treat::Projection => {
                let document = w.begin_document(element.key);
                let fields = element.as_document().into_iter();
                for field in fields.flat_map(Document::elements) {
                    if !self.is_own_addition(field.key) {
                        self.part(w, &field);
                    }
                }
                w.end(document);
            }
            Treat::Index => w.string(element.key, self.index_name(element)),
            Treat::Namespace => self.view.namespace(w, element),
        }
    }

    /// Key fields; the bounds of a COUNT_SCAN hold two documents of them.
    fn key(&self, w: &mut Writer, element: &Element<'_>) {
        let document = w.begin_document(element.key);
        let fields = element.as_document().into_iter();
        for field in fields.flat_map(Document::elements) {
            if self.is_own_addition(field.key) {
                continue;
            }
            if field.kind == Kind::Document {
                self.key(w, &field);
            } else {
                w.element(&field);
            }
        }
        w.end(document);
    }

    fn is_own_addition(&self, key: &[u8]) -> bool {
        self.scope.is_hidden()
            && !self.collection.is_stored_apart()
            && (key == self.scope.field().as_str().as_bytes() || key.first() == Some(&b'~'))
    }

    fn index_name<'e>(&'e self, element: &Element<'e>) -> &'e str {
        let name = element.as_str().unwrap_or_default();
        if let Some(shown) = automatic_index_shown(name) {
            return shown;
        }
        let field = self.scope.field().as_str();
        if self.collection.is_stored_apart() {
            return name;
        }
        if name == base_id_index_name(field) || name == base_index_name(field) {
            return "_id_";
        }
        let own = self
            .collection
            .indexes
            .iter()
            .find(|i| i.physical_name == name);
        // Through a view the indexes are those of a collection that was not looked up.
        let prefix = format!("{}.", self.scope.app().as_str());
        let logical = name.strip_prefix(&prefix).unwrap_or(name);
        own.map_or(logical, |index| index.name.as_str())
    }

    /// `isUnique`, `isSparse`, `isPartial`: what the app's definition says. Upstream every index of a shared collection is
    /// partial.
    fn property(&self, w: &mut Writer, element: &Element<'_>, plan: Document<'_>) {
        if self.collection.is_stored_apart() {
            w.element(element);
            return;
        }
        let physical = plan.find("indexName").and_then(|name| name.as_str());
        let field = self.scope.field().as_str();
        let base = [base_id_index_name(field), base_index_name(field)];
        let indexes = &self.collection.indexes;
        let own = indexes
            .iter()
            .find(|index| Some(index.physical_name.as_str()) == physical);
        let says = |name: &str| {
            own.and_then(|index| Document::parse(&index.definition).ok())
                .and_then(|definition| definition.find(name).map(|e| e.as_flag() != Some(false)))
                .unwrap_or(false)
        };
        let is_base =
            physical == Some("_id_") || base.iter().any(|name| Some(name.as_str()) == physical);
        if matches!(element.key, b"isMultiKey" | b"multiKeyPaths") {
            // An index that apps share is one also for the sake of another's arrays.
            let prefix = format!("{}.", self.scope.app().as_str());
            if own.is_some() || is_base || physical.is_some_and(|name| name.starts_with(&prefix)) {
                self.multi_key(w, element);
            }
            return;
        }
        let holds = match element.key {
            _ if is_base => element.key == b"isUnique",
            // Through a view the definition is not known.
            _ if own.is_none() => return,
            b"isUnique" => says("unique"),
            b"isSparse" => says("sparse"),
            _ => says("partialFilterExpression"),
        };
        w.boolean(element.key, holds);
    }

    /// One plan or branch does worse than another also by the keys of other apps that it met.
    fn unordered(&self, w: &mut Writer, element: &Element<'_>) {
        let plans = element.as_array().into_iter().flat_map(Document::elements);
        let mut shown: Vec<Vec<u8>> = plans
            .filter_map(|plan| plan.as_document())
            .map(|plan| {
                let mut inner = Writer::default();
                let mark = inner.begin();
                self.fields(&mut inner, plan, Counted::Any);
                inner.end(mark);
                inner.into_bytes()
            })
            .collect();
        shown.sort_unstable();
        let array = w.begin_array(element.key);
        for (index, plan) in shown.iter().enumerate() {
            let document = w.begin_document(IndexKey::new(index).as_bytes());
            w.raw(Document::parse(plan).map_or(&[], Document::inner_bytes));
            w.end(document);
        }
        w.end(array);
    }

    fn multi_key(&self, w: &mut Writer, element: &Element<'_>) {
        if element.kind == Kind::Document {
            self.key(w, element);
        } else {
            w.element(element);
        }
    }

    fn descend(&self, w: &mut Writer, element: &Element<'_>, counted: Counted) {
        match element.kind {
            Kind::Document => {
                let document = w.begin_document(element.key);
                let fields = element.as_document().unwrap_or(Document::EMPTY);
                self.fields(w, fields, counted);
                w.end(document);
            }
            Kind::Array => {
                let array = w.begin_array(element.key);
                let parts = element.as_array().into_iter().flat_map(Document::elements);
                for part in parts.filter(|part| !self.is_own_stage(part)) {
                    self.descend(w, &part, counted);
                }
                w.end(array);
            }
            _ => {}
        }
    }

    /// `{$project: {app_id: false, …}}`: what becomes of the stage that takes the field out; and the stage that puts it back
    /// in front of a `$merge`.
    fn is_own_stage(&self, part: &Element<'_>) -> bool {
        let stage = part.as_document().and_then(Document::first);
        let Some(stage) = stage.filter(|_| self.view.shares) else {
            return false;
        };
        let field = self.scope.field().as_str();
        let Some(body) = stage.as_document() else {
            return stage.key == b"$unset" && stage.as_str() == Some(field);
        };
        match stage.key {
            b"$project" | b"$unset" => body.find(field).and_then(|e| e.as_flag()) == Some(false),
            b"$replaceRoot" => body
                .find("newRoot")
                .is_some_and(|root| self.puts_back(root)),
            b"$replaceWith" => self.puts_back(stage),
            _ => false,
        }
    }

    /// `{$mergeObjects: [{_id: …, app_id: …}, …]}`.
    fn puts_back(&self, value: Element<'_>) -> bool {
        let parts = value.as_document().and_then(|d| d.find("$mergeObjects"));
        let first = parts.and_then(|parts| parts.as_array()?.first());
        first
            .and_then(|first| first.as_document())
            .is_some_and(|d| d.find(self.scope.field().as_str()).is_some())
    }

    /// `$merge`: its target, and what it matches by, in the app's terms. The stages that stand around those of `whenMatched`
    /// are left out.
    fn merge(&self, w: &mut Writer, element: &Element<'_>) {
        let stage = w.begin_document(element.key);
        let fields = element
            .as_document()
            .into_iter()
            .flat_map(Document::elements);
        for field in fields {
            match field.key {
                b"into" => self.into(w, &field),
                b"on" => self.on(w, &field),
                b"whenMatched" if field.kind == Kind::Array => {
                    let hides = self.scope.is_hidden() && self.view.shares;
                    let name = self.scope.field().as_str().as_bytes();
                    let own = |e: &Element<'_>| {
                        self.is_own_stage(e)
                            || (hides && e.as_document().is_some_and(|d| mentions(d, name)))
                    };
                    self.list(w, &field, &own);
                }
                b"whenMatched" | b"whenNotMatched" => w.element(&field),
                _ => {}
            }
        }
        w.end(stage);
    }

    /// What a `$merge` matches by: a single field as a string, as the server shows it.
    fn on(&self, w: &mut Writer, element: &Element<'_>) {
        let hides = self.scope.is_hidden() && self.view.shares;
        let field = self.scope.field().as_str();
        let names = element.as_array().into_iter().flat_map(Document::elements);
        let mut shown = names.filter(|e| !(hides && e.as_str() == Some(field)));
        match (element.kind, shown.next(), shown.next()) {
            (Kind::Array, Some(only), None) => w.renamed(element.key, &only),
            _ => w.element(element),
        }
    }

    /// An array without those elements.
    fn list(
        &self,
        w: &mut Writer,
        element: &Element<'_>,
        is_left_out: &dyn Fn(&Element<'_>) -> bool,
    ) {
        let array = w.begin_array(element.key);
        let items = element.as_array().into_iter().flat_map(Document::elements);
        let shown =
            items.filter(|e| !(self.scope.is_hidden() && self.view.shares && is_left_out(e)));
        for (index, item) in shown.enumerate() {
            w.renamed(IndexKey::new(index).as_bytes(), &item);
        }
        w.end(array);
    }

    /// `{db, coll}`, by the app's name.
    fn into(&self, w: &mut Writer, element: &Element<'_>) {
        let Some(fields) = element.as_document() else {
            self.view.namespace(w, element);
            return;
        };
        let document = w.begin_document(element.key);
        for field in fields.elements() {
            if field.key == b"coll" {
                self.view.namespace(w, &field);
            } else {
                w.element(&field);
            }
        }
        w.end(document);
    }

    /// A stage of a pipeline, a field of a projection, a predicate: shown if it says nothing of the proxy's additions.
    fn part(&self, w: &mut Writer, element: &Element<'_>) {
        match element.key {
            b"$merge" => return self.merge(w, element),
            b"$out" => return self.into(w, element),
            _ => {}
        }
        let field = self.scope.field().as_str().as_bytes();
        let suffix = self.scope.suffix().as_bytes();
        let shows = element
            .as_nested()
            .is_none_or(|d| !mentions(d, field) && !names_physical(d, suffix));
        if shows {
            w.element(element);
        } else {
            self.join(w, element);
        }
    }

    /// A stage with the proxy's additions: of one that names another collection what it says beside its pipeline, which is
    /// bound to the app; of others nothing.
    fn join(&self, w: &mut Writer, element: &Element<'_>) {
        let stage = w.begin_document(element.key);
        let is_join = matches!(element.key, b"$lookup" | b"$graphLookup" | b"$unionWith");
        let fields = element.as_document().filter(|_| is_join);
        for field in fields.into_iter().flat_map(Document::elements) {
            match field.key {
                b"from" | b"coll" => self.view.namespace(w, &field),
                b"as" | b"localField" | b"foreignField" | b"connectFromField"
                | b"connectToField" | b"depthField" | b"maxDepth" => w.element(&field),
                _ => {}
            }
        }
        w.end(stage);
    }

    /// The app's own expression in `$expr: {$cond: [<the app's condition>, E, false]}`.
    fn guarded_expression<'e>(&self, element: &Element<'e>) -> Option<Element<'e>> {
        if element.key != b"$expr" {
            return None;
        }
        let only = element.as_document()?.first()?;
        let parts = only.as_array().filter(|_| only.key == b"$cond")?;
        let mut parts = parts.elements();
        let field = self.scope.field().as_str().as_bytes();
        let is_ours = mentions(parts.next()?.as_document()?, field);
        let inner = parts.next().filter(|_| is_ours)?;
        (!inner.as_nested().is_some_and(|d| mentions(d, field))).then_some(inner)
    }

    /// The branches of an `$or`: with `$text` in one, the condition stands in each.
    fn branches(&self, w: &mut Writer, element: &Element<'_>) {
        let array = w.begin_array(element.key);
        for branch in element.as_array().into_iter().flat_map(Document::elements) {
            let document = w.begin_document(branch.key);
            self.predicate(w, branch.as_document().unwrap_or(Document::EMPTY));
            w.end(document);
        }
        w.end(array);
    }

    /// A predicate without the app's condition: `{$and: [{app_id: …}, x]}` is `x`.
    fn predicate(&self, w: &mut Writer, predicate: Document<'_>) {
        for element in predicate.elements() {
            if self.is_own_addition(element.key) {
                continue;
            }
            if matches!(element.key, b"$or" | b"$nor") {
                self.branches(w, &element);
                continue;
            }
            let branches = element
                .as_array()
                .filter(|_| element.key == b"$and")
                .map(|array| {
                    array
                        .elements()
                        .filter_map(|e| e.as_document())
                        .filter(|d| !d.first().is_some_and(|f| self.is_own_addition(f.key)))
                        .collect::<Vec<_>>()
                });
            if let Some(inner) = self.guarded_expression(&element) {
                w.renamed(b"$expr", &inner);
                continue;
            }
            match branches.as_deref() {
                // Whole documents in expressions are taken without the field, in as many words; a value may have such a field.
                None if element.key == b"$expr" || element.key.first() != Some(&b'$') => {
                    self.part(w, &element);
                }
                None => w.element(&element),
                Some([]) => {}
                Some([only]) => self.predicate(w, *only),
                Some(many) => {
                    let array = w.begin_array(b"$and");
                    for (index, branch) in many.iter().enumerate() {
                        let document = w.begin_document(IndexKey::new(index).as_bytes());
                        self.predicate(w, *branch);
                        w.end(document);
                    }
                    w.end(array);
                }
            }
        }
    }
}

/// Whether it is a stage of SBE, which are in small letters: a scan of it counts every app's documents (6.0.5).
fn is_of_sbe(part: Document<'_>) -> bool {
    let stage = part.find("stage").and_then(|stage| stage.as_str());
    stage.is_some_and(|stage| stage.bytes().any(|c| c.is_ascii_lowercase()))
}

/// Whether a document holds the physical name of a collection of the app's own.
fn names_physical(document: Document<'_>, suffix: &[u8]) -> bool {
    document.elements().any(|element| {
        element.as_string().is_some_and(|s| s.ends_with(suffix))
            || element
                .as_nested()
                .is_some_and(|d| names_physical(d, suffix))
    })
}

/// Whether a document has the field's name as a key, as the beginning of a path, or as a string anywhere.
fn mentions(document: Document<'_>, field: &[u8]) -> bool {
    let begins = |text: &[u8]| {
        let text = text.strip_prefix(b"$").unwrap_or(text);
        text.strip_prefix(field)
            .is_some_and(|rest| rest.first().is_none_or(|&c| c == b'.'))
    };
    document.elements().any(|element| {
        begins(element.key)
            || element.as_string().is_some_and(begins)
            || element.as_nested().is_some_and(|d| mentions(d, field))
    })
}
