//! What the proxy knows of the upstream when it rewrites a command.

use mdb_wire::{Document, Element};

use crate::scoped::{ReplyRule, ServerAddress};

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
}

/// Where the documents of a collection are that a stage names. What was not looked up is taken for shared: then the app's
/// condition is put in, and the worst is that nothing is found.
pub(crate) fn isolation_of(
    foreign: &[ForeignCollection],
    database: &str,
    collection: &str,
) -> Isolation {
    foreign
        .iter()
        .find(|f| f.collection == collection && f.database == database)
        .map_or(Isolation::Shared, |f| f.isolation)
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
    /// First fields of the app's key patterns.
    pub leading_fields: Vec<Vec<u8>>,
}

impl CollectionFacts {
    /// Facts of a collection with these indexes.
    pub fn new(has_base_indexes: bool, indexes: Vec<OwnIndex>) -> Self {
        let leading_fields = indexes.iter().filter_map(OwnIndex::leading_field).collect();
        Self {
            isolation: Isolation::Shared,
            is_view: false,
            has_base_indexes,
            indexes,
            leading_fields,
        }
    }

    /// Facts of a collection that is the app's own.
    pub fn dedicated() -> Self {
        Self {
            isolation: Isolation::Dedicated,
            ..Self::default()
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

    /// Whether nothing in the collection is another app's.
    pub fn is_dedicated(&self) -> bool {
        self.isolation == Isolation::Dedicated
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
    /// The collections that its stages name, see [`foreign_collections`](crate::foreign_collections).
    pub foreign: &'a [ForeignCollection],
}

/// The time in a `$clusterTime`.
pub fn cluster_time_of(document: Document<'_>) -> Option<u64> {
    document
        .find("clusterTime")
        .and_then(|e: Element<'_>| e.as_timestamp())
}
