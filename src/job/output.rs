//! Captured output: what a job wrote, in reading order.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// Which of its two outputs a job wrote to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// Standard output
    Stdout,
    /// Standard error
    Stderr,
}

/// Bytes that were read from one stream at one time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Chunk {
    /// The place in the attempt's output; rises by one.
    pub seq: u32,
    /// Where it was written.
    pub stream: Stream,
    /// When it was read.
    pub at: Timestamp,
    /// How many bytes were dropped just before this chunk, because of the cap.
    #[serde(default)]
    pub gap: u64,
    /// The bytes, as they came.
    #[serde(with = "base64_bytes")]
    #[schemars(with = "String")]
    pub bytes: Vec<u8>,
}

/// Output up to this size (bytes) is stored together with the outcome (S28).
pub const INLINE_OUTPUT: usize = 64 * 1024;

/// How much output of an attempt is kept unless told otherwise, in bytes.
pub const DEFAULT_OUTPUT_CAP: u64 = 10 * 1024 * 1024;

mod base64_bytes {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
        STANDARD.decode(String::deserialize(d)?).map_err(D::Error::custom)
    }
}
