//! Looks at a message before chitchat does: what would make it grow without bound, or break it, stays outside.

use std::collections::HashMap;
use std::time::Duration;

use chitchat::{ChitchatId, Deserializable as _};
use tokio::time::Instant;

use super::counters::Refusal;
use super::hello::{is_id, plain};

/// How many nodes a cluster may have, the recently dead and the former generations included. Their digest fits in a frame.
pub(super) const MAX_NODES: usize = 512;
/// No block of a message unpacks to more than 64 KiB, so this bounds what one message unpacks to at 16 MiB.
const MAX_BLOCKS: usize = 256;
/// Two bytes of magic number, the protocol version, the kind of message.
const HEADER: usize = 4;
/// Heartbeat, last collected version, highest version.
const NODE_DIGEST: usize = 24;

/// Remembers which nodes there are.
#[derive(Debug, Default)]
pub(super) struct Guard {
    heard_of: HashMap<ChitchatId, Instant>,
}

impl Guard {
    /// Whether chitchat may have this message. A node that was not named for `keep` makes room for another.
    pub(super) fn admit(&mut self, message: &[u8], now: Instant, keep: Duration) -> Result<(), Refusal> {
        let nodes = nodes(message).ok_or(Refusal::Malformed)?;
        let new = nodes.iter().filter(|id| !self.heard_of.contains_key(id)).count();
        if self.heard_of.len() + new > MAX_NODES {
            self.heard_of.retain(|_, at| now.duration_since(*at) < keep);
            let new = nodes.iter().filter(|id| !self.heard_of.contains_key(id)).count();
            if self.heard_of.len() + new > MAX_NODES {
                return Err(Refusal::TooManyNodes);
            }
        }
        self.heard_of.extend(nodes.into_iter().map(|id| (id, now)));
        Ok(())
    }
}

/// The nodes that a message names in its digest; nothing when it is not built as a message is.
fn nodes(message: &[u8]) -> Option<Vec<ChitchatId>> {
    let kind = *message.get(HEADER - 1)?;
    let mut rest = message.get(HEADER..)?;
    match kind {
        0 => digest(&mut rest),
        1 => {
            let nodes = digest(&mut rest)?;
            blocks(rest)?;
            Some(nodes)
        }
        2 => blocks(rest).map(|()| Vec::new()),
        3 => Some(Vec::new()),
        _ => None,
    }
}

fn digest(rest: &mut &[u8]) -> Option<Vec<ChitchatId>> {
    let count = u16::deserialize(rest).ok()?;
    if usize::from(count) > MAX_NODES {
        return None;
    }
    let mut nodes = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        let id = ChitchatId::deserialize(rest).ok()?;
        *rest = rest.get(NODE_DIGEST..)?;
        let address = id.gossip_advertise_addr;
        if !is_id(&id.node_id) || plain(address) != address || address.port() == 0 {
            return None;
        }
        nodes.push(id);
    }
    Some(nodes)
}

