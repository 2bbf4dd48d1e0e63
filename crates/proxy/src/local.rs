//! Commands that the proxy answers from what it knows: one function each.

use std::time::{SystemTime, UNIX_EPOCH};

use mdb_scope::{COMMANDS, Local, Refusal, WIRE_VERSION_5_0, WIRE_VERSION_6_0, check_fields};
use mdb_wire::writer::IndexKey;
use mdb_wire::{Document, Writer};

use crate::announcement::Presentation;
use crate::authenticate::{self, certificate};
use crate::connection::Connection;
use crate::dispatch::Call;
use crate::error::Error;
use crate::hello;
use crate::random;
use crate::reply;
use crate::shared::Shared;

/// Appends the body of the reply to `out`.
pub(crate) async fn answer(
    local: Local,
    shared: &Shared,
    connection: &mut Connection,
    call: &Call<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let body = call.command.body;
    check_known(local, shared, call)?;
    match local {
        // On the heap: few connections wait here, and only monitors for long.
        Local::Hello => Box::pin(hello::answer(shared, connection, call, out)).await?,
        Local::SaslStart => sasl_start(shared, connection, call, out)?,
        Local::SaslContinue => sasl_continue(shared, connection, body, out)?,
        Local::Authenticate => authenticate_by_certificate(shared, connection, call, out)?,
        Local::Logout => log_out(shared, connection, out),
        Local::Ping => reply::ok(out, |_| ()),
        Local::BuildInfo => build_info(shared, out),
        Local::ConnectionStatus => users::connection_status(shared, connection, body, out)?,
        Local::UsersInfo => users::users_info(shared, connection, call, out)?,
        Local::WhatsMyUri => whats_my_uri(connection, out),
        Local::StartSession => start_session(shared, out),
        Local::GetLog => get_log(call, out)?,
        Local::GetCmdLineOpts => get_cmd_line_opts(shared, out),
        Local::GetParameter => parameters::answer(shared, call, out)?,
        Local::ServerStatus => server_status(shared, connection, out),
        Local::HostInfo => host_info(out),
        Local::ListCommands => list_commands(out),
        Local::GetFreeMonitoringStatus => {
            reply::ok(out, |writer| writer.string(b"state", "disabled"));
        }
    }
    Ok(())
}

/// Checks the fields of a command whose other fields servers mind since such a version; others pass over them (4.4.2, 5.0.4,
/// 6.0.5).
fn check_known(local: Local, shared: &Shared, call: &Call<'_>) -> Result<(), Error> {
    let minded_since = match local {
        Local::Ping => WIRE_VERSION_5_0,
        Local::ConnectionStatus => WIRE_VERSION_6_0,
        _ => return Ok(()),
    };
    if shared.hello.now().face.wire_version_max >= minded_since {
        check_fields(call.spec, &call.command)?;
    }
    Ok(())
}

fn sasl_start(
    shared: &Shared,
    connection: &mut Connection,
    call: &Call<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let command = &call.command;
    let answer = authenticate::start(shared, connection, command.database, command.body)?;
    reply::ok(out, |writer| answer.write(writer));
    Ok(())
}

fn sasl_continue(
    shared: &Shared,
    connection: &mut Connection,
    body: Document<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let answer = authenticate::proceed(shared, connection, body)?;
    reply::ok(out, |writer| answer.write(writer));
    Ok(())
}

fn authenticate_by_certificate(
    shared: &Shared,
    connection: &mut Connection,
    call: &Call<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let command = &call.command;
    let logged_in = certificate::authenticate(shared, connection, command.database, command.body)?;
    reply::ok(out, |writer| logged_in.write(writer));
    Ok(())
}

fn log_out(shared: &Shared, connection: &mut Connection, out: &mut Vec<u8>) {
    connection.authentication.log_out();
    // It was let in already.
    connection.guest.unauthenticated = shared.unauthenticated.take(usize::MAX);
    connection.deadline = None;
    reply::ok(out, |_| ());
}

fn build_info(shared: &Shared, out: &mut Vec<u8>) {
    let now = shared.hello.now();
    reply::ok(out, |writer| {
        writer.string(b"version", &now.build.version);
        writer.string(b"gitVersion", &now.build.git_version);
        reply::strings(writer, b"modules", &[]);
        writer.string(b"sysInfo", "deprecated");
        let mark = writer.begin_array(b"versionArray");
        for (index, number) in now.build.version_array.into_iter().enumerate() {
            writer.int32(IndexKey::new(index).as_bytes(), number);
        }
        writer.end(mark);
        writer.int32(b"bits", 64);
        writer.boolean(b"debug", false);
        writer.int32(b"maxBsonObjectSize", now.face.document_bytes_max);
    });
}

