//! What the proxy knows of the upstream when it rewrites a command.

use mdb_wire::{Document, Element};

use crate::hint::same_key;
use crate::index::automatic_index_shown;
use crate::index::print_key;
use crate::scoped::{ReplyRule, ServerAddress};
use crate::validator::SharedValidator;

/// Name of the base index `{FIELD: 1}` for a scope field named `field`.
pub fn base_index_name(field: &str) -> String {
    format!("{field}_1")
}

/// Name of the base index `{FIELD: 1, _id: 1}` for a scope field named `field`.
pub fn base_id_index_name(field: &str) -> String {
    format!("{field}_1__id_1")
}

/// An index of the app, as the app knows it and as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnIndex {
    /// The app's name for it.
    pub name: String,
    /// Its name upstream.
    pub physical_name: String,
    /// The app's key pattern, a document.
    pub key: Vec<u8>,
    /// The whole definition in the app's terms, a document, as `listIndexes` shows it.
    pub definition: Vec<u8>,
    /// Whether its physical key begins with the scope field.
    pub is_prefixed: bool,
    /// Whether its physical key ends with the filler that tells indexes of apps apart on servers before 5.0.
    pub has_filler: bool,
}

impl OwnIndex {
    /// The first field of the app's key pattern.
    pub fn leading_field(&self) -> Option<Vec<u8>> {
        let key = Document::parse(&self.key).ok()?;
        key.first().map(|e| e.key.to_vec())
    }

    /// The definition as servers print it.
    pub(crate) fn printed(&self) -> String {
        print_key(Document::parse(&self.definition).unwrap_or(Document::EMPTY))
    }

    /// The first field that the index takes in this way, as `2dsphere`.
    fn field_of_kind(&self, kind: &str) -> Option<String> {
        let key = Document::parse(&self.key).ok()?;
        let mut fields = key.elements();
        let field = fields.find(|e| e.as_str() == Some(kind))?;
        Some(field.name().to_owned())
    }

    /// Whether it serves `$text`.
    pub(crate) fn is_text(&self) -> bool {
        self.field_of_kind("text").is_some()
    }
}

/// Where the documents of one of the app's collections are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Isolation {
    /// In a physical collection of the same name, beside other apps' documents, told apart by the scope field.
    #[default]
    Shared,
    /// In a physical collection or view of the app's own, `NAME@SLUG`: nothing in it is another app's, and its documents
    /// have no scope field.
    Dedicated,
}

/// A collection that a stage names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignCollection {
    /// Its database.
    pub database: String,
    /// Its name, as the app says it.
    pub collection: String,
    /// Where its documents are.
    pub isolation: Isolation,
    /// What a `$geoNear` over it means that names no field.
    pub near: NearKey,
    /// Automatic indexes that hold the app's documents in it.
    pub automatic: AutomaticIndexes,
    /// Where a `$out` over it puts its documents, if it is a shared one that is then replaced by them.
    pub aside: Option<Aside>,
}

/// The physical name of a collection that a `$out` fills on the way to a shared one: neither the app nor any other can say
/// it. See [`Scope::aside`](crate::Scope::aside).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aside(pub(crate) Box<str>);

impl Aside {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a physical name is of this kind, of whatever app.
    pub fn is_one(physical: &str) -> bool {
        let inner = physical
            .strip_prefix(ASIDE)
            .and_then(|rest| rest.strip_suffix('@'));
        inner.is_some_and(|inner| inner.split('@').count() == 2)
    }
}

/// What such names begin with.
pub(crate) const ASIDE: &str = "out@";

/// Which field a `$geoNear` means that names none: the server takes that of the only index of its kind, and would take
/// another app's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum NearKey {
    /// The app has no such index.
    #[default]
    None,
    /// The field of its only `2d` index, or else of its only `2dsphere` index.
    Field(Box<str>),
    /// It has several of this kind.
    Several(&'static str),
}

/// No index of the app.
pub(crate) static NO_NEAR_KEY: NearKey = NearKey::None;

impl NearKey {
    fn of(indexes: &[OwnIndex]) -> Self {
        for kind in ["2d", "2dsphere"] {
            let mut fields = indexes.iter().filter_map(|index| index.field_of_kind(kind));
            match (fields.next(), fields.next()) {
                (None, _) => {}
                (Some(field), None) => return Self::Field(field.into()),
                (Some(_), Some(_)) => return Self::Several(kind),
            }
        }
        Self::None
    }
}