/// Walks over the blocks of a delta: each a tag, two bytes of length, and what it holds, until the tag 0.
fn blocks(mut rest: &[u8]) -> Option<()> {
    for _ in 0..MAX_BLOCKS {
        let (tag, after) = rest.split_first()?;
        match tag {
            0 => return Some(()),
            1 | 2 => {}
            _ => return None,
        }
        let (len, after) = after.split_first_chunk::<2>()?;
        rest = after.get(usize::from(u16::from_le_bytes(*len))..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use chitchat::{ChitchatMessage, Serializable as _};
    use proptest::prelude::*;

    use super::*;

    const KEEP: Duration = Duration::from_secs(600);

    fn id(n: usize) -> ChitchatId {
        ChitchatId::new(format!("node-{n}"), 1, ([10, 0, (n >> 8) as u8, n as u8], 7946).into())
    }

    /// A syn that names these nodes, as chitchat writes it.
    fn syn(ids: impl IntoIterator<Item = ChitchatId>) -> Vec<u8> {
        let ids: Vec<_> = ids.into_iter().collect();
        let mut bytes = vec![83, 176, 0, 0];
        (ids.len() as u16).serialize(&mut bytes);
        for id in ids {
            id.serialize(&mut bytes);
            [1u64, 0, 1].iter().for_each(|n| n.serialize(&mut bytes));
        }
        "label".serialize(&mut bytes);
        bytes
    }

    #[test]
    fn it_reads_what_chitchat_writes() {
        let bytes = syn([id(1), id(2)]);
        let message = ChitchatMessage::deserialize(&mut &bytes[..]).unwrap();
        assert!(matches!(message, ChitchatMessage::Syn { .. }));
        assert_eq!(message.serialize_to_vec(), bytes);
        assert_eq!(nodes(&bytes).unwrap(), [id(1), id(2)]);
        assert_eq!(nodes(&ChitchatMessage::BadCluster.serialize_to_vec()).unwrap(), []);
    }

    #[test]
    fn a_cluster_has_a_most_and_forgotten_nodes_make_room() {
        let (mut guard, now) = (Guard::default(), Instant::now());
        for n in 0..MAX_NODES {
            guard.admit(&syn([id(n)]), now, KEEP).unwrap();
        }
        assert_eq!(guard.admit(&syn([id(MAX_NODES)]), now, KEEP), Err(Refusal::TooManyNodes));
        guard.admit(&syn([id(3)]), now + KEEP / 2, KEEP).unwrap();
        guard.admit(&syn([id(MAX_NODES)]), now + KEEP, KEEP).unwrap();
        assert_eq!(guard.heard_of.len(), 2, "the one named since, and the new one");
        assert_eq!(guard.admit(&syn((0..=MAX_NODES).map(id)), now, KEEP), Err(Refusal::Malformed));
    }

    #[test]
    fn the_digest_of_the_largest_cluster_leaves_room_in_a_frame() {
        let longest = |n: usize| {
            let address = (std::net::Ipv6Addr::from(u128::MAX - n as u128), 7946).into();
            ChitchatId::new(format!("{n:0>64}"), u64::MAX, address)
        };
        assert!(syn((0..MAX_NODES).map(longest)).len() < 62_000);
    }

    #[test]
    fn ids_and_addresses_that_nobody_could_have_are_refused() {
        let mut guard = Guard::default();
        for (name, address) in
            [("", "10.0.0.1:1"), ("a b", "10.0.0.1:1"), ("a", "10.0.0.1:0"), ("a", "[::ffff:10.0.0.1]:1")]
        {
            let id = ChitchatId::new(name, 1, address.parse().unwrap());
            assert_eq!(guard.admit(&syn([id]), Instant::now(), KEEP), Err(Refusal::Malformed), "{name} {address}");
        }
    }

    #[test]
    fn a_delta_that_unpacks_without_end_is_refused() {
        let bomb = |blocks: usize| [&[83, 176, 0, 2][..], &[2, 1, 0, 7].repeat(blocks), &[0]].concat();
        assert!(nodes(&bomb(MAX_BLOCKS - 1)).is_some());
        assert!(nodes(&bomb(MAX_BLOCKS)).is_none());
        assert!(nodes(&bomb(3)[..9]).is_none(), "cut off");
    }

    proptest! {
        #[test]
        fn noise_is_refused_without_a_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..400), kind in 0u8..5) {
            if let Some(byte) = bytes.get_mut(3) {
                *byte = kind;
            }
            let _ = Guard::default().admit(&bytes, Instant::now(), KEEP);
        }

        #[test]
        fn what_passes_chitchat_reads_without_a_panic(flips in prop::collection::vec(any::<(usize, u8)>(), 0..6)) {
            let mut bytes = syn((0..5).map(id));
            for (at, bits) in flips {
                let at = at % bytes.len();
                bytes[at] ^= bits;
            }
            if nodes(&bytes).is_some() {
                let _ = ChitchatMessage::deserialize(&mut &bytes[..]);
            }
        }
    }
}
