//! What `validate` tells, in the form of servers.

use bson::Timestamp;
use mdb_wire::Writer;

use super::Options;
use crate::figures::number;

const NOT_COMPLIANT: &str =
    "Detected one or more documents not compliant with the collection's schema.";

const UNKNOWN_COMPLIANCE: &str = "Which documents are not compliant with the collection's schema cannot be told: an expression of it fails for one of them.";

/// What a server says whenever something is wrong (6.0.5).
const ADVICE: &str = "A corrupt namespace has been detected. See http://dochub.mongodb.org/core/data-recovery for recovery steps.";

/// What there is to say of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Finding {
    Sound {
        keys: i64,
    },
    Unsound {
        keys: i64,
        why: String,
    },
    /// Documents came and went all the time.
    InUse {
        keys: Option<i64>,
    },
    Unread(&'static str),
}

/// What is told of a collection.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) records: i64,
    /// By the names that the app says, that of `_id` first.
    pub(super) indexes: Vec<(String, Finding)>,
    pub(super) read_at: Option<Timestamp>,
    pub(super) rules: Rules,
}

/// How the documents keep to the app's own validator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rules {
    /// How many do not; `None` where an expression of it fails for one of them.
    pub(super) broken: Option<i64>,
    /// Whether what breaks them is refused.
    pub(super) is_error: bool,
}

impl Finding {
    fn keys(&self) -> Option<i64> {
        match self {
            Self::Sound { keys } | Self::Unsound { keys, .. } => Some(*keys),
            Self::InUse { keys } => *keys,
            Self::Unread(_) => None,
        }
    }

    /// What a server would say among its `warnings`.
    fn warning(&self, name: &str) -> Option<String> {
        match self {
            Self::Sound { .. } | Self::Unsound { .. } => None,
            Self::InUse { .. } => Some(format!(
                "Could not complete validation of index {name}. This is a transient issue as the collection was actively in use by other operations."
            )),
            Self::Unread(why) => Some(format!("Index {name} was not validated: {why}.")),
        }
    }

    fn error(&self, name: &str) -> Option<String> {
        match self {
            Self::Unsound { why, .. } => Some(format!("Index {name} is not valid: {why}.")),
            _ => None,
        }
    }

    fn write(&self, w: &mut Writer, name: &str) {
        let details = w.begin_document(name.as_bytes());
        w.boolean(b"valid", self.error(name).is_none());
        for (list, text) in [
            (b"warnings".as_slice(), self.warning(name)),
            (b"errors", self.error(name)),
        ] {
            if let Some(text) = text {
                strings(w, list, [text]);
            }
        }
        w.end(details);
    }
}

impl Rules {
    /// There are none, or none that hold.
    pub(super) const NONE: Self = Self {
        broken: Some(0),
        is_error: false,
    };

    /// What a server says of documents that break them: from 6.0 on it is an error where they are refused, before 5.0
    /// nothing (4.4.2, 5.0.4, 6.0.5).
    fn error(self, options: Options) -> Option<String> {
        let is_told = self.is_error && options.has_compliance();
        (is_told && self.broken > Some(0))
            .then(|| format!("{NOT_COMPLIANT} Check logs for log id 5363500."))
    }

    fn warning(self, options: Options) -> Option<String> {
        match self.broken {
            None => Some(UNKNOWN_COMPLIANCE.to_owned()),
            Some(0) => None,
            Some(_) if options.has_compliance() => {
                (!self.is_error).then(|| format!("{NOT_COMPLIANT} Check logs for log id 5363500."))
            }
            Some(_) => (self.is_error && !options.is_before_five())
                .then(|| format!("{NOT_COMPLIANT} See logs.")),
        }
    }
}

impl Report {
    /// Writes it in the form of the server's version (4.4.2, 5.0.4, 6.0.5).
    pub(super) fn write(mut self, w: &mut Writer, namespace: &str, options: Options) {
        if options.has_compliance() {
            self.indexes.sort_by(|a, b| a.0.cmp(&b.0));
        }
        if self.rules.error(options).is_some() {
            // A server does not look at them then.
            self.indexes.clear();
        }
        let texts = |of: fn(&Finding, &str) -> Option<String>| {
            let indexes = self.indexes.iter();
            let texts = indexes.filter_map(|(name, finding)| of(finding, name));
            texts.collect::<Vec<String>>()
        };
        let (mut warnings, mut errors) = (texts(Finding::warning), texts(Finding::error));
        warnings.extend(self.rules.warning(options));
        errors.extend(self.rules.error(options));
        w.string(b"ns", namespace);
        if !options.is_of_metadata() {
            self.write_counts(w, options, !errors.is_empty());
        }
        let is_corrupt = self.rules.error(options).is_some();
        w.boolean(b"valid", errors.is_empty());
        if !options.is_before_five() {
            w.boolean(b"repaired", false);
        }
        if let Some(at) = self.read_at.filter(|_| options.background) {
            w.timestamp(b"readTimestamp", at.time, at.increment);
        }
        strings(w, b"warnings", warnings);
        strings(w, b"errors", errors);
        strings(w, b"extraIndexEntries", []);
        strings(w, b"missingIndexEntries", []);
        if !options.is_before_five() {
            strings(w, b"corruptRecords", []);
        }
        if is_corrupt {
            w.string(b"advice", ADVICE);
        }
    }

    fn write_counts(&self, w: &mut Writer, options: Options, has_errors: bool) {
        // A document that cannot be read ends the command.
        w.int32(b"nInvalidDocuments", 0);
        if options.has_compliance() {
            number(
                w,
                b"nNonCompliantDocuments",
                self.rules.broken.unwrap_or_default(),
            );
        }
        number(w, b"nrecords", self.records);
        let indexes = i32::try_from(self.indexes.len()).unwrap_or(i32::MAX);
        w.int32(b"nIndexes", indexes);
        let keys = w.begin_document(b"keysPerIndex");
        for (name, finding) in &self.indexes {
            if let Some(keys) = finding.keys() {
                number(w, name.as_bytes(), keys);
            }
        }
        w.end(keys);
        if options.is_before_five() && !options.full && !has_errors {
            return;
        }
        let details = w.begin_document(b"indexDetails");
        let examined = self.indexes.iter();
        for (name, finding) in examined.filter(|(_, f)| !matches!(f, Finding::Unread(_))) {
            finding.write(w, name);
        }
        w.end(details);
    }
}

/// An array of texts.
fn strings(w: &mut Writer, key: &[u8], texts: impl IntoIterator<Item = String>) {
    let array = w.begin_array(key);
    for (index, text) in texts.into_iter().enumerate() {
        w.string(mdb_wire::writer::IndexKey::new(index).as_bytes(), &text);
    }
    w.end(array);
}
