//! `connectionStatus` and `usersInfo`: who the client is, in the app's own terms.

use mdb_scope::{Refusal, WIRE_VERSION_6_0};
use mdb_wire::writer::IndexKey;
use mdb_wire::{Document, Element, Kind, Writer};

use crate::connection::Connection;
use crate::dispatch::Call;
use crate::error::Error;
use crate::identity::{Grants, Identity};
use crate::reply;
use crate::shared::Shared;

/// `{ authInfo: { authenticatedUsers, authenticatedUserRoles, authenticatedUserPrivileges? } }`; the user and its roles are
/// those of the database that it authenticated on.
pub(super) fn connection_status(
    shared: &Shared,
    connection: &Connection,
    body: Document<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let identity = connection.identity();
    let database = connection.authentication.database().unwrap_or_default();
    let grants = identity.map_or(Grants::default(), |identity| identity.grants);
    let shows = body.find("showPrivileges");
    let wrong = shows.filter(|e| e.kind != Kind::Null && e.as_flag().is_none());
    if let Some(wrong) = wrong {
        let kind = wrong.kind.name();
        let refusal = Refusal::wrong_flag("connectionStatus.showPrivileges", kind);
        // In the words of a server of that version (5.0.4, 6.0.5).
        let is_old = shared.hello.now().face.wire_version_max < WIRE_VERSION_6_0;
        return Err(if is_old {
            refusal.with_text(format!(
                "Expected boolean or number type for field \"showPrivileges\", found {kind}"
            ))
        } else {
            refusal
        }
        .into());
    }
    let shows_privileges = shows.and_then(|e| e.as_flag()) == Some(true);
    reply::ok(out, |writer| {
        let mark = writer.begin_document(b"authInfo");
        let users = writer.begin_array(b"authenticatedUsers");
        if let Some(identity) = identity {
            let user = writer.begin_document(b"0");
            writer.string(b"user", &identity.username);
            writer.string(b"db", database);
            writer.end(user);
        }
        writer.end(users);
        write_roles(writer, b"authenticatedUserRoles", grants, database);
        if shows_privileges {
            write_privileges(writer, b"authenticatedUserPrivileges", grants);
        }
        writer.end(mark);
    });
    Ok(())
}

/// `{ usersInfo: 1 | <name> | { user, db } | [ ... ], showPrivileges? }`, answered with the user that asks.
///
/// A mongod lets everybody ask for himself by name, and refuses (13) every other question of a user without `viewUser`. Here
/// `1`, all users of the database, is answered too: test suites look so whether their user is there.
pub(super) fn users_info(
    shared: &Shared,
    connection: &Connection,
    call: &Call<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let command = &call.command;
    let not_authorized = || {
        let text = "not authorized to view users other than the one that is logged in";
        Error::from(Refusal::unauthorized(text))
    };
    let identity = connection.identity().ok_or_else(not_authorized)?;
    let home = connection.authentication.database().unwrap_or_default();
    let asker = Asker {
        name: &identity.username,
        home,
    };
    let flag = |name: &str| command.body.find(name).and_then(|e| e.as_flag()) == Some(true);
    if flag("showCredentials") {
        return Err(not_authorized());
    }
    let is_listed = match asker.is_asked_for(&command.target, command.database) {
        Some(Asked::Self_) => true,
        Some(Asked::Everybody) => command.database == home,
        Some(Asked::Others) => return Err(not_authorized()),
        None => {
            let text = "UserName must be either a string or an object";
            return Err(Refusal::bad_value(text).into());
        }
    };
    let shows_privileges = flag("showPrivileges");
    reply::ok(out, |writer| {
        let users = writer.begin_array(b"users");
        if is_listed {
            let user = writer.begin_document(b"0");
            write_user(writer, shared, identity, home, shows_privileges);
            writer.end(user);
        }
        writer.end(users);
    });
    Ok(())
}

/// The user that asks, and the database that it logged in on.
struct Asker<'a> {
    name: &'a str,
    home: &'a str,
}

/// Whom a question is about.
enum Asked {
    Self_,
    Everybody,
    Others,
}

