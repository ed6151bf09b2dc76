//! The nodes to help, with the tokens by which a process of this node is known to them.

use std::collections::BTreeSet;

use tracing::warn;

use super::neighbours::Neighbour;
use crate::gossip::Member;
use crate::store::Home;
use crate::time::Timestamp;

/// How long a token is good at least that a worker gets who does not hold the key, in milliseconds.
const LIFE: i64 = 600_000;
/// So that tokens do not change all the time, they end with a full minute.
const MINUTE: i64 = 60_000;

/// What waits where: the nodes, queues and needs.
pub(super) type Kinds = BTreeSet<(String, String, String)>;

/// Those that this process may help.
pub(super) fn homes<'a>(member: &Member, live: impl Iterator<Item = &'a Neighbour>) -> Vec<Home> {
    all(member, live, |home| member.token_for(&home.id))
}

/// Those that other processes of this node may help, which are not to hold the key.
pub(super) fn lent<'a>(member: &Member, live: impl Iterator<Item = &'a Neighbour>, now: Timestamp) -> Vec<Home> {
    all(member, live, |home| member.token_until(&home.id, until(now, home.skew())))
}

fn all<'a>(
    member: &Member,
    live: impl Iterator<Item = &'a Neighbour>,
    token: impl Fn(&Neighbour) -> crate::error::Result<String>,
) -> Vec<Home> {
    let home = |node: &Neighbour| {
        let url = node.url.clone().filter(|_| !node.draining)?;
        let token = token(node).inspect_err(|e| warn!("there is no token for {}: {e}", node.id)).ok()?;
        let (helper, waiting) = (member.id().to_owned(), node.waiting.clone());
        Some(Home { node: node.id.clone(), helper, url, token, waiting, version: node.version })
    };
    live.filter_map(home).collect()
}

/// When a token ends, by the clock of the node that is shown it: that one may be a day off.
fn until(now: Timestamp, skew: Option<i64>) -> Timestamp {
    let there = now.0.saturating_add(skew.unwrap_or_default());
    Timestamp(there.saturating_add(LIFE).div_euclid(MINUTE).saturating_add(1).saturating_mul(MINUTE))
}

/// What waits at them, but not how much of it.
pub(super) fn kinds(homes: &[Home]) -> Kinds {
    let kinds = |home: &Home| {
        let node = home.node.clone();
        let kind = move |kind: &crate::store::Waiting| (node.clone(), kind.queue.clone(), kind.needs.key());
        home.waiting.iter().map(kind).collect::<Vec<_>>()
    };
    homes.iter().flat_map(kinds).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_ten_minutes_and_a_little_more_by_the_other_clock() {
        const DAY: i64 = 86_400_000;
        for now in [0, 1, 59_999, 60_000, 12_345_678] {
            for skew in [None, Some(0), Some(-DAY), Some(DAY)] {
                let life = until(Timestamp(now), skew).0 - (now + skew.unwrap_or(0));
                assert!((LIFE + 1..=LIFE + MINUTE).contains(&life), "{now} {skew:?} {life}");
            }
        }
        let _ = (until(Timestamp(i64::MAX), Some(i64::MAX)), until(Timestamp(i64::MIN), Some(i64::MIN)));
    }
}
