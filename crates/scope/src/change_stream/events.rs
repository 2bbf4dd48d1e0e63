//! Which events are the app's, and what they look like to it.
//!
//! Of a shared collection an insert is owned by the document that it brings, every other change by the document that was
//! there before. Never by either: the document that a look-up finds may be another app's that took over the `_id` (seen
//! on 4.4 and 5.0). Of a collection `NAME@SLUG` the name says whose an event is.
//!
//! The server does not know of the app's drops. A dropped collection leaves a marker, a document that comes (`drop`) and
//! goes (`invalidate`); a dropped database the same by a collection, `@SLUG`.

use super::{DROPPED, Reach};
use crate::scope::Scope;
use crate::tree::{Tree, object, one, text, texts};

/// Names of shared collections: those of servers and of apps' own collections are none.
const SHARED_NAMES: &str = "\\A(?!system\\.)[^@]*\\z";

/// Events of the app's own collections that pass as they are.
const OF_OWN: &[&str] = &["insert", "update", "replace", "delete", "drop"];

/// No field.
const REMOVE: &str = "$$REMOVE";

/// Which of the app's collections a stream is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ground {
    /// One that apps share.
    Shared,
    /// Those that are the app's own.
    Own,
    /// Both kinds.
    Both,
}

/// What a stream wants of documents before a change, or after an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// Nothing that the server keeps for it.
    Nothing,
    WhenAvailable,
    Required,
}

impl Asked {
    /// A value of `fullDocument` or `fullDocumentBeforeChange`.
    pub(super) fn of(word: &str) -> Self {
        match word {
            "whenAvailable" => Self::WhenAvailable,
            "required" => Self::Required,
            _ => Self::Nothing,
        }
    }
}

/// What no number begins with, and what a server says of an event without the document that is required (6.0.5).
const MISSING: [(&str, &str); 2] = [
    (
        "~no pre-image~",
        "Change stream was configured to require a pre-image for all update, delete and replace events, but the pre-image was not found for an event",
    ),
    (
        "~no post-image~",
        "Change stream was configured to require a post-image for all update events, but the post-image was not found for an event",
    ),
];

/// What a server says in place of the error by which the proxy's stages end a stream without a document that is required.
pub(crate) fn missing_image(text: &str) -> Option<&'static str> {
    let found = MISSING.iter().find(|(mark, _)| text.contains(mark));
    found.map(|(_, said)| *said)
}

/// The stages that the proxy puts behind `$changeStream`.
#[derive(Debug)]
pub(super) struct Events<'a> {
    pub(super) scope: &'a Scope,
    pub(super) reach: Reach,
    pub(super) ground: Ground,
    /// Whether updates come with a document.
    pub(super) looks_up: bool,
    /// What the client asked for of documents after an update, and before any change.
    pub(super) after: Asked,
    pub(super) before: Asked,
    /// Shared collections, as `DATABASE.NAME`, of which the app has asked to have them.
    pub(super) with_images: &'a [String],
    /// Where the proxy keeps its own.
    pub(super) control_database: &'a str,
}