fn whats_my_uri(connection: &Connection, out: &mut Vec<u8>) {
    reply::ok(out, |writer| {
        writer.string(b"you", &connection.peer.to_string());
    });
}

/// A random UUID (RFC 9562, version 4). The upstream learns of the session with its first command.
fn start_session(shared: &Shared, out: &mut Vec<u8>) {
    let mut uuid: [u8; 16] = random::bytes();
    uuid[6] = uuid[6] & 0x0F | 0x40;
    uuid[8] = uuid[8] & 0x3F | 0x80;
    let timeout_minutes = shared.hello.now().face.session_timeout_minutes;
    reply::ok(out, |writer| {
        let mark = writer.begin_document(b"id");
        writer.binary(b"id", UUID_SUBTYPE, &uuid);
        writer.end(mark);
        writer.int32(b"timeoutMinutes", timeout_minutes);
    });
}

fn get_log(call: &Call<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
    match call.command.target.as_str() {
        Some("startupWarnings") => reply::ok(out, |writer| {
            writer.int32(b"totalLinesWritten", 0);
            reply::strings(writer, b"log", &[]);
        }),
        Some("*") => reply::ok(out, |writer| {
            reply::strings(writer, b"names", &["startupWarnings"]);
        }),
        _ => {
            let text = "not authorized to read this log: only startupWarnings is an app's to see";
            return Err(Refusal::unauthorized(text).into());
        }
    }
    Ok(())
}

fn get_cmd_line_opts(shared: &Shared, out: &mut Vec<u8>) {
    reply::ok(out, |writer| {
        reply::strings(writer, b"argv", &[process_name(shared)]);
        empty_document(writer, b"parsed");
    });
}

/// What tools and test suites read: the version, how long the proxy runs, and the app's own connections.
/// What stands in place of a server's name.
pub(crate) const HOST: &str = "mdb-runtime";

fn server_status(shared: &Shared, connection: &Connection, out: &mut Vec<u8>) {
    let now = shared.hello.now();
    let uptime = shared.started_at.elapsed();
    let current = connection
        .identity()
        .map_or(0, |identity| identity.app.connections.taken());
    let available = shared
        .limits
        .connections_per_app_max
        .saturating_sub(current);
    let int32 = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
    reply::ok(out, |writer| {
        writer.string(b"host", HOST);
        writer.string(b"version", &now.build.version);
        writer.string(b"process", process_name(shared));
        writer.double(b"uptime", uptime.as_secs_f64().floor());
        let millis = i64::try_from(uptime.as_millis()).unwrap_or(i64::MAX);
        writer.int64(b"uptimeMillis", millis);
        writer.date_time(b"localTime", now_millis());
        let mark = writer.begin_document(b"connections");
        writer.int32(b"current", int32(current));
        writer.int32(b"available", int32(available));
        writer.end(mark);
    });
}

fn host_info(out: &mut Vec<u8>) {
    reply::ok(out, |writer| {
        for part in [b"system".as_slice(), b"os", b"extra"] {
            empty_document(writer, part);
        }
    });
}

fn list_commands(out: &mut Vec<u8>) {
    reply::ok(out, |writer| {
        let mark = writer.begin_document(b"commands");
        for spec in COMMANDS {
            let row = writer.begin_document(spec.name.as_bytes());
            writer.string(b"help", spec.summary);
            writer.boolean(b"requiresAuth", !spec.before_authentication);
            writer.boolean(b"secondaryOk", true);
            writer.boolean(b"adminOnly", false);
            writer.end(row);
        }
        writer.end(mark);
    });
}

fn process_name(shared: &Shared) -> &'static str {
    match shared.hello.now().face.presentation {
        Presentation::Mongos => "mongos",
        Presentation::Standalone => "mongod",
    }
}

fn empty_document(writer: &mut Writer, key: &[u8]) {
    writer.document(key, Document::EMPTY);
}

/// Milliseconds since 1970 by the wall clock.
pub(crate) fn now_millis() -> i64 {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}

/// BSON's subtype of a UUID.
const UUID_SUBTYPE: u8 = 4;

mod parameters;
mod users;

#[cfg(test)]
mod tests;
