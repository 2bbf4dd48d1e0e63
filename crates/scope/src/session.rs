//! Session ids in the app's own space.

use aes::Aes128;
use aes::cipher::{BlockDecrypt, BlockEncrypt, KeyInit};

/// A keyed permutation of the 16 bytes of a session id: all apps are one user upstream, so the server keeps their sessions
/// apart only if their ids differ. Deterministic, so that a retry through another proxy finds the same session;
/// reversible, so that ids in replies can be given back. The server takes any 16 bytes for a UUID (6.0.5).
pub struct SessionCipher(Aes128);

impl SessionCipher {
    /// One key for each app.
    pub fn new(key: [u8; 16]) -> Self {
        Self(Aes128::new(&key.into()))
    }

    /// The id upstream.
    pub fn upstream_id(&self, client: [u8; 16]) -> [u8; 16] {
        let mut block = client.into();
        self.0.encrypt_block(&mut block);
        block.into()
    }

    /// The id that the client knows.
    pub fn client_id(&self, upstream: [u8; 16]) -> [u8; 16] {
        let mut block = upstream.into();
        self.0.decrypt_block(&mut block);
        block.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_back_and_differ_by_app() {
        let (a, b) = (SessionCipher::new([1; 16]), SessionCipher::new([2; 16]));
        let id = [7; 16];
        assert_eq!(a.client_id(a.upstream_id(id)), id);
        assert_eq!(
            a.upstream_id(id),
            SessionCipher::new([1; 16]).upstream_id(id)
        );
        assert_ne!(a.upstream_id(id), b.upstream_id(id));
        assert_ne!(a.upstream_id(id), id);
    }
}
