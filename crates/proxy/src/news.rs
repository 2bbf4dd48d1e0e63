//! What those who work in the background are told of.

use std::fmt;

use mdb_scope::AppId;

use crate::forward::Journey;
use crate::namespaces::Place;

type Tell = dyn Fn(&AppId, &str, &str) + Send + Sync;

/// Whom to tell of collections that apps have made, if anybody.
#[derive(Default)]
pub(crate) struct News(Option<Box<Tell>>);

impl News {
    /// Told with app, database and collection.
    pub(crate) fn to(tell: impl Fn(&AppId, &str, &str) + Send + Sync + 'static) -> Self {
        Self(Some(Box::new(tell)))
    }
}

impl fmt::Debug for News {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("News").field(&self.0.is_some()).finish()
    }
}

impl Journey<'_> {
    /// Tells that the app has this collection now, whether it was made by this command or known to the catalog before. Told
    /// once for each collection and process, seldom more often. What a transaction makes is told with the first write after it,
    /// and what is done in the background is not told.
    pub(crate) fn tell_made(&self, place: Place<'_>) {
        let is_client = !self.identity.username.is_empty();
        if let Some(tell) = &self.forward.news.0
            && is_client
            && !self.in_transaction()
        {
            tell(self.scope.app(), place.database, place.collection);
        }
    }

    /// The same after the server has made a collection of the app's own with the command: what is known of it is old.
    pub(crate) fn made_own(&self, place: Place<'_>) {
        if !self.in_transaction() {
            self.forward.namespaces.forget(place);
            self.tell_made(place);
        }
    }
}
