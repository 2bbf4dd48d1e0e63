//! Recent commands, to be explained before an index is built and after it.

use bson::{Bson, Document, doc};
use mdb_scope::{AppId, Isolation};
use mdb_shape::Probe;
use mongodb::error::Error as DriverError;

use crate::consider::Wish;
use crate::evidence::{LATE, PlanFigures};
use crate::physical::{Wanted, code_of};
use crate::settings::millis;
use crate::table::{Namespace, PROBES_MAX};
use crate::worker::Worker;

/// Commands that are explained for one wish.
pub(crate) const EXPLAINED_MAX: usize = 4;

/// A command that asks for an index, as it can be explained again, and how it is executed without it.
pub(crate) struct Evidence {
    pub(crate) explain: Document,
    pub(crate) figures: PlanFigures,
}

impl Worker {
    /// Whether there is a command to explain.
    pub(crate) fn has_sample(&self, wish: &Wish) -> bool {
        let of_app = wish.wanted.app.as_ref();
        let mut serves = wish.serves.iter();
        serves.any(|id| self.table.probes(id, of_app).next().is_some())
    }

    /// Explains recent commands of the shapes: gives the first that asks for an index, or else the last.
    pub(crate) async fn explain_any(
        &mut self,
        wish: &Wish,
    ) -> Result<Option<Evidence>, DriverError> {
        let of_app = wish.wanted.app.as_ref();
        // One of each shape, then of other apps: some may be served already.
        let table = &self.table;
        let nth = |n: usize| {
            let ids = wish.serves.iter();
            ids.filter_map(move |id| table.probes(id, of_app).nth(n))
        };
        let commands = (0..PROBES_MAX).flat_map(nth);
        let commands = commands.take(EXPLAINED_MAX).cloned();
        let commands: Vec<(AppId, Probe)> = commands.collect();
        let mut last = None;
        for (app, probe) in commands {
            let Some(explain) = self.explain_of(&app, probe, &wish.wanted).await? else {
                continue;
            };
            if !self.may_ask() {
                break;
            }
            let Some(figures) = self.explain(&wish.wanted.namespace, &explain).await else {
                continue;
            };
            let asks = figures.asks_for_index(&self.settings);
            let evidence = Evidence { explain, figures };
            if asks {
                return Ok(Some(evidence));
            }
            last = Some(evidence);
        }
        Ok(last)
    }

    /// What a command's plan says; `None` if the upstream does not explain it.
    pub(crate) async fn explain(
        &self,
        namespace: &Namespace,
        explain: &Document,
    ) -> Option<PlanFigures> {
        let executed = self.run_on(namespace, explain.clone()).await;
        let found = match executed {
            Ok(reply) => Ok(PlanFigures::read(&reply)),
            Err(error) if code_of(&error) == Some(LATE) => {
                let mut planned = explain.clone();
                planned.insert("verbosity", "queryPlanner");
                let planned = self.run_on(namespace, planned).await;
                planned.map(|reply| PlanFigures::of_late(&reply))
            }
            Err(error) => Err(error),
        };
        found.unwrap_or_else(|error| {
            // A filter that only makes sense inside its command, for example.
            tracing::debug!(code = code_of(&error), "a command was not explained");
            None
        })
    }

    /// Asks how a recent command is executed, as a `find`; `None` if there is nothing to find.
    async fn explain_of(
        &self,
        app: &AppId,
        probe: Probe,
        wanted: &Wanted,
    ) -> Result<Option<Document>, DriverError> {
        let own = match wanted.isolation {
            Isolation::Shared => Some(doc! {&self.field: app.as_str()}),
            Isolation::Dedicated => None,
        };
        let Some(mut find) = self.as_find(&wanted.namespace, probe, own).await? else {
            return Ok(None);
        };
        if let Some(bytes) = &wanted.collation
            && let Ok(collation) = bson::deserialize_from_slice::<Document>(bytes)
        {
            find.insert("collation", collation);
        }
        // Within the command that is explained it has no effect: seen on 4.4.2, 5.0.4 and 6.0.5.
        let at_most = millis(self.settings.explain_timeout);
        Ok(Some(
            doc! {"explain": find, "verbosity": "executionStats", "maxTimeMS": at_most},
        ))
    }

    async fn as_find(
        &self,
        namespace: &Namespace,
        probe: Probe,
        own: Option<Document>,
    ) -> Result<Option<Document>, DriverError> {
        let bound = |filter: Document| match &own {
            Some(own) => doc! {"$and": [own.clone(), filter]},
            None => filter,
        };
        let collection = namespace.collection.as_str();
        match probe {
            Probe::Query {
                filter,
                sort,
                skip,
                limit,
            } => {
                let Ok(filter) = bson::deserialize_from_slice::<Document>(&filter) else {
                    return Ok(None);
                };
                let mut find = doc! {"find": collection, "filter": bound(filter), "skip": skip, "limit": limit};
                let sort = sort.and_then(|s| bson::deserialize_from_slice::<Document>(&s).ok());
                if let Some(sort) = sort {
                    find.insert("sort", sort);
                }
                Ok(Some(find))
            }
            Probe::Foreign { fields, filter } => {
                let filter = bson::deserialize_from_slice::<Document>(&filter);
                let also =
                    |fields: Document| doc! {"$and": [fields, filter.clone().unwrap_or_default()]};
                let exist = fields
                    .iter()
                    .map(|field| (field.clone(), bson::bson!({"$exists": true})));
                let documents = self.store.client().database(&namespace.database);
                let documents = documents.collection::<Document>(collection);
                let some = documents.find_one(bound(also(exist.collect())));
                let some = some.max_time(self.settings.explain_timeout).await?;
                let values = some.as_ref().and_then(|found| {
                    let value = |field: &String| Some((field.clone(), at_path(found, field)?));
                    fields.iter().map(value).collect::<Option<Document>>()
                });
                Ok(values.map(|values| doc! {"find": collection, "filter": bound(also(values))}))
            }
        }
    }
}

/// A value at a dotted path, the first of an array.
fn at_path(document: &Document, path: &str) -> Option<Bson> {
    let mut parts = path.split('.');
    let mut value = document.get(parts.next()?)?;
    for part in parts {
        value = match value {
            Bson::Array(items) => items.first()?,
            other => other,
        };
        value = value.as_document()?.get(part)?;
    }
    match value {
        Bson::Array(items) => items.first().cloned(),
        other => Some(other.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_through_arrays() {
        let document = doc! {"a": {"b": [{"c": [5, 6]}]}, "x": null};
        for (path, expected) in [
            ("a.b.c", Some(Bson::Int32(5))),
            ("x", Some(Bson::Null)),
            ("a.y", None),
            ("x.y", None),
        ] {
            assert_eq!(at_path(&document, path), expected, "{path}");
        }
    }
}
