//! Randomness from the operating system.

/// Bytes that nobody can foresee.
///
/// # Panics
/// If the operating system gives none: ids and nonces that can be guessed are worse than a closed connection.
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}
