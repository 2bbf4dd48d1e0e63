//! The plan cache of a shared collection, as far as an app may touch it.
//!
//! Plans are kept by the shape of a query, and so are filters on indexes. Rewritten queries of all apps have the same shapes: what
//! is cleared or set upstream would be cleared and set for all of them. So an app has no filters there, and clearing leaves the
//! cache alone, which no reply shows.

use bson::{Document, doc};
use mdb_scope::{Refusal, collection_of};
use mdb_wire::{Command, Kind};

use crate::error::Error;
use crate::forward::Journey;
use crate::reply;

/// No plan serves the query, which a server does not ask here.
const NO_PLAN: i64 = 291;

/// Parts of a shape beside the query.
const BESIDE: [&str; 3] = ["projection", "sort", "collation"];

impl Journey<'_> {
    /// `planCacheClear`, `planCacheClearFilters` and `planCacheListFilters`.
    ///
    /// # Errors
    /// 166 for a view; those of a server for a shape that is none.
    pub(crate) async fn plan_cache(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        self.refuse_in_transaction()?;
        let place = self.place(collection_of(self.command)?);
        let is_shared = self.shared_one(place).await?.is_some();
        let known = self.forward.namespaces.look_up(place);
        let known = self.namespace(known).await?;
        if known.facts.is_view {
            let (database, name) = (place.database, place.collection);
            let text = format!("Namespace {database}.{name} is a view, not a collection");
            return Err(Refusal::not_on_view(text).into());
        }
        let is_own = known.facts.is_dedicated() && known.exists;
        let lists = self.spec.name == "planCacheListFilters";
        // Of a collection that is not there servers read no shape (4.4.2, 5.0.4, 6.0.5).
        if !lists && (is_shared || is_own) {
            let has_query = self.check_shape()?;
            if is_shared && has_query && !self.has_plan(out).await? {
                return Ok(());
            }
        }
        if is_own {
            return self.as_own(out).await.map(|_| ());
        }
        reply::ok(out, |w| {
            if lists {
                let none = w.begin_array(b"filters");
                w.end(none);
            }
        });
        Ok(())
    }

    /// Checks the parts of a shape. Gives whether the command states one.
    ///
    /// # Errors
    /// 2, in mongod's words (4.4.2, 6.0.5).
    fn check_shape(&self) -> Result<bool, Refusal> {
        let body = self.command.body;
        let stated = |part: &str| body.find(part);
        let Some(query) = stated("query") else {
            if BESIDE.iter().any(|part| stated(part).is_some()) {
                let text = "sort, projection, or collation provided without query";
                return Err(Refusal::bad_value(text));
            }
            return Ok(false);
        };
        if query.kind != Kind::Document {
            return Err(Refusal::bad_value("required field query must be an object"));
        }
        let no_object = BESIDE.iter().find(|part| {
            let element = stated(part);
            element.is_some_and(|e| e.kind != Kind::Document)
        });
        if let Some(part) = no_object {
            let text = format!("optional field {part} must be an object");
            return Err(Refusal::bad_value(text));
        }
        Ok(true)
    }

    /// Asks for the plan of the query, in the app's name: the server reads all parts of the shape then. Gives whether it takes
    /// them; if not, what it says is in `out`.
    async fn has_plan(&self, out: &mut Vec<u8>) -> Result<bool, Error> {
        let said = Document::from_reader(self.command.body.bytes()).unwrap_or_default();
        let mut find = doc! {"find": collection_of(self.command)?};
        for (part, of_find) in [("query", "filter")]
            .into_iter()
            .chain(BESIDE.map(|part| (part, part)))
        {
            if let Some(value) = said.get(part) {
                find.insert(of_find, value);
            }
        }
        let database = self.command.database;
        let explain = doc! {"explain": find, "verbosity": "queryPlanner", "$db": database};
        let bytes = explain.to_vec().unwrap_or_default();
        let body = mdb_wire::Document::parse(&bytes).unwrap_or(mdb_wire::Document::EMPTY);
        let command = Command::inner(body, database)?;
        let start = out.len();
        Box::pin(self.with_command(&command)?.travel(out)).await?;
        let said = out.get(start..).unwrap_or_default();
        let code = mdb_wire::Document::parse(said)
            .ok()
            .and_then(|reply| reply.find("code")?.as_integer());
        let is_query = code.is_none_or(|code| code == NO_PLAN);
        if is_query {
            out.truncate(start);
        }
        Ok(is_query)
    }
}
