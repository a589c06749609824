//! Secret of a store, and the proofs that both ends of a connection know it.
//!
//! Each end sends a random number and, as its proof, a keyed hash (HMAC-SHA-256) of its role and both numbers. The secret itself
//! is never sent, a proof is valid for one connection only, and a program that poses as the server learns nothing.

use std::fmt;
use std::hint::black_box;

use sha2::{Digest, Sha256};

use super::error::StoreError;

/// Length of random numbers and proofs.
pub(super) const LENGTH: usize = 32;

/// Length of a block of SHA-256.
const BLOCK: usize = 64;

/// Secret that a process must know to use a store. Its text is not shown by [`fmt::Debug`].
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Creates a random secret of 256 bits.
    ///
    /// # Errors
    /// A [`StoreError`] if the system provides no random numbers.
    pub fn random() -> Result<Self, StoreError> {
        Ok(Self(random()?.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    /// Creates a secret from its text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the secret that everyone knows: a store with it can be used by everyone who can connect to it.
    pub fn none() -> Self {
        Self(String::new())
    }

    /// Returns true for [`Self::none`].
    pub fn is_none(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the text of the secret, to be passed to another process.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// Returns the proof of an end of a connection with these random numbers.
    pub(super) fn proof(&self, role: Role, numbers: &Numbers) -> [u8; LENGTH] {
        let role: &[u8] = match role {
            Role::Server => b"glm store server",
            Role::Client => b"glm store client",
        };
        keyed_hash(self.0.as_bytes(), &[role, &numbers.server, &numbers.client].concat())
    }

    /// Checks the proof of the other end, in a time that does not depend on its bytes.
    pub(super) fn accepts(&self, proof: &[u8; LENGTH], role: Role, numbers: &Numbers) -> bool {
        let expected = self.proof(role, numbers);
        let difference = proof.iter().zip(&expected).fold(0, |difference, (a, b)| black_box(difference | (a ^ b)));
        difference == 0
    }
}

/// HMAC-SHA-256 (RFC 2104).
fn keyed_hash(key: &[u8], message: &[u8]) -> [u8; LENGTH] {
    let mut block = [0; BLOCK];
    match key.len() > BLOCK {
        true => block[..LENGTH].copy_from_slice(&Sha256::digest(key)),
        false => block[..key.len()].copy_from_slice(key),
    }
    let inner = Sha256::new().chain_update(block.map(|byte| byte ^ 0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(block.map(|byte| byte ^ 0x5c)).chain_update(inner).finalize().into()
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_none() { "Secret(none)" } else { "Secret(..)" })
    }
}

/// End of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) enum Role {
    Server,
    Client,
}

/// Random numbers of both ends of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Numbers {
    pub(super) server: [u8; LENGTH],
    pub(super) client: [u8; LENGTH],
}

/// Returns a random number of the system.
pub(super) fn random() -> Result<[u8; LENGTH], StoreError> {
    let mut bytes = [0; LENGTH];
    getrandom::fill(&mut bytes).map_err(|error| StoreError::Random { reason: error.to_string() })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_is_valid_for_its_secret_role_and_numbers_only() {
        let [secret, other] = [Secret::random().expect("random"), Secret::random().expect("random")];
        let numbers = Numbers { server: random().expect("random"), client: random().expect("random") };
        let swapped = Numbers { server: numbers.client, client: numbers.server };
        let proof = secret.proof(Role::Client, &numbers);
        assert!(secret.accepts(&proof, Role::Client, &numbers));
        assert!(!secret.accepts(&proof, Role::Server, &numbers));
        assert!(!secret.accepts(&proof, Role::Client, &swapped));
        assert!(!other.accepts(&proof, Role::Client, &numbers) && !Secret::none().accepts(&proof, Role::Client, &numbers));
    }

    /// Test cases 2 and 6 of RFC 4231: a short key, and one longer than a block.
    #[test]
    fn the_keyed_hash_is_that_of_the_standard() {
        let hex = |hash: [u8; LENGTH]| hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let short = keyed_hash(b"Jefe", b"what do ya want for nothing?");
        assert_eq!(hex(short), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
        let long = keyed_hash(&[0xaa; 131], b"Test Using Larger Than Block-Size Key - Hash Key First");
        assert_eq!(hex(long), "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    }

    #[test]
    fn the_text_is_the_secret_and_is_not_shown() {
        let secret = Secret::random().expect("random");
        assert_eq!((Secret::new(secret.text()), secret.text().len()), (secret.clone(), 2 * LENGTH));
        assert!(!format!("{secret:?}").contains(secret.text()) && Secret::none().is_none() && !secret.is_none());
    }
}
