//! What the proxy adds to a client's own transaction, so that it is committed or aborted with it: the app's entry in the
//! catalog of collections, and a physical collection that is not there yet.

use mdb_wire::{Command, Writer};

use crate::apply::{Outcome, begin, seal};
use crate::body::Body;
use crate::commands::CommandSpec;
use crate::facts::{Facts, base_id_index_name, base_index_name};
use crate::generic;
use crate::namespace;
use crate::refusal::Refusal;
use crate::scope::Scope;
use crate::scoped::{ReplyRule, Retry, Routing, Scoped};

/// The collection of the control database that holds the entries.
pub const CATALOG: &str = "collections";

/// Ends a collection's name in the ids of entries that transactions make: no name holds it.
const OF_TRANSACTIONS: char = '\0';

/// Whom the entry of a transaction gets into the way of, while the transaction is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entering {
    /// Nobody: the transaction writes into a collection, whoever makes it.
    Beside,
    /// Other transactions that make the collection by name: they conflict, as on a server.
    Alone,
    /// Everybody that makes the collection: others conflict, or wait.
    Whole,
}

/// A command of the client's transaction.
#[derive(Debug, Clone, Copy)]
pub struct Statement<'a> {
    /// Its row.
    pub spec: &'static CommandSpec,
    /// The command, which names session and transaction.
    pub command: &'a Command<'a>,
    /// Whether what is added stands in front of it, so that it begins the transaction if the command was to.
    pub is_first: bool,
}

impl Scope {
    /// The `_id` of a collection's entry in the catalog.
    pub fn entry_id(&self, database: &str, collection: &str) -> String {
        format!("{}/{database}.{collection}", self.app())
    }

    /// Enters a collection of the app into the catalog, with whether the app has asked to have documents before and after
    /// changes. The reply has `upserted` if it was not entered in this way before.
    ///
    /// # Errors
    /// Those of the command's generic fields.
    pub fn enter(
        &self,
        statement: Statement<'_>,
        facts: &Facts<'_>,
        (database, collection): (&str, &str),
        (entering, has_images): (Entering, bool),
        now_millis: i64,
    ) -> Result<Scoped, Refusal> {
        let mut id = self.entry_id(database, collection);
        match entering {
            Entering::Whole => {}
            Entering::Alone => id.push(OF_TRANSACTIONS),
            Entering::Beside => {
                id.push(OF_TRANSACTIONS);
                id.push_str(&transaction_of(statement.command)?);
            }
        }
        self.added(statement, facts, facts.control_database, |w| {
            w.string(b"update", CATALOG);
            let updates = w.begin_array(b"updates");
            let update = w.begin_document(b"0");
            let query = w.begin_document(b"q");
            w.string(b"_id", &id);
            w.end(query);
            let change = w.begin_document(b"u");
            let fields = w.begin_document(b"$setOnInsert");
            w.string(b"app", self.app().as_str());
            w.string(b"database", database);
            w.string(b"collection", collection);
            w.date_time(b"created_at", now_millis);
            if has_images {
                w.boolean(b"images", true);
            }
            w.end(fields);
            w.end(change);
            w.boolean(b"upsert", true);
            w.end(update);
            w.end(updates);
        })
    }

    /// Makes the physical collection that apps share, as the proxy makes it outside of transactions.
    ///
    /// # Errors
    /// Those of the command's generic fields; 73 for a name that is too long.
    pub fn make_collection(
        &self,
        statement: Statement<'_>,
        facts: &Facts<'_>,
        (database, collection): (&str, &str),
        keeps_images: bool,
    ) -> Result<Scoped, Refusal> {
        namespace::check_elsewhere("create", database, collection, facts.control_database)?;
        namespace::check_length(database, collection)?;
        self.added(statement, facts, database, |w| {
            w.string(b"create", collection);
            if keeps_images {
                let images = w.begin_document(b"changeStreamPreAndPostImages");
                w.boolean(b"enabled", true);
                w.end(images);
            }
        })
    }

