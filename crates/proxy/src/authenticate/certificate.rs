//! `authenticate`: a certificate that the TLS handshake has verified is the proof (`MONGODB-X509`).

use std::sync::Arc;

use mdb_scope::Refusal;
use mdb_telemetry::{AuthenticationOutcome, Mechanism};
use mdb_wire::{Document, Element, Writer};

use super::{begin, proven, tell_failure};
use crate::connection::Connection;
use crate::error::{CertificateError, Error, SaslError};
use crate::guest::Shown;
use crate::identity::Identity;
use crate::shared::Shared;

/// The database of users that no server keeps passwords of.
pub(crate) const EXTERNAL: &str = "$external";
/// The only mechanism of the command since 4.0.
const MECHANISM: &str = "MONGODB-X509";
/// How much of an unknown mechanism's or field's name a reply repeats.
const NAME_CHARS_MAX: usize = 64;
/// Fields of the command, beside its name and those that every command may have.
const FIELDS: &[&[u8]] = &[b"mechanism", b"user", b"db"];
/// The generic fields that drivers and shells send with it.
const GENERIC: &[&[u8]] = &[
    b"$db",
    b"lsid",
    b"$clusterTime",
    b"$readPreference",
    b"apiVersion",
    b"apiStrict",
    b"apiDeprecationErrors",
    b"comment",
    b"maxTimeMS",
];

/// Who was logged in.
pub(crate) struct LoggedIn(Arc<Identity>);

impl LoggedIn {
    /// `dbname` and `user`.
    pub(crate) fn write(&self, writer: &mut Writer) {
        writer.string(b"dbname", EXTERNAL);
        writer.string(b"user", &self.0.username);
    }
}

/// The command `authenticate`.
pub(crate) fn authenticate(
    shared: &Shared,
    connection: &mut Connection,
    database: &str,
    body: Document<'_>,
) -> Result<LoggedIn, Error> {
    begin(shared, connection)?;
    let user = asked_user(database, body)?;
    match holder(shared, connection, user) {
        Ok(identity) => log_in(shared, connection, identity),
        Err(error) => {
            let subject = subject(connection).unwrap_or_default();
            let outcome = AuthenticationOutcome::Failed;
            tell_failure(
                shared,
                connection,
                (Mechanism::X509, outcome),
                subject,
                &error,
            );
            Err(error.into())
        }
    }
}

/// The same inside hello. What fails there is told by the command that the driver sends next.
pub(crate) fn speculate(
    shared: &Shared,
    connection: &mut Connection,
    attempt: Document<'_>,
) -> Option<LoggedIn> {
    let database = attempt.find("db").and_then(|e| e.as_str());
    let user = asked_user(database.unwrap_or(EXTERNAL), attempt).ok()?;
    let identity = holder(shared, connection, user).ok()?;
    connection.authentication.dialogue = None;
    log_in(shared, connection, identity).ok()
}

/// Reads the command: the user that the client takes itself for, if it says so.
fn asked_user<'b>(database: &str, body: Document<'b>) -> Result<Option<&'b str>, Error> {
    let mechanism = body.find("mechanism").ok_or(SaslError::Missing {
        command: "authenticate",
        field: "mechanism",
    })?;
    let mechanism = text(&mechanism)?;
    let user = body.find("user").as_ref().map(text).transpose()?;
    let is_unknown =
        |field: &Element<'_>| !FIELDS.contains(&field.key) && !GENERIC.contains(&field.key);
    if let Some(field) = body.elements().skip(1).find(is_unknown) {
        let field: String = field.name().chars().take(NAME_CHARS_MAX).collect();
        let text = format!("BSON field 'authenticate.{field}' is an unknown field.");
        return Err(Refusal::unknown_field(text).into());
    }
    if mechanism != MECHANISM {
        let mechanism = mechanism.chars().take(NAME_CHARS_MAX).collect();
        return Err(CertificateError::Mechanism(mechanism).into());
    }
    if database != EXTERNAL {
        return Err(CertificateError::Database.into());
    }
    Ok(user.filter(|user| !user.is_empty()))
}

fn text<'b>(field: &Element<'b>) -> Result<&'b str, Refusal> {
    field.as_str().ok_or_else(|| {
        Refusal::type_mismatch(format!(
            "BSON field 'authenticate.{}' is the wrong type '{}', expected type 'string'",
            field.name(),
            field.kind.name()
        ))
    })
}

fn subject(connection: &Connection) -> Result<&str, CertificateError> {
    match &connection.guest.certificate {
        Shown::Subject(subject) => Ok(subject),
        Shown::Nothing => Err(CertificateError::NotShown),
        Shown::Unwritable => Err(CertificateError::Unwritable),
    }
}

/// Whom the certificate of the connection stands for.
fn holder(
    shared: &Shared,
    connection: &Connection,
    user: Option<&str>,
) -> Result<Arc<Identity>, CertificateError> {
    let subject = subject(connection)?;
    if user.is_some_and(|user| user != subject) {
        return Err(CertificateError::OtherUser);
    }
    let users = shared.users.now();
    let identity = users.credentials.certified(subject);
    identity
        .map(Arc::clone)
        .ok_or_else(|| CertificateError::NoUser(subject.to_owned()))
}

fn log_in(
    shared: &Shared,
    connection: &mut Connection,
    identity: Arc<Identity>,
) -> Result<LoggedIn, Error> {
    let logged_in = LoggedIn(Arc::clone(&identity));
    proven(
        shared,
        connection,
        identity,
        EXTERNAL.into(),
        Mechanism::X509,
    )?;
    connection.deadline = None;
    Ok(logged_in)
}