impl Asker<'_> {
    /// `None` for what is no question about users.
    fn is_asked_for(&self, target: &Element<'_>, database: &str) -> Option<Asked> {
        let Some(names) = target.as_array() else {
            let is_one = target.as_integer() == Some(1);
            return if is_one {
                Some(Asked::Everybody)
            } else {
                self.one(target, database)
            };
        };
        names.first()?;
        let is_own = |name| matches!(self.one(&name, database), Some(Asked::Self_));
        let all_own = names.elements().all(is_own);
        Some(if all_own { Asked::Self_ } else { Asked::Others })
    }

    fn one(&self, name: &Element<'_>, database: &str) -> Option<Asked> {
        if let Some(name) = name.as_str() {
            return Some(self.named(name, database));
        }
        let document = name.as_document()?;
        if document.find("forAllDBs").is_some() {
            return Some(Asked::Others);
        }
        let user = document.find("user")?;
        let home = document.find("db")?;
        Some(self.named(user.as_str()?, home.as_str()?))
    }

    fn named(&self, name: &str, database: &str) -> Asked {
        if (name, database) == (self.name, self.home) {
            Asked::Self_
        } else {
            Asked::Others
        }
    }
}

/// As mongod writes a user, without `userId`, which is the server's.
fn write_user(
    writer: &mut Writer,
    shared: &Shared,
    identity: &Identity,
    home: &str,
    shows_privileges: bool,
) {
    writer.string(b"_id", &format!("{home}.{}", identity.username));
    writer.string(b"user", &identity.username);
    writer.string(b"db", home);
    let users = shared.users.now();
    if users.credentials.certified(&identity.username).is_some() {
        reply::strings(writer, b"mechanisms", &["external"]);
    } else {
        let mechanisms = users.credentials.mechanisms(&identity.username).iter();
        let names: Vec<&str> = mechanisms.map(|mechanism| mechanism.name()).collect();
        reply::strings(writer, b"mechanisms", &names);
    }
    write_roles(writer, b"roles", identity.grants, home);
    if shows_privileges {
        write_roles(writer, b"inheritedRoles", identity.grants, home);
        write_privileges(writer, b"inheritedPrivileges", identity.grants);
        reply::strings(writer, b"inheritedAuthenticationRestrictions", &[]);
        reply::strings(writer, b"authenticationRestrictions", &[]);
    }
}

fn write_roles(writer: &mut Writer, key: &[u8], grants: Grants, database: &str) {
    let mark = writer.begin_array(key);
    for (index, role) in grants.role_names().enumerate() {
        let element = writer.begin_document(IndexKey::new(index).as_bytes());
        writer.string(b"role", role);
        writer.string(b"db", database);
        writer.end(element);
    }
    writer.end(mark);
}

/// One privilege on every database, which is what the roles of a manifest are.
fn write_privileges(writer: &mut Writer, key: &[u8], grants: Grants) {
    let actions: Vec<&str> = ACTIONS
        .iter()
        .filter(|(_, is_allowed)| is_allowed(grants))
        .map(|(name, _)| *name)
        .collect();
    let mark = writer.begin_array(key);
    if !actions.is_empty() {
        let privilege = writer.begin_document(b"0");
        let resource = writer.begin_document(b"resource");
        writer.string(b"db", "");
        writer.string(b"collection", "");
        writer.end(resource);
        reply::strings(writer, b"actions", &actions);
        writer.end(privilege);
    }
    writer.end(mark);
}

type IsAllowed = fn(Grants) -> bool;

/// MongoDB's names of privilege actions, by name, and who has them (roles `read`, `readWrite`, `dbAdmin` of a mongod 6.0).
const ACTIONS: &[(&str, IsAllowed)] = &[
    ("changeStream", |grants| grants.read || grants.write),
    ("collStats", |_| true),
    ("createCollection", |grants| grants.write || grants.admin),
    ("createIndex", |grants| grants.write || grants.admin),
    ("dbStats", |_| true),
    ("dropCollection", |grants| grants.write || grants.admin),
    ("dropDatabase", |grants| grants.admin),
    ("dropIndex", |grants| grants.write || grants.admin),
    ("find", |grants| grants.read || grants.write),
    ("indexStats", |grants| grants.admin),
    ("insert", |grants| grants.write),
    ("killCursors", |_| true),
    ("listCollections", |_| true),
    ("listIndexes", |_| true),
    ("remove", |grants| grants.write),
    ("update", |grants| grants.write),
];