    /// Makes the base indexes of a collection that the same transaction has made.
    ///
    /// # Errors
    /// As [`Scope::make_collection`].
    pub fn make_base_indexes(
        &self,
        statement: Statement<'_>,
        facts: &Facts<'_>,
        (database, collection): (&str, &str),
    ) -> Result<Scoped, Refusal> {
        namespace::check_elsewhere("create", database, collection, facts.control_database)?;
        let field = self.field().as_str();
        self.added(statement, facts, database, |w| {
            w.string(b"createIndexes", collection);
            let indexes = w.begin_array(b"indexes");
            let first = w.begin_document(b"0");
            let key = w.begin_document(b"key");
            w.int32(field.as_bytes(), 1);
            w.end(key);
            w.string(b"name", &base_index_name(field));
            w.end(first);
            let second = w.begin_document(b"1");
            let key = w.begin_document(b"key");
            w.int32(field.as_bytes(), 1);
            w.int32(b"_id", 1);
            w.end(key);
            w.string(b"name", &base_id_index_name(field));
            w.boolean(b"unique", true);
            w.end(second);
            w.end(indexes);
        })
    }

    fn added(
        &self,
        Statement {
            spec,
            command,
            is_first,
        }: Statement<'_>,
        facts: &Facts<'_>,
        database: &str,
        write: impl FnOnce(&mut Writer),
    ) -> Result<Scoped, Refusal> {
        let body = Body::read(self, spec, command, facts)?;
        let session = body.prelude.session.filter(|_| body.prelude.in_transaction);
        let Some(session) = session else {
            return Err(Refusal::unauthorized("only a transaction is added to"));
        };
        let mut w = begin(command);
        let mark = w.begin();
        write(&mut w);
        for element in command.body.elements() {
            let is_tie = match element.key {
                b"startTransaction" | b"readConcern" => is_first,
                b"txnNumber" | b"autocommit" => true,
                key => key.starts_with(b"api"),
            };
            if is_tie {
                w.element(&element);
            }
        }
        w.string(b"$db", database);
        generic::session(self, &mut w, session);
        body.cluster_time(&mut w);
        w.end(mark);
        let outcome = Outcome::new(Routing::Primary, Retry::InTransaction, ReplyRule::Plain);
        seal(w, facts, outcome)
    }
}

/// Session and number of the command's transaction, as text.
fn transaction_of(command: &Command<'_>) -> Result<String, Refusal> {
    let none = || Refusal::unauthorized("only a transaction is added to");
    let session = command.body.find("lsid").ok_or_else(none)?;
    let number = command.body.find("txnNumber").and_then(|n| n.as_integer());
    let id = generic::client_session(&session)?;
    let id = u128::from_be_bytes(id);
    Ok(format!("{id:032x}-{}", number.ok_or_else(none)?))
}

/// App, database and collection of an entry's `_id`. Neither slugs nor names of databases hold what ends them.
pub fn named_by_entry(id: &str) -> Option<(&str, &str, &str)> {
    let (app, namespace) = id.split_once('/')?;
    let (database, collection) = namespace.split_once('.')?;
    let (collection, _) = collection
        .split_once(OF_TRANSACTIONS)
        .unwrap_or((collection, ""));
    Some((app, database, collection))
}

