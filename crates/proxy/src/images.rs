//! `changeStreamPreAndPostImages` of shared collections, for each app by itself.
//!
//! The physical collections keep documents before a change for whoever reads streams on them. The catalog says which app
//! has asked to have them shown; a stream looks there when it is opened.

use mdb_scope::{CollectionFacts, StreamReach};

use crate::error::Error;
use crate::forward::Journey;
use crate::namespaces::Place;

/// The option of `create` and `collMod`.
pub(crate) const OPTION: &str = "changeStreamPreAndPostImages";

impl Journey<'_> {
    /// What the command says of it, if anything.
    pub(crate) fn says_images(&self) -> Option<bool> {
        let images = self.command.body.find(OPTION)?.as_document()?;
        images.find("enabled")?.as_flag()
    }

    /// Writes down what the command says of a shared collection, if anything.
    pub(crate) async fn modify_images(&self, place: Place<'_>) -> Result<(), Error> {
        match self.says_images().filter(|_| self.keeps_images()) {
            Some(are_wanted) => self.define_images(place, are_wanted).await,
            None => Ok(()),
        }
    }

    /// Writes down whether the app wants to have documents before and after changes of a shared collection.
    pub(crate) async fn define_images(
        &self,
        place: Place<'_>,
        are_wanted: bool,
    ) -> Result<(), Error> {
        let control = place.control();
        let app = self.scope.app();
        let at = (place.database, place.collection);
        let define = control.define_images(app, at, are_wanted);
        self.driver(define).await
    }

    /// Whether it does now.
    pub(crate) async fn wants_images(&self, place: Place<'_>) -> Result<bool, Error> {
        let control = place.control();
        let entry = control.entry(self.scope.app(), place.database, place.collection);
        let entry = self.driver(entry).await?;
        Ok(entry.is_some_and(|entry| entry.has_images))
    }

    /// What a stream on a shared collection has to know beside `facts`.
    pub(crate) async fn with_images(
        &self,
        place: Place<'_>,
        facts: &CollectionFacts,
    ) -> Result<CollectionFacts, Error> {
        let mut facts = facts.clone();
        if self.wants_images(place).await? {
            let name = format!("{}.{}", place.database, place.collection);
            facts.with_images.push(name);
        }
        Ok(facts)
    }

    /// The app's shared collections within reach of a stream whose documents before and after changes it wants to have.
    pub(crate) async fn all_with_images(&self, reach: StreamReach) -> Result<Vec<String>, Error> {
        let database = match reach {
            StreamReach::Deployment => None,
            StreamReach::Database | StreamReach::Collection => Some(self.command.database),
        };
        let control = self.place("").control();
        let entries = self
            .driver(control.entries(self.scope.app(), database))
            .await?;
        let with_images = entries.into_iter().filter(|entry| entry.has_images);
        let mut names: Vec<String> = with_images
            .map(|entry| format!("{}.{}", entry.database, entry.collection))
            .collect();
        names.dedup();
        Ok(names)
    }
}
