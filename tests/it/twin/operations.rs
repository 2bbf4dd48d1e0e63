//! What tells of the app's own operations, users and commands.

use bson::doc;

use super::generator::Generator;
use super::step::{Compare, Step};

impl Generator {
    pub(super) fn operation(&mut self) -> Vec<Step> {
        let session = "<session 3>";
        let (command, compare) = match self.dice.between(1, 10) {
            1 => (doc! {"currentOp": 1, "$db": "admin"}, Compare::Code),
            2 => (
                doc! {"killOp": 1, "op": 123_456_789, "$db": "admin"},
                Compare::Exact,
            ),
            3 => (doc! {"killOp": 1, "$db": "admin"}, Compare::Code),
            4 => (doc! {"listCommands": 1}, Compare::Code),
            5 => (doc! {"connectionStatus": 1}, Compare::Code),
            6 => (doc! {"buildInfo": 1}, Compare::Code),
            7 => (doc! {"ping": 1}, Compare::Exact),
            8 => (
                doc! {"killSessions": [{"id": session}], "$db": "admin"},
                Compare::Code,
            ),
            9 => (doc! {"hello": 1}, Compare::Code),
            _ => (doc! {"hostInfo": 1, "$db": "admin"}, Compare::Code),
        };
        vec![Step::new(command, compare)]
    }
}