/// The ids of all entries of a collection whose [`Scope::entry_id`] this is: not less than the first, less than the second.
pub fn entry_ids(id: String) -> (String, String) {
    let end = format!("{id}\u{1}");
    (id, end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::AppId;
    use crate::commands::look_up;
    use crate::facts::CollectionFacts;
    use crate::scope::FieldName;
    use bson::{Document, doc};

    fn client_command(first: bool) -> Document {
        let session = bson::Binary {
            subtype: bson::spec::BinarySubtype::Uuid,
            bytes: vec![7; 16],
        };
        let mut command = doc! {
            "insert": "c", "documents": [{"_id": 1}], "lsid": {"id": session}, "txnNumber": 3_i64, "autocommit": false,
            "apiVersion": "1", "comment": "x", "$db": "d",
        };
        if first {
            command.insert("startTransaction", true);
            command.insert("readConcern", doc! {"level": "snapshot"});
        }
        command
    }

    fn sent(
        client: &Document,
        make: impl FnOnce(&Scope, Statement<'_>, &Facts<'_>) -> Result<Scoped, Refusal>,
        is_first: bool,
    ) -> Result<Document, i32> {
        let scope = Scope::new(
            AppId::parse("shop").unwrap(),
            FieldName::parse("app_id").unwrap(),
            true,
            [1; 16],
        );
        let bytes = bson::serialize_to_vec(client).unwrap();
        let command = Command::inner(mdb_wire::Document::parse(&bytes).unwrap(), "d").unwrap();
        let none = CollectionFacts::default();
        let facts = Facts {
            wire_version: 17,
            document_bytes_max: 1 << 24,
            message_bytes_max: 1 << 25,
            cluster_time: None,
            checks_cluster_time: false,
            control_database: "control",
            collection: &none,
            namespaces: &[],
            foreign: &[],
            keeps_to_base: false,
        };
        let statement = Statement {
            spec: look_up(command.name, "d").unwrap(),
            command: &command,
            is_first,
        };
        let mut scoped = make(&scope, statement, &facts).map_err(|refusal| refusal.code)?;
        assert_eq!(scoped.retry(), Retry::InTransaction);
        let message = scoped.message(1);
        Ok(Document::from_reader(&message[crate::apply::MESSAGE_HEAD_BYTES..]).unwrap())
    }

    fn id_of(update: &Document) -> String {
        let updates = update.get_array("updates").unwrap();
        let query = updates[0].as_document().unwrap().get_document("q").unwrap();
        query.get_str("_id").unwrap().to_owned()
    }

    #[test]
    fn entries_are_the_apps_own_and_go_with_its_transaction() {
        let session = format!("{:032x}", u128::from_be_bytes([7; 16]));
        let cases = [
            (Entering::Whole, "shop/d.c".to_owned()),
            (Entering::Alone, "shop/d.c\0".to_owned()),
            (Entering::Beside, format!("shop/d.c\0{session}-3")),
        ];
        for (entering, id) in cases {
            for is_first in [true, false] {
                let enter = |scope: &Scope, statement: Statement<'_>, facts: &Facts<'_>| {
                    scope.enter(statement, facts, ("d", "c"), (entering, false), 5)
                };
                let update = sent(&client_command(true), enter, is_first).unwrap();
                assert_eq!(update.get_str("update").unwrap(), CATALOG);
                assert_eq!(update.get_str("$db").unwrap(), "control");
                assert_eq!(id_of(&update), id);
                assert_eq!(named_by_entry(&id), Some(("shop", "d", "c")));
                let (start, end) = entry_ids("shop/d.c".to_owned());
                assert!(start <= id && id < end, "{id}");
                assert_eq!(update.get_i64("txnNumber").unwrap(), 3);
                assert_eq!(update.get_str("apiVersion").unwrap(), "1");
                assert_eq!(update.contains_key("startTransaction"), is_first);
                assert_eq!(update.contains_key("readConcern"), is_first);
                assert!(!update.contains_key("comment"));
                let id = update.get_document("lsid").unwrap();
                assert_ne!(id.get_binary_generic("id").ok(), Some(&vec![7; 16]));
            }
        }
        let (_, end) = entry_ids("shop/d.c".to_owned());
        assert!("shop/d.c2" > end.as_str() && "shop/d.c.x" > end.as_str());
    }

    #[test]
    fn collections_are_made_as_apps_share_them() {
        let client = client_command(false);
        let make = |scope: &Scope, statement: Statement<'_>, facts: &Facts<'_>| {
            scope.make_collection(statement, facts, ("d", "c"), true)
        };
        let create = sent(&client, make, false).unwrap();
        assert_eq!(create.get_str("create").unwrap(), "c");
        let images = create.get_document("changeStreamPreAndPostImages").unwrap();
        assert_eq!(images, &doc! {"enabled": true});
        let index = |scope: &Scope, statement: Statement<'_>, facts: &Facts<'_>| {
            scope.make_base_indexes(statement, facts, ("d", "c"))
        };
        let indexes = sent(&client, index, false).unwrap();
        let expected = doc! {"indexes": [
            {"key": {"app_id": 1}, "name": "app_id_1"},
            {"key": {"app_id": 1, "_id": 1}, "name": "app_id_1__id_1", "unique": true},
        ]};
        assert_eq!(indexes.get("indexes"), expected.get("indexes"));
        for (database, collection) in [("control", "c"), ("admin", "c"), ("d", "c@shop")] {
            let make = |scope: &Scope, statement: Statement<'_>, facts: &Facts<'_>| {
                scope.make_collection(statement, facts, (database, collection), false)
            };
            assert!(
                sent(&client, make, false).is_err(),
                "{database}.{collection}"
            );
        }
    }

    #[test]
    fn only_transactions_are_added_to() {
        let mut client = client_command(false);
        client.remove("autocommit");
        let enter = |scope: &Scope, statement: Statement<'_>, facts: &Facts<'_>| {
            scope.enter(statement, facts, ("d", "c"), (Entering::Beside, false), 5)
        };
        assert_eq!(sent(&client, enter, false), Err(13));
    }
}