/// Where the documents of a collection are that a stage names. What was not looked up is taken for shared: then the app's
/// condition is put in, and the worst is that nothing is found.
pub(crate) fn isolation_of(
    foreign: &[ForeignCollection],
    database: &str,
    collection: &str,
) -> Isolation {
    known_of(foreign, database, collection).map_or(Isolation::Shared, |f| f.isolation)
}

/// What was looked up of a collection that a stage names.
pub(crate) fn known_of<'f>(
    foreign: &'f [ForeignCollection],
    database: &str,
    collection: &str,
) -> Option<&'f ForeignCollection> {
    foreign
        .iter()
        .find(|f| f.collection == collection && f.database == database)
}

/// Automatic indexes that hold the app's documents, and what tells them from the app's own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AutomaticIndexes {
    /// How many there are.
    pub count: usize,
    /// Where there are any: the key patterns of the app's own indexes as they are stored, documents.
    pub own_keys: Vec<Vec<u8>>,
}

/// None.
pub(crate) static NO_AUTOMATIC_INDEXES: AutomaticIndexes = AutomaticIndexes {
    count: 0,
    own_keys: Vec::new(),
};

impl AutomaticIndexes {
    /// So many beside own ones of these key patterns.
    pub(crate) fn beside(count: usize, own_keys: impl Iterator<Item = Vec<u8>>) -> Self {
        Self {
            count,
            own_keys: own_keys.filter(|_| count > 0).collect(),
        }
    }
}

/// What is known of one physical collection, seen by one app. A stale fact may cost an order or an error, never isolation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CollectionFacts {
    /// Where its documents are.
    pub isolation: Isolation,
    /// Whether it is a view: of the app's own, but what it shows may be the app's part of a shared collection.
    pub is_view: bool,
    /// Whether both base indexes stand.
    pub has_base_indexes: bool,
    /// The app's own indexes in the order of their creation, `_id_` not among them.
    pub indexes: Vec<OwnIndex>,
    /// First fields of the app's key patterns, and of automatic indexes that hold its documents.
    pub leading_fields: Vec<Vec<u8>>,
    /// Of a collection of the app's own: key patterns that only an automatic index has, so that none of the app's is meant.
    pub automatic_keys: Vec<Vec<u8>>,
    /// Automatic indexes that hold the app's documents.
    pub automatic: AutomaticIndexes,
    /// What a `$geoNear` means that names no field.
    pub near: NearKey,
    /// The physical UUID of a collection of the app's own that is neither a view nor a time series: a `collMod` that states it
    /// meets nothing else under the name (6.0).
    pub uuid: Option<[u8; 16]>,
    /// Whose rules the physical validator of a shared collection has.
    pub validator: SharedValidator,
    /// Of a view: what is known of the collection that it shows.
    pub behind: Behind,
    /// Where a change stream is opened: those of the shared collections that it is about, as `DATABASE.NAME`, whose documents
    /// before and after a change the app has asked for.
    pub with_images: Vec<String>,
}

/// The collection behind a view, which is looked up where a command names an index of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Behind {
    /// Nobody has looked.
    #[default]
    Unknown,
    /// The app has none.
    Absent,
    /// Its facts.
    Collection(Box<CollectionFacts>),
}

impl CollectionFacts {
    /// Facts of a collection with these indexes.
    pub fn new(has_base_indexes: bool, indexes: Vec<OwnIndex>) -> Self {
        let leading_fields = indexes.iter().filter_map(OwnIndex::leading_field).collect();
        Self {
            isolation: Isolation::Shared,
            is_view: false,
            has_base_indexes,
            near: NearKey::of(&indexes),
            indexes,
            leading_fields,
            automatic_keys: Vec::new(),
            automatic: AutomaticIndexes::default(),
            uuid: None,
            validator: SharedValidator::default(),
            behind: Behind::Unknown,
            with_images: Vec::new(),
        }
    }

    /// Facts of a collection that is the app's own.
    pub fn dedicated() -> Self {
        Self {
            isolation: Isolation::Dedicated,
            ..Self::default()
        }
    }

