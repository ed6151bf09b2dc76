//! The live peers as others see them, with what each says of itself: opaque values under short keys.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;

use super::hello::is_id;
use crate::error::{Error, Kind, Result};

/// The most bytes of keys and values that a node may say of itself.
pub const MAX_VALUES: usize = 16 * 1024;
/// The longest key.
pub const MAX_KEY: usize = 128;
/// The most keys of a node.
const MAX_COUNT: usize = 256;
/// Keys of the room itself begin with it.
const RESERVED: char = '~';
/// Says that the node has gone.
pub(super) const LEFT: &str = "~left";
/// Says that the node is there, so that none is without a version.
pub(super) const HERE: &str = "~here";

/// What a node says of itself.
pub type Values = BTreeMap<String, Vec<u8>>;

/// The live peers by id, without this node itself.
pub type Peers = BTreeMap<String, Peer>;

/// One live peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its id.
    pub id: String,
    /// Its generation: higher after a restart.
    pub generation: u64,
    /// Where it takes gossip.
    pub address: SocketAddr,
    /// Rises with each change of its values.
    pub version: u64,
    /// What it says of itself.
    pub values: BTreeMap<String, Value>,
}

/// A value that a peer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// The version of the peer at which it was said.
    pub version: u64,
    /// The value; this room does not look inside.
    pub bytes: Vec<u8>,
}

/// A node as gossip knows it.
pub(super) struct Seen<'a> {
    pub(super) id: &'a str,
    pub(super) generation: u64,
    pub(super) address: SocketAddr,
    pub(super) version: u64,
    /// Key, text, version.
    pub(super) values: Vec<(&'a str, &'a str, u64)>,
}

/// The peers among live nodes. Of two generations of an id the higher is the peer. `oversized` hears of nodes that say
/// more than they may; they are shown without values.
pub(super) fn peers<'a>(live: impl Iterator<Item = Seen<'a>>, own_id: &str, mut oversized: impl FnMut(&str)) -> Peers {
    let mut newest: BTreeMap<&str, Seen<'_>> = BTreeMap::new();
    for seen in live.filter(|seen| seen.id != own_id && is_id(seen.id) && seen.version > 0) {
        match newest.get(seen.id) {
            Some(other) if other.generation >= seen.generation => {}
            _ => drop(newest.insert(seen.id, seen)),
        }
    }
    let here = newest.into_values().filter(|seen| !seen.values.iter().any(|(key, ..)| *key == LEFT));
    let peer = |seen: Seen<'_>| {
        let values = values(&seen).unwrap_or_else(|| {
            oversized(seen.id);
            BTreeMap::new()
        });
        let Seen { generation, address, version, .. } = seen;
        (seen.id.to_owned(), Peer { id: seen.id.into(), generation, address, version, values })
    };
    here.map(peer).collect()
}

/// The values of a node that can be read; nothing when they are too many.
fn values(seen: &Seen<'_>) -> Option<BTreeMap<String, Value>> {
    let mut values = BTreeMap::new();
    let mut size = 0;
    for (key, text, version) in &seen.values {
        if key.starts_with(RESERVED) {
            continue;
        }
        let Some(bytes) = decode(text) else { continue };
        size += key.len() + bytes.len();
        values.insert((*key).to_owned(), Value { version: *version, bytes });
    }
    (size <= MAX_VALUES && values.len() <= MAX_COUNT).then_some(values)
}

/// Puts a value among those that this node says.
///
/// # Errors
/// `Usage` for a key that cannot be one, `Limit` when all together become too much.
pub(super) fn put(values: &mut Values, key: &str, bytes: Vec<u8>) -> Result<()> {
    if key.is_empty() || key.len() > MAX_KEY || key.starts_with(RESERVED) || key.chars().any(char::is_control) {
        return Err(Error::usage(format!("{key:?} is not a key for gossip")));
    }
    let others: usize = values.iter().filter(|(k, _)| *k != key).map(|(k, v)| k.len() + v.len()).sum();
    let count = values.len() + usize::from(!values.contains_key(key));
    if others + key.len() + bytes.len() > MAX_VALUES || count > MAX_COUNT {
        return Err(Error::new(Kind::Limit, format!("a node says at most {MAX_VALUES} bytes of itself")));
    }
    values.insert(key.into(), bytes);
    Ok(())
}

