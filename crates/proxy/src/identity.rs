//! Who a client is once it has proven itself.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use mdb_scope::{Action, AppId, COMMANDS, CommandSpec, IdPolicy, Isolation, Scope};
use mdb_telemetry::{AppMeter, CommandMeter, Metrics, OTHER_COMMAND};

use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use crate::errands::Errands;
use crate::sessions::Sessions;
use crate::slots::Slots;
use crate::unread::Unread;

/// Where the documents of an app's collections are put when a collection is made. One that exists stays where it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IsolationPolicy {
    /// For collections that are not named.
    pub default: Isolation,
    /// By the name of a collection, in any database.
    pub collections: BTreeMap<String, Isolation>,
}

impl IsolationPolicy {
    /// Whether no collection is to be shared.
    pub fn is_dedicated(&self) -> bool {
        let mut all = self.collections.values().chain([&self.default]);
        all.all(|isolation| *isolation == Isolation::Dedicated)
    }

    /// Where the documents of a new collection are put.
    pub fn of(&self, collection: &str) -> Isolation {
        self.collections
            .get(collection)
            .copied()
            .unwrap_or(self.default)
    }
}

/// What the proxy keeps of one app for all of its clients. One per app and process.
#[derive(Debug)]
pub struct App {
    /// The app.
    pub id: AppId,
    /// Whether documents are returned with the scope field.
    pub expose_scope_field: bool,
    /// Where the documents of its new collections are.
    pub isolation: IsolationPolicy,
    /// Which `_id` values it may bring into shared collections.
    pub id_policy: IdPolicy,
    /// Whether its commands are told to whoever works on indexes.
    pub is_observed: bool,
    /// Authenticated connections of the app.
    pub connections: Arc<Slots>,
    /// Open cursors of the app.
    pub cursors: Arc<Slots>,
    /// Commands of the app that are on their way upstream.
    pub(crate) commands: Arc<Slots>,
    /// Its replies that clients have not read.
    pub(crate) unread: Arc<Unread>,
    /// What the proxy does for it by its own driver.
    pub(crate) errands: Errands,
    /// Sessions that the app has used lately.
    pub(crate) sessions: Arc<Sessions>,
    /// Counters that do not depend on a command.
    pub meter: AppMeter,
    /// The right to see its documents; made with its first command.
    pub(crate) scope: OnceCell<Scope>,
    metrics: Metrics,
    /// By [`CommandSpec::index`], the last for commands without row. Made when first used: a meter is over a
    /// kilobyte of counters, and an app uses a dozen of the commands.
    command_meters: Arc<[OnceLock<CommandMeter>]>,
}

impl App {
    /// An app without connections and cursors.
    pub fn new(
        id: AppId,
        expose_scope_field: bool,
        isolation: IsolationPolicy,
        metrics: &Metrics,
    ) -> Self {
        Self {
            meter: metrics.app_meter(id.as_str()),
            id,
            expose_scope_field,
            isolation,
            id_policy: IdPolicy::default(),
            is_observed: true,
            connections: Arc::default(),
            cursors: Arc::default(),
            commands: Arc::default(),
            unread: Arc::default(),
            errands: Errands::default(),
            sessions: Arc::default(),
            scope: OnceCell::new(),
            metrics: metrics.clone(),
            command_meters: COMMANDS
                .iter()
                .map(|_| OnceLock::new())
                .chain([OnceLock::new()])
                .collect(),
        }
    }

    /// The same app by a changed manifest. Connections, cursors and counters are those of `self`.
    #[must_use]
    pub fn renewed(&self, expose_scope_field: bool, isolation: IsolationPolicy) -> Self {
        Self {
            id: self.id.clone(),
            expose_scope_field,
            isolation,
            id_policy: IdPolicy::default(),
            is_observed: true,
            connections: Arc::clone(&self.connections),
            cursors: Arc::clone(&self.cursors),
            commands: Arc::clone(&self.commands),
            unread: Arc::clone(&self.unread),
            errands: self.errands.clone(),
            sessions: Arc::clone(&self.sessions),
            meter: self.meter.clone(),
            scope: OnceCell::new(),
            metrics: self.metrics.clone(),
            command_meters: Arc::clone(&self.command_meters),
        }
    }

    /// Whether two manifests gave the same.
    pub fn is_same(&self, other: &Self) -> bool {
        let facts = |app: &Self| (app.expose_scope_field, app.id_policy, app.is_observed);
        self.id == other.id && facts(self) == facts(other) && self.isolation == other.isolation
    }

    /// The counters of a command; `None` for one without row.
    pub fn command_meter(&self, spec: Option<&'static CommandSpec>) -> &CommandMeter {
        let other = self.command_meters.len() - 1;
        let index = spec.map_or(other, |spec| spec.index().min(other));
        let name = spec.map_or(OTHER_COMMAND, |spec| spec.name);
        self.command_meters[index]
            .get_or_init(|| self.metrics.command_meter(self.id.as_str(), name))
    }
}

/// What a proven credential stands for.
#[derive(Debug)]
pub struct Identity {
    /// Its app.
    pub app: Arc<App>,
    /// The user name, unique among all apps.
    pub username: String,
    /// What the credential may do.
    pub grants: Grants,
    /// Until when it holds.
    pub validity: Validity,
}

