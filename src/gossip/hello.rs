//! The first sealed message of each side: who it is, and which protocol it speaks.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::counters::Refusal;

/// The protocol that this version speaks.
const PROTOCOL: u16 = 1;
/// The longest introduction.
pub(super) const MAX_HELLO: usize = 1024;
/// The longest node id.
pub(super) const MAX_ID: usize = 64;

/// What a node says of itself on each connection; fields that a newer version adds are passed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    /// The protocol it speaks.
    protocol: u16,
    /// The oldest protocol that it still understands.
    oldest: u16,
    /// The node's id.
    pub(super) id: String,
    /// Which process this is: no other ever has the same.
    pub(super) instance: Uuid,
    /// Where its peers reach it.
    pub(super) advertise: SocketAddr,
}

impl Hello {
    pub(super) fn new(id: &str, advertise: SocketAddr) -> Self {
        Self { protocol: PROTOCOL, oldest: PROTOCOL, id: id.into(), instance: Uuid::new_v4(), advertise }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default() // strings and numbers always become JSON
    }

    /// Reads an introduction.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        #[derive(Deserialize)]
        struct Oldest {
            oldest: u16,
        }
        let oldest: Oldest = serde_json::from_slice(bytes).map_err(|_| Refusal::BadHello)?;
        if oldest.oldest > PROTOCOL {
            return Err(Refusal::NewerProtocol);
        }
        let mut hello: Self = serde_json::from_slice(bytes).map_err(|_| Refusal::BadHello)?;
        if !is_id(&hello.id) {
            return Err(Refusal::BadHello);
        }
        hello.advertise = plain(hello.advertise);
        Ok(hello)
    }
}

/// Whether this can be a node id: letters, digits, `.`, `_`, `-`, `@`, `:`, at most [`MAX_ID`].
pub(super) fn is_id(id: &str) -> bool {
    let fine = |c: char| c.is_ascii_alphanumeric() || "._-@:".contains(c);
    (1..=MAX_ID).contains(&id.len()) && id.chars().all(fine)
}

/// An address in one way of writing: IPv4 as IPv4, nothing that means something on one machine only.
pub(super) fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Result<Hello, Refusal> {
        Hello::decode(text.as_bytes())
    }

    #[test]
    fn an_introduction_reads_back_and_a_newer_version_may_say_more() {
        let hello = Hello::new("front-1", "[::1]:7946".parse().unwrap());
        let bytes = hello.encode();
        assert!(bytes.len() < MAX_HELLO);
        assert_eq!(Hello::decode(&bytes), Ok(hello));
        let id = "6a3ad5b0-97f0-4c35-9d3c-3b6f6b1f7a55";
        let newer = format!(
            r#"{{"protocol":9,"oldest":1,"id":"b","instance":"{id}","advertise":"[::ffff:10.0.0.1]:1","x":[1]}}"#
        );
        assert_eq!(json(&newer).unwrap().advertise, "10.0.0.1:1".parse().unwrap());
        assert_eq!(json(&newer.replace("\"oldest\":1", "\"oldest\":2")), Err(Refusal::NewerProtocol));
        assert_eq!(json(r#"{"oldest":7}"#), Err(Refusal::NewerProtocol));
        for bad in
            ["", "{}", "[]", r#"{"oldest":1}"#, &newer.replace("\"b\"", "\"a b\""), &newer.replace("\"b\"", "\"\"")]
        {
            assert_eq!(json(bad), Err(Refusal::BadHello), "{bad}");
        }
    }
}