/// Gossip carries text: what is text stays readable in it, and small.
pub(super) fn encode(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => format!("t{text}"),
        Err(_) => format!("b{}", BASE64.encode(bytes)),
    }
}

fn decode(text: &str) -> Option<Vec<u8>> {
    match text.split_at_checked(1)? {
        ("t", text) => Some(text.as_bytes().to_vec()),
        ("b", text) => BASE64.decode(text).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seen<'a>(id: &'a str, generation: u64, values: &[(&'a str, &'a str)]) -> Seen<'a> {
        let values = values.iter().enumerate().map(|(n, (k, v))| (*k, *v, n as u64 + 1)).collect();
        Seen { id, generation, address: ([10, 0, 0, 1], 1).into(), version: 9, values }
    }

    fn names(live: Vec<Seen<'_>>) -> Vec<(String, u64)> {
        peers(live.into_iter(), "me", |_| {}).into_values().map(|p| (p.id, p.generation)).collect()
    }

    #[test]
    fn of_two_generations_the_higher_is_the_peer_whatever_the_order() {
        let expected = [("a".to_owned(), 7)];
        assert_eq!(names(vec![seen("a", 7, &[]), seen("a", 3, &[])]), expected);
        assert_eq!(names(vec![seen("a", 3, &[]), seen("a", 7, &[])]), expected);
    }

    #[test]
    fn neither_oneself_nor_who_has_left_nor_who_said_nothing_is_a_peer() {
        let silent = Seen { version: 0, ..seen("silent", 1, &[]) };
        let live = vec![seen("me", 1, &[]), seen("gone", 2, &[(LEFT, "t")]), seen("gone", 1, &[]), silent];
        assert_eq!(names(live), [], "an older generation of who left is not back either");
    }

    #[test]
    fn values_are_versioned_and_those_of_a_newer_version_passed_over() {
        let live = seen("a", 1, &[(HERE, "t"), ("name", "tfront"), ("raw", "b//8"), ("new", "zstd:1"), ("empty", "")]);
        let peers = peers([live].into_iter(), "me", |_| panic!());
        let values: Vec<_> = peers["a"].values.iter().map(|(k, v)| (k.as_str(), v.version, v.bytes.clone())).collect();
        assert_eq!(values, [("name", 2, b"front".to_vec()), ("raw", 3, vec![255, 255])]);
    }

    #[test]
    fn a_node_that_says_too_much_is_shown_without_it() {
        let long = format!("t{}", "x".repeat(MAX_VALUES - 3));
        let mut heard = Vec::new();
        let live = [seen("big", 1, &[("key", &long), ("k", "t")]), seen("fits", 1, &[("key", &long)])];
        let peers = peers(live.into_iter(), "me", |id| heard.push(id.to_owned()));
        assert_eq!((peers["big"].values.len(), peers["fits"].values.len()), (0, 1));
        assert_eq!(heard, ["big"]);
    }

    #[test]
    fn ones_own_values_are_capped() {
        let mut values = Values::new();
        put(&mut values, "a", vec![0; MAX_VALUES - 1]).unwrap();
        assert_eq!(put(&mut values, "b", vec![]).unwrap_err().kind(), Kind::Limit);
        put(&mut values, "a", vec![0; 10]).unwrap();
        put(&mut values, "b", vec![0; 10]).unwrap();
        for key in ["", "~left", "a\n", &"k".repeat(MAX_KEY + 1)] {
            assert_eq!(put(&mut values, key, vec![]).unwrap_err().kind(), Kind::Usage, "{key:?}");
        }
        for n in 2..MAX_COUNT {
            put(&mut values, &n.to_string(), vec![]).unwrap();
        }
        assert_eq!(put(&mut values, "more", vec![]).unwrap_err().kind(), Kind::Limit);
        put(&mut values, "b", b"other".to_vec()).unwrap();
    }

    proptest! {
        #[test]
        fn every_value_comes_back(bytes in prop::collection::vec(any::<u8>(), 0..200), text in ".*") {
            prop_assert_eq!(decode(&encode(&bytes)), Some(bytes));
            prop_assert_eq!(decode(&encode(text.as_bytes())), Some(text.into_bytes()));
        }
    }
}
