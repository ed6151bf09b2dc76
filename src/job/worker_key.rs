//! What a worker is known by: its id, which everybody may know, and a secret that it shows with all that it does.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::WorkerId;
use crate::error::{Error, Result};
use crate::hex::hex;
use crate::schema::schema;

/// A worker and its secret: who shows them is that worker. Goes with Ops and lies in the lock file, and nowhere else.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct WorkerKey {
    /// The id of this life of it.
    pub id: WorkerId,
    /// What it registered with.
    pub secret: WorkerSecret,
}

impl WorkerKey {
    /// What a store can compare.
    pub fn proof(&self) -> WorkerProof {
        WorkerProof { id: self.id, hash: self.secret.hash() }
    }
}

/// 256 bits of chance that a worker makes for itself. What shows values for debugging does not show this one.
#[derive(Clone)]
pub struct WorkerSecret([u8; 32]);

impl WorkerSecret {
    /// The secret of that chance.
    pub fn new(chance: [u8; 32]) -> Self {
        Self(chance)
    }

    /// What a store may know of it.
    pub fn hash(&self) -> SecretHash {
        SecretHash(Sha256::digest(self.0).to_vec())
    }

    /// Its digits, for whom it is told to.
    pub(crate) fn reveal(&self) -> String {
        hex(&self.0)
    }
}

schema!(WorkerSecret, "WorkerSecret", {
    "type": "string",
    "description": "the secret of a worker: 64 hexadecimal digits, made by chance",
    "minLength": 64,
    "examples": ["00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"]
});

impl fmt::Debug for WorkerSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl FromStr for WorkerSecret {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        // Nothing of the text is told: it may be most of a secret.
        let bad = || Error::usage("the secret of a worker has 64 hexadecimal digits");
        let digits = text.as_bytes();
        if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(bad());
        }
        let mut secret = [0; 32];
        for (n, byte) in secret.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * n..2 * n + 2], 16).map_err(|_| bad())?;
        }
        Ok(Self(secret))
    }
}

impl Serialize for WorkerSecret {
    fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        to.serialize_str(&self.reveal())
    }
}

impl<'de> Deserialize<'de> for WorkerSecret {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The SHA-256 of a worker's secret, as a store has it. Comparing two takes the same time whatever they are.
#[derive(Clone)]
pub struct SecretHash(Vec<u8>);

impl SecretHash {
    /// What is stored as one. Of another length it is that of no secret.
    pub fn stored(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// What is stored of it.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl PartialEq for SecretHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for SecretHash {}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// Who somebody shows to be: a worker and the hash of the secret that came along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerProof {
    /// The worker.
    pub id: WorkerId,
    /// The hash.
    pub hash: SecretHash,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> WorkerKey {
        WorkerKey { id: WorkerId(uuid::Uuid::nil()), secret: WorkerSecret::new([byte; 32]) }
    }

    #[test]
    fn a_secret_is_written_for_whom_it_is_told_to_and_shown_to_nobody() {
        let json = serde_json::to_string(&key(0xab)).unwrap();
        let read: WorkerKey = serde_json::from_str(&json).unwrap();
        assert!(json.contains(&"ab".repeat(32)) && read.proof() == key(0xab).proof(), "{json}");
        for shown in [format!("{:?}", key(0xab)), format!("{:?}", key(0xab).proof())] {
            assert!(!shown.contains("ab") && !shown.contains("171") && shown.contains('…'), "{shown}");
        }
        assert_ne!(key(1).proof(), key(2).proof());
    }

    #[test]
    fn what_is_no_secret_is_refused_without_a_word_of_it() {
        for text in ["", "ab", &"ab".repeat(33), &"ag".repeat(32), &"ä".repeat(32), &format!("+{}", "a".repeat(63))] {
            let error = text.parse::<WorkerSecret>().unwrap_err().to_string();
            assert_eq!(error, "the secret of a worker has 64 hexadecimal digits");
        }
    }

    #[test]
    fn a_hash_that_was_cut_is_that_of_no_secret() {
        let hash = key(1).secret.hash();
        assert_eq!(SecretHash::stored(hash.as_bytes().to_vec()), hash);
        for bytes in [&hash.as_bytes()[..31], &[]] {
            assert_ne!(SecretHash::stored(bytes.to_vec()), hash);
        }
    }
}
