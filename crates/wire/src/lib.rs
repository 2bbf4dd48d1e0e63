//! Bytes into MongoDB messages and back, within limits.
//!
//! What is checked where:
//! - [`frame`]: the length of a message against the limits in force, before anything is taken for it;
//! - [`compression`]: what a compressed message claims to become, against the same limits and to the byte;
//! - [`message`]: flags, checksum and sections of an OP_MSG, and, by [`bson`], every byte of every document in it;
//! - [`legacy`]: the one OP_QUERY that is still spoken, the hand-shake, and the OP_REPLY that answers it;
//! - [`command`]: that a message is a command: a name, a database, no repeated field.
//!
//! A [`bson::Document`] can only be made from checked bytes, so walking one cannot fail.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic
)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::panic
    )
)]

pub mod bson;
pub mod command;
pub mod compression;
pub mod frame;
pub mod legacy;
pub mod limits;
pub mod message;
pub mod writer;

pub use bson::{BsonError, Document, Element, Kind};
pub use command::{Command, CommandError, is_legal_database};
pub use compression::{Compressor, Compressors};
pub use frame::{DecodeError, Frame, OpCode, next_frame};
pub use limits::Limits;
pub use message::{Message, Sequence};
pub use writer::{Mark, Writer};