impl Events<'_> {
    /// The stages, in order.
    pub(super) fn stages(&self) -> Vec<Tree> {
        let mut stages = Vec::new();
        if self.ground != Ground::Own || self.reach != Reach::Collection {
            stages.push(one("$match", self.own_events()));
            // Nothing of the client may be tried on what has not passed. The server moves a `$match` in front of stages that
            // do not make its fields; an expression that fails by what it reads would tell of other apps' events (6.0.5).
            let whole = Tree::Array(vec![text("$$ROOT")]);
            stages.push(one("$replaceWith", one("$mergeObjects", whole)));
        }
        stages.push(one("$set", self.shown()));
        // A digest of the proxy's own user.
        stages.push(one("$unset", text("lsid.uid")));
        stages
    }

    fn field(&self, document: &str) -> String {
        format!("{document}.{}", self.scope.field().as_str())
    }

    fn slug(&self) -> &str {
        self.scope.app().as_str()
    }

    fn own_events(&self) -> Tree {
        let mut branches = Vec::new();
        if self.ground != Ground::Own {
            branches.extend(self.shared_events());
        }
        if self.reach != Reach::Collection {
            branches.extend(self.named_events());
        }
        let of_all: &[&str] = match self.reach {
            Reach::Collection => &["drop", "invalidate"],
            Reach::Database => &["dropDatabase", "invalidate"],
            Reach::Deployment => &[],
        };
        if !of_all.is_empty() {
            branches.push(one("operationType", one("$in", texts(of_all))));
        }
        let any = Tree::Array(branches);
        if self.reach != Reach::Deployment {
            return one("$or", any);
        }
        let apart = ["admin", "config", "local", self.control_database];
        object([("ns.db", one("$nin", texts(&apart))), ("$or", any)])
    }

    /// By the name of the collection.
    fn named_events(&self) -> [Tree; 3] {
        let own = || Tree::Regex(format!("[^@]{}\\z", self.scope.suffix()));
        let marker = Tree::Regex(exactly(self.scope.suffix()));
        let marks: &[&str] = match self.reach {
            Reach::Deployment => &["insert"],
            Reach::Collection | Reach::Database => &["insert", "drop"],
        };
        let operation = |names: &[&str]| one("$in", texts(names));
        [
            object([("operationType", operation(OF_OWN)), ("ns.coll", own())]),
            object([
                ("operationType", text("rename")),
                ("ns.coll", own()),
                ("to.coll", own()),
            ]),
            object([("operationType", operation(marks)), ("ns.coll", marker)]),
        ]
    }

    /// By the owner of the document.
    fn shared_events(&self) -> Vec<Tree> {
        let after = self.field("fullDocument");
        let before = self.field("fullDocumentBeforeChange");
        let new_owner = self.field("updateDescription.updatedFields");
        let gone = self.scope.gone();
        let branch = |operation: Tree, conditions: Vec<(String, Tree)>| {
            let mut fields = vec![("operationType".to_owned(), operation)];
            fields.extend(conditions);
            if self.reach != Reach::Collection {
                fields.push(("ns.coll".to_owned(), Tree::Regex(SHARED_NAMES.to_owned())));
            }
            Tree::Object(fields)
        };
        let marker = |document: &str| (format!("{document}.{DROPPED}"), text("collection"));
        let mut branches = vec![
            branch(text("insert"), vec![(after.clone(), is(self.slug()))]),
            branch(
                one("$in", texts(&["update", "replace", "delete"])),
                vec![
                    (before.clone(), is(self.slug())),
                    // The beginning of a drop.
                    (new_owner, one("$exists", Tree::Flag(false))),
                ],
            ),
            branch(
                text("insert"),
                vec![(after, is(&gone)), marker("fullDocument")],
            ),
        ];
        if self.reach == Reach::Collection {
            let conditions = vec![(before, is(&gone)), marker("fullDocumentBeforeChange")];
            branches.push(branch(text("delete"), conditions));
        }
        branches
    }

    /// An expression: whether a document of the event has this owner.
    fn has_owner(&self, document: &str, owner: &str) -> Tree {
        let path = format!("${}", self.field(document));
        let equals = one("$eq", Tree::Array(vec![text(&*path), text(owner)]));
        let matches = object([("input", text(path)), ("regex", text(exactly(owner)))]);
        let matches = one("$regexMatch", matches);
        one("$and", Tree::Array(vec![equals, matches]))
    }

    /// Whether a marker comes.
    fn comes(&self) -> Tree {
        self.has_owner("fullDocument", &self.scope.gone())
    }

    /// Whether it goes again.
    fn goes(&self) -> Tree {
        self.has_owner("fullDocumentBeforeChange", &self.scope.gone())
    }

    /// The fields of an event as the app may see them.
    fn shown(&self) -> Tree {
        let mut fields = vec![
            ("operationType", self.operation()),
            ("fullDocument", self.after()),
            ("documentKey", self.key()),
            ("ns", self.namespace()),
        ];
        if self.ground != Ground::Own {
            fields.push(("fullDocumentBeforeChange", self.before()));
        }
        if self.ground != Ground::Shared {
            let kind = one("$type", text("$to.coll"));
            let is_named = one("$eq", Tree::Array(vec![kind, text("string")]));
            let to = Tree::Array(vec![is_named, logical("to"), text("$to")]);
            fields.push(("to", one("$cond", to)));
        }
        let fields = fields.into_iter().map(|(k, v)| (k.to_owned(), v));
        Tree::Object(fields.collect())
    }

    /// `$switch`: of an event in one of the app's own collections, of the marker of a dropped database, of events in shared
    /// collections by the cases, and of any other.
    fn cases(&self, of_own: Tree, of_marker: Tree, cases: Vec<(Tree, Tree)>, other: Tree) -> Tree {
        let mut branches = Vec::new();
        if self.ground != Ground::Shared {
            // -1 where there is none, null where there is no name. Not compared as strings: a collation may pass over `@`.
            let place = one("$indexOfBytes", texts(&["$ns.coll", "@"]));
            let compared = |how: &str| one(how, Tree::Array(vec![place.clone(), Tree::Int(0)]));
            branches.push((compared("$gt"), of_own));
            branches.push((compared("$eq"), of_marker));
        }
        if self.ground != Ground::Own {
            branches.extend(cases);
        }
        let branches = branches
            .into_iter()
            .map(|(case, then)| object([("case", case), ("then", then)]));
        let branches = Tree::Array(branches.collect());
        let cases = object([("branches", branches), ("default", other)]);
        one("$switch", cases)
    }

    fn operation(&self) -> Tree {
        let same = || text("$operationType");
        let of_marker = if_insert(text("dropDatabase"), text("invalidate"));
        let cases = vec![
            (self.comes(), text("drop")),
            (self.goes(), text("invalidate")),
        ];
        self.cases(same(), of_marker, cases, same())
    }

    fn after(&self) -> Tree {
        let same = || text("$fullDocument");
        let is_update = || one("$eq", texts(&["$operationType", "update"]));
        let own = self.has_owner("fullDocument", self.slug());
        let mut cases = vec![(own, self.clean("$fullDocument"))];
        if let Some(without) = self
            .is_without_images()
            .filter(|_| self.after != Asked::Nothing)
        {
            let owned = self.has_owner("fullDocumentBeforeChange", self.slug());
            let case = one("$and", Tree::Array(vec![is_update(), owned, without]));
            // Of the two that are missing a server tells the one before.
            let is_told = self.after == Asked::Required && self.before != Asked::Required;
            let then = if is_told {
                fail(MISSING[1].0)
            } else {
                Tree::Null
            };
            cases.insert(0, (case, then));
        }
        if self.looks_up {
            // As of a document that is gone.
            cases.push((is_update(), Tree::Null));
        }
        let other = match self.ground {
            Ground::Own => same(),
            Ground::Shared | Ground::Both => text(REMOVE),
        };
        self.cases(same(), text(REMOVE), cases, other)
    }

    fn before(&self) -> Tree {
        if self.before == Asked::Nothing {
            return text(REMOVE);
        }
        let own = || self.has_owner("fullDocumentBeforeChange", self.slug());
        let mut cases = vec![(own(), self.clean("$fullDocumentBeforeChange"))];
        if let Some(without) = self.is_without_images() {
            let is_required = self.before == Asked::Required;
            let then = if is_required {
                fail(MISSING[0].0)
            } else {
                Tree::Null
            };
            let case = one("$and", Tree::Array(vec![own(), without]));
            cases.insert(0, (case, then));
        }
        let same = text("$fullDocumentBeforeChange");
        self.cases(same, text(REMOVE), cases, text(REMOVE))
    }

    /// An expression: whether the app has not asked to have documents before and after changes of the event's collection, a
    /// shared one. `None` where it has.
    fn is_without_images(&self) -> Option<Tree> {
        match self.ground {
            Ground::Shared if self.with_images.is_empty() => Some(Tree::Flag(true)),
            Ground::Own | Ground::Shared => None,
            Ground::Both => {
                let names = self.with_images.iter().map(text);
                let names = one("$literal", Tree::Array(names.collect()));
                let name = one("$concat", texts(&["$ns.db", ".", "$ns.coll"]));
                let is_one = one("$in", Tree::Array(vec![name, names]));
                Some(one("$not", Tree::Array(vec![is_one])))
            }
        }
    }

    fn key(&self) -> Tree {
        let same = || text("$documentKey");
        let kind = one("$type", same());
        let is_there = one("$eq", Tree::Array(vec![kind, text("object")]));
        let cleaned = vec![is_there, self.clean("$documentKey"), text(REMOVE)];
        let other = match self.ground {
            Ground::Own => same(),
            Ground::Shared | Ground::Both => one("$cond", Tree::Array(cleaned)),
        };
        let cases = vec![(self.comes(), text(REMOVE)), (self.goes(), text(REMOVE))];
        self.cases(same(), text(REMOVE), cases, other)
    }

    fn namespace(&self) -> Tree {
        let of_marker = if_insert(one("db", text("$ns.db")), text(REMOVE));
        let cases = vec![(self.goes(), text(REMOVE))];
        self.cases(logical("ns"), of_marker, cases, text("$ns"))
    }

    /// A document of the event without the scope field.
    fn clean(&self, path: &str) -> Tree {
        if !self.scope.is_hidden() {
            return text(path);
        }
        let field = text(self.scope.field().as_str());
        one(
            "$unsetField",
            object([("field", field), ("input", text(path))]),
        )
    }
}

/// A predicate that holds for exactly this owner, whatever the collation.
fn is(owner: &str) -> Tree {
    object([("$eq", text(owner)), ("$regex", text(exactly(owner)))])
}

/// A pattern for exactly this text, of characters that mean no more than themselves.
fn exactly(owner: &str) -> String {
    format!("\\A{owner}\\z")
}

/// `{db, coll}` with the app's name in place of `NAME@SLUG`.
fn logical(field: &str) -> Tree {
    let name = format!("${field}.coll");
    let parts = one("$split", texts(&[&name, "@"]));
    let first = one("$arrayElemAt", Tree::Array(vec![parts, Tree::Int(0)]));
    object([("db", text(format!("${field}.db"))), ("coll", first)])
}

/// An expression that fails, for an event and not before: the text of the error has the mark.
fn fail(mark: &str) -> Tree {
    one("$toInt", one("$concat", texts(&[mark, "$operationType"])))
}

fn if_insert(then: Tree, other: Tree) -> Tree {
    let is_insert = one("$eq", texts(&["$operationType", "insert"]));
    one("$cond", Tree::Array(vec![is_insert, then, other]))
}