/// Whether a credential still holds. Clones speak of the same credential: as long as user, password and app stay the same,
/// every reading of the manifests gives the identity the validity that it had.
#[derive(Debug, Clone, Default)]
pub struct Validity(Arc<CancellationToken>);

impl Validity {
    /// Whether both are of one credential.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Whether the credential has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.0.is_cancelled()
    }

    /// The credential is gone, or its password has changed.
    pub(crate) fn end(&self) {
        self.0.cancel();
    }

    /// Cancelled with the end of the credential. One for each connection: waiting on one that all share would take one
    /// lock for all.
    pub(crate) fn watch(&self) -> CancellationToken {
        self.0.child_token()
    }
}

impl Identity {
    /// Whether both are the same user of the same app, perhaps of two readings of the manifests.
    pub fn is_same_user(&self, other: &Self) -> bool {
        self.app.id == other.app.id && self.username == other.username
    }
}

/// The roles of a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Grants {
    /// `read`, or as part of `readWrite`.
    pub read: bool,
    /// `readWrite`.
    pub write: bool,
    /// `dbAdmin`.
    pub admin: bool,
}

impl Grants {
    /// Whether any of the roles allows the action.
    pub fn allows(self, action: Action) -> bool {
        let Self { read, write, admin } = self;
        match action {
            Action::None => true,
            Action::Find => read || write,
            Action::ListCollections
            | Action::ListIndexes
            | Action::CollStats
            | Action::DbStats
            | Action::IndexStats
            | Action::PlanCacheRead => read || write || admin,
            Action::Insert | Action::Update | Action::Remove => write,
            Action::CreateCollection
            | Action::DropCollection
            | Action::CreateIndex
            | Action::DropIndex
            | Action::ConvertToCapped
            | Action::RenameCollection => write || admin,
            Action::BypassDocumentValidation
            | Action::KillAnySession
            | Action::CollMod
            | Action::Validate
            | Action::PlanCacheWrite
            | Action::PlanCacheIndexFilter => admin,
        }
    }

    /// MongoDB's names of the roles.
    pub fn role_names(self) -> impl Iterator<Item = &'static str> {
        let data = match (self.read, self.write) {
            (_, true) => Some("readWrite"),
            (true, false) => Some("read"),
            (false, false) => None,
        };
        data.into_iter().chain(self.admin.then_some("dbAdmin"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: Grants = Grants {
        read: true,
        write: false,
        admin: false,
    };
    const WRITE: Grants = Grants {
        read: true,
        write: true,
        admin: false,
    };
    const ADMIN: Grants = Grants {
        read: false,
        write: false,
        admin: true,
    };

    #[test]
    fn roles_allow_what_their_names_say() {
        // Columns: nobody, read, readWrite, dbAdmin.
        let cases = [
            (Action::None, [true, true, true, true]),
            (Action::Find, [false, true, true, false]),
            (Action::Insert, [false, false, true, false]),
            (Action::Update, [false, false, true, false]),
            (Action::Remove, [false, false, true, false]),
            (Action::ListCollections, [false, true, true, true]),
            (Action::ListIndexes, [false, true, true, true]),
            (Action::CreateCollection, [false, false, true, true]),
            (Action::DropCollection, [false, false, true, true]),
            (Action::CreateIndex, [false, false, true, true]),
            (Action::DropIndex, [false, false, true, true]),
            (Action::CollStats, [false, true, true, true]),
            (Action::DbStats, [false, true, true, true]),
            (Action::IndexStats, [false, true, true, true]),
            (Action::PlanCacheRead, [false, true, true, true]),
            (Action::ConvertToCapped, [false, false, true, true]),
            (Action::RenameCollection, [false, false, true, true]),
            (
                Action::BypassDocumentValidation,
                [false, false, false, true],
            ),
            (Action::CollMod, [false, false, false, true]),
            (Action::Validate, [false, false, false, true]),
            (Action::PlanCacheWrite, [false, false, false, true]),
            (Action::PlanCacheIndexFilter, [false, false, false, true]),
        ];
        for (action, expected) in cases {
            let allowed = [Grants::default(), READ, WRITE, ADMIN].map(|g| g.allows(action));
            assert_eq!(allowed, expected, "{action:?}");
        }
    }

    #[test]
    fn roles_have_the_names_of_mongodb() {
        let names = |grants: Grants| grants.role_names().collect::<Vec<_>>();
        assert_eq!(names(READ), ["read"]);
        assert_eq!(
            names(Grants {
                admin: true,
                ..WRITE
            }),
            ["readWrite", "dbAdmin"]
        );
        assert!(names(Grants::default()).is_empty());
    }

    #[test]
    fn meters_are_one_per_command() {
        let metrics = Metrics::new();
        let app = App::new(
            AppId::parse("shop").unwrap(),
            false,
            IsolationPolicy::default(),
            &metrics,
        );
        app.command_meter(Some(&COMMANDS[0]));
        app.command_meter(None);
        let text = metrics.render();
        assert!(text.contains("app=\"shop\",command=\"hello\""));
        assert!(text.contains("app=\"shop\",command=\"other\""));
        assert!(!text.contains("command=\"find\""));
    }
}
