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
    /// How many bytes of both streams came before it. Where that is more than the end of the chunk before, what lies
    /// between them is not kept, because of the cap.
    pub place: u64,
    /// The bytes, as they came.
    #[serde(with = "base64_bytes")]
    #[schemars(with = "String")]
    pub bytes: Vec<u8>,
}

impl Chunk {
    /// The place after its last byte.
    pub fn end(&self) -> u64 {
        self.place.saturating_add(u64::try_from(self.bytes.len()).unwrap_or(u64::MAX))
    }
}

/// What is kept no more of an attempt's output: of the chunks from `from` on and below `below`, all that lies before the
/// place `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cut {
    /// The first chunk of which something goes.
    pub from: u32,
    /// The first chunk after that of which nothing does.
    pub below: u32,
    /// The first byte that is kept, counted over both streams.
    pub to: u64,
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