    /// The same, with what its `listIndexes` shows.
    pub fn dedicated_with<'d>(physical: &(impl Iterator<Item = Document<'d>> + Clone)) -> Self {
        let is_automatic = |index: &Document<'_>| {
            let name = index.find("name").and_then(|name| name.as_str());
            name.and_then(automatic_index_shown).is_some()
        };
        let key = |index: Document<'d>| index.find("key")?.as_document();
        let own = physical.clone().filter(|index| !is_automatic(index));
        let own = own.filter_map(key);
        let automatic = physical.clone().filter(is_automatic).filter_map(key);
        let unlisted = automatic.filter(|key| !own.clone().any(|own| same_key(own, *key)));
        let bytes = |key: Document<'_>| key.bytes().to_vec();
        let count = physical.clone().filter(is_automatic).count();
        let own_keys = own.clone().map(bytes);
        Self {
            automatic_keys: unlisted.map(bytes).collect(),
            automatic: AutomaticIndexes::beside(count, own_keys),
            ..Self::dedicated()
        }
    }

    /// Facts of a view of the app's own.
    pub fn view() -> Self {
        Self {
            is_view: true,
            ..Self::dedicated()
        }
    }

    /// Whether what the server says of plans and indexes is of the app's own: not so through a view.
    pub(crate) fn is_stored_apart(&self) -> bool {
        self.is_dedicated() && !self.is_view
    }

    /// Whether the rules that documents of the app have to keep are the app's own, so that it may pass over them.
    pub(crate) fn has_own_rules(&self) -> bool {
        self.is_dedicated() || self.validator == SharedValidator::Own
    }

    /// Whether nothing in the collection is another app's.
    pub fn is_dedicated(&self) -> bool {
        self.isolation == Isolation::Dedicated
    }

    /// The app's indexes of a key pattern: several may differ in their collation or their filter.
    pub(crate) fn indexes_of(&self, key: Document<'_>) -> Vec<&OwnIndex> {
        let is_meant =
            |index: &&OwnIndex| Document::parse(&index.key).is_ok_and(|own| same_key(own, key));
        self.indexes.iter().filter(is_meant).collect()
    }

    /// Whether a private server might use an index for a predicate or sort on `path`.
    pub(crate) fn may_serve(&self, path: &[u8]) -> bool {
        path == b"_id"
            // `$text`, `$expr`: served by indexes of their own kind, or not to be told from here.
            || path.first() == Some(&b'$')
            || self
                .leading_fields
                .iter()
                .any(|field| field == path || field.ends_with(b"$**"))
    }
}

/// The cursor that a `getMore` names, looked up by the proxy among those of the app.
#[derive(Debug, Clone)]
pub struct CursorFacts {
    /// Its id upstream.
    pub upstream_id: i64,
    /// The member that holds it.
    pub server: ServerAddress,
    /// Its database.
    pub database: String,
    /// Its collection.
    pub collection: String,
    /// The client's session that opened it.
    pub session: Option<[u8; 16]>,
    /// Where the documents of its collection are.
    pub isolation: Isolation,
    /// How its batches are read.
    pub rule: ReplyRule,
}

/// What rewriting needs besides the command.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// `maxWireVersion` of the upstream.
    pub wire_version: i32,
    /// `maxBsonObjectSize` of the upstream.
    pub document_bytes_max: usize,
    /// `maxMessageSizeBytes` of the upstream.
    pub message_bytes_max: usize,
    /// The newest `$clusterTime` that the upstream sent, as a document.
    pub cluster_time: Option<Document<'a>>,
    /// Whether the upstream checks the signature of a cluster time: only then a client's may be forwarded.
    pub checks_cluster_time: bool,
    /// The database of the proxy itself.
    pub control_database: &'a str,
    /// The collection that the command names.
    pub collection: &'a CollectionFacts,
    /// Of a `bulkWrite`, the collections of its `nsInfo`, in their order.
    pub namespaces: &'a [CollectionFacts],
    /// The collections that its stages name, see [`foreign_collections`](crate::foreign_collections).
    pub foreign: &'a [ForeignCollection],
    /// Whether a read keeps to a base index where the client names none, so that the server has one plan and tries none.
    pub keeps_to_base: bool,
}

/// The time in a `$clusterTime`.
pub fn cluster_time_of(document: Document<'_>) -> Option<u64> {
    document
        .find("clusterTime")
        .and_then(|e: Element<'_>| e.as_timestamp())
}
