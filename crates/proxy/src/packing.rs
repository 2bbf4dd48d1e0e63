//! Compression on the way from and to a client.

use mdb_wire::compression::{claimed_bytes, compress, decompress};
use mdb_wire::{Compressor, Compressors, DecodeError, Frame, Limits};
use tokio::task::spawn_blocking;

use crate::dispatch::Call;

/// Replies to these are never compressed (OP_COMPRESSED specification): what they carry could be guessed from their size.
/// Those of them that the proxy refuses as well.
const NEVER_PACKED: &[&str] = &[
    "hello",
    "isMaster",
    "saslStart",
    "saslContinue",
    "authenticate",
    "getnonce",
    "createUser",
    "updateUser",
    "copydb",
    "copydbgetnonce",
    "copydbsaslstart",
];

/// How the reply to a command is compressed: as the command was, unless it never is.
pub(crate) fn of_reply(
    call: Option<&Call<'_>>,
    of_command: Option<Compressor>,
) -> Option<Compressor> {
    of_command.filter(|_| call.is_none_or(|call| !NEVER_PACKED.contains(&call.spec.name)))
}

/// Takes the message out of an OP_COMPRESSED.
pub(crate) async fn unpack(
    frame: Frame,
    agreed: Compressors,
    limits: Limits,
) -> Result<(Frame, Compressor), DecodeError> {
    let bytes = claimed_bytes(&frame);
    if bytes <= AT_ONCE_BYTES_MAX || bytes > limits.message_bytes_max {
        return decompress(&frame, agreed, limits);
    }
    let error = DecodeError {
        request_id: None,
        what: mdb_wire::frame::Malformed::Compression,
    };
    let work = spawn_blocking(move || decompress(&frame, agreed, limits));
    work.await.unwrap_or(Err(error))
}

/// The message as an OP_COMPRESSED; `None` where that cannot be done, and it is to be sent as it is.
pub(crate) async fn pack(message: &[u8], compressor: Compressor) -> Option<Vec<u8>> {
    if message.len() <= AT_ONCE_BYTES_MAX {
        return compress(message, compressor);
    }
    let message = message.to_vec();
    let work = spawn_blocking(move || compress(&message, compressor));
    work.await.ok()?
}

/// Up to how many bytes are compressed or decompressed by the thread that serves other clients as well: by the slowest
/// compressor it takes one or two milliseconds. A larger message goes to a thread of its own.
const AT_ONCE_BYTES_MAX: usize = 64 * 1024;
