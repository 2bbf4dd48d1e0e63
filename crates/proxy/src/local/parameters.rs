//! `getParameter`: the few parameters that are the same for every app and that tools decide by.

use mdb_auth::Mechanism;
use mdb_scope::Refusal;
use mdb_wire::Writer;

use crate::dispatch::Call;
use crate::error::Error;
use crate::reply;
use crate::shared::Shared;

/// A parameter that an app may read.
struct Parameter {
    name: &'static str,
    write: fn(&Shared, &mut Writer, &[u8]),
}

/// In the order of mongod, which lists by name.
const PARAMETERS: &[Parameter] = &[
    Parameter {
        name: "authenticationMechanisms",
        write: |_, writer, key| {
            reply::strings(writer, key, &Mechanism::ALL.map(Mechanism::name));
        },
    },
    // Test suites set fail points where it is true.
    Parameter {
        name: "enableTestCommands",
        write: |_, writer, key| writer.boolean(key, false),
    },
    // Follows the version that `buildInfo` says.
    Parameter {
        name: "featureCompatibilityVersion",
        write: |shared, writer, key| {
            let [major, minor, ..] = shared.hello.now().build.version_array;
            let mark = writer.begin_document(key);
            writer.string(b"version", &format!("{major}.{minor}"));
            writer.end(mark);
        },
    },
    Parameter {
        name: "requireApiVersion",
        write: |_, writer, key| writer.boolean(key, false),
    },
];

/// `{ getParameter: "*" | { allParameters: true } | 1, <name>: 1, ... }`. A name that is not in the table is not found (72),
/// as on a server that has no such parameter.
pub(super) fn answer(shared: &Shared, call: &Call<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
    let command = &call.command;
    let asks_for_all = command.target.as_document().is_some_and(|options| {
        options.find("allParameters").and_then(|e| e.as_flag()) == Some(true)
    });
    let is_all = asks_for_all || command.target.as_str() == Some("*");
    let asked: Vec<&Parameter> = PARAMETERS
        .iter()
        .filter(|parameter| is_all || command.body.find(parameter.name).is_some())
        .collect();
    if asked.is_empty() {
        return Err(Refusal::invalid_options("no option found to get").into());
    }
    reply::ok(out, |writer| {
        for parameter in asked {
            (parameter.write)(shared, writer, parameter.name.as_bytes());
        }
    });
    Ok(())
}
