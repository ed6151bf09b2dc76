//! The other nodes of the cluster: what they say of themselves, read with suspicion, and who was there before.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use axum::http::Uri;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::gossip::{Counters, Peer, Peers, Refusal};
use crate::store::{PeerNode, PeerState, Waiting};
use crate::time::Timestamp;

/// How long a node that is gone is shown.
const REMEMBER: Duration = Duration::from_secs(600);
/// Of so many looks at a clock the one that was least on its way counts.
const LOOKS: usize = 8;
/// No version is longer.
const MAX_WORD: usize = 64;

/// What a node says of its slots.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct SaidSlots {
    pub(super) total: u32,
    pub(super) free: u32,
}

/// Another node.
#[derive(Clone, Debug)]
pub(super) struct Neighbour {
    pub(super) id: String,
    pub(super) generation: u64,
    /// Where its API is; none where nobody could reach it.
    pub(super) url: Option<String>,
    pub(super) draining: bool,
    /// What waits there for others, and the version of that word.
    pub(super) waiting: Vec<Waiting>,
    pub(super) version: u64,
    slots: SaidSlots,
    load: Option<f64>,
    key: Option<String>,
    software: String,
    started_at: Option<Timestamp>,
    since: Timestamp,
    /// When it was seen gone.
    gone: Option<Instant>,
    clock: VecDeque<i64>,
    /// The version of its last word on the time.
    clock_version: u64,
}

/// All that is known of other nodes.
#[derive(Default)]
pub(super) struct Neighbours(BTreeMap<String, Neighbour>);

impl Neighbours {
    /// Takes in what gossip shows now; gives the ids of those that are gone since the last time.
    pub(super) fn hear(&mut self, peers: &Peers, now: Timestamp, counters: &Counters) -> Vec<String> {
        for peer in peers.values() {
            let known = self.0.remove(&peer.id).filter(|n| n.generation == peer.generation);
            self.0.insert(peer.id.clone(), Neighbour::read(peer, known, now, counters));
        }
        let mut gone = Vec::new();
        for (id, neighbour) in &mut self.0 {
            if !peers.contains_key(id) && neighbour.gone.is_none() {
                neighbour.gone = Some(Instant::now());
                neighbour.since = now;
                gone.push(id.clone());
            }
        }
        self.0.retain(|_, neighbour| neighbour.gone.is_none_or(|at| at.elapsed() < REMEMBER));
        gone
    }

    /// Those that are there.
    pub(super) fn live(&self) -> impl Iterator<Item = &Neighbour> {
        self.0.values().filter(|neighbour| neighbour.gone.is_none())
    }

    /// All of them, for people.
    pub(super) fn view(&self) -> Vec<PeerNode> {
        self.0.values().map(Neighbour::view).collect()
    }
}

impl Neighbour {
    fn read(peer: &Peer, known: Option<Self>, now: Timestamp, counters: &Counters) -> Self {
        let told = say::<Timestamp>(peer, "now").zip(peer.values.get("now").map(|value| value.version));
        let (mut clock, mut clock_version) =
            known.as_ref().map(|n| (n.clock.clone(), n.clock_version)).unwrap_or_default();
        if let Some((at, version)) = told
            && version > clock_version
        {
            clock_version = version;
            clock.push_back(at.0.saturating_sub(now.0));
            clock.drain(..clock.len().saturating_sub(LOOKS));
        }
        let url = say::<String>(peer, "url");
        let usable = url.filter(|url| {
            let fine = is_reachable(url, peer.address);
            if !fine {
                let detail = format_args!("{} says that its API is at {url:?}, where nobody can reach it", peer.id);
                counters.refuse(Refusal::BadAddress, detail);
            }
            fine
        });
        Self {
            id: peer.id.clone(),
            generation: peer.generation,
            url: usable,
            draining: say(peer, "draining").unwrap_or_default(),
            waiting: say(peer, "waiting").unwrap_or_default(),
            version: peer.values.get("waiting").map_or(0, |value| value.version),
            slots: say(peer, "slots").unwrap_or_default(),
            load: say::<f64>(peer, "load").filter(|load| load.is_finite()),
            key: word(peer, "key"),
            software: word(peer, "version").unwrap_or_default(),
            started_at: say(peer, "started_at"),
            since: known.filter(|n| n.gone.is_none()).map_or(now, |n| n.since),
            gone: None,
            clock,
            clock_version,
        }
    }

    /// By how many milliseconds its wall clock is ahead of ours, more or less.
    ///
    /// A word is never early: the one that was on its way for the shortest time is the nearest to the truth.
    pub(super) fn skew(&self) -> Option<i64> {
        self.clock.iter().max().copied()
    }

    fn view(&self) -> PeerNode {
        let pending = self.waiting.iter().map(|kind| u64::from(kind.pending)).sum();
        let state = match (self.gone, self.draining) {
            (Some(_), _) => PeerState::Gone,
            (None, true) => PeerState::Draining,
            (None, false) => PeerState::Live,
        };
        PeerNode {
            name: self.id.clone(),
            state,
            since: self.since,
            url: self.url.clone(),
            version: self.software.clone(),
            started_at: self.started_at,
            slots: self.slots.total,
            free: self.slots.free,
            pending,
            load: self.load,
            clock_skew: self.skew().map(|ms| ms as f64 / 1000.0),
            key: self.key.clone(),
        }
    }
}

/// A value that a peer says; of a peer it may be anything.
fn say<T: DeserializeOwned>(peer: &Peer, key: &str) -> Option<T> {
    serde_json::from_slice(&peer.values.get(key)?.bytes).ok()
}

/// A short text that a peer says.
fn word(peer: &Peer, key: &str) -> Option<String> {
    say::<String>(peer, key).filter(|text| text.len() <= MAX_WORD && !text.chars().any(char::is_control))
}

/// Whether a node that gossips at `address` can have its API at `url` for others.
pub(super) fn is_reachable(url: &str, address: SocketAddr) -> bool {
    let Ok(uri) = url.parse::<Uri>() else { return false };
    let (Some("http" | "https"), Some(host)) = (uri.scheme_str(), uri.host()) else { return false };
    match host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>() {
        Ok(ip) if ip.is_unspecified() || ip.is_multicast() => false,
        Ok(ip) => !ip.is_loopback() || address.ip().is_loopback(),
        Err(_) => !host.is_empty() && (!host.eq_ignore_ascii_case("localhost") || address.ip().is_loopback()),
    }
}

#[cfg(test)]
mod tests {
    use crate::gossip::Value;

    use super::*;

    fn peer(id: &str, values: &[(&str, &str, u64)]) -> Peer {
        let value = |(key, text, version): &(&str, &str, u64)| {
            ((*key).to_owned(), Value { version: *version, bytes: text.as_bytes().to_vec() })
        };
        let values = values.iter().map(value).collect();
        Peer { id: id.into(), generation: 1, address: ([10, 0, 0, 1], 1).into(), version: 1, values }
    }

    fn hear(neighbours: &mut Neighbours, peers: &[Peer], now: i64) -> Vec<String> {
        let peers = peers.iter().map(|peer| (peer.id.clone(), peer.clone())).collect();
        neighbours.hear(&peers, Timestamp(now), &Counters::default())
    }

    #[test]
    fn what_a_peer_says_is_read_and_what_makes_no_sense_passed_over() {
        let mut neighbours = Neighbours::default();
        let good = peer(
            "a",
            &[
                ("url", r#""http://10.0.0.1:7117""#, 1),
                ("waiting", r#"[{"queue":"q","pending":7}]"#, 5),
                ("slots", r#"{"total":4,"free":1,"more":true}"#, 1),
                ("version", r#""1.2.3""#, 1),
            ],
        );
        let odd = peer("b", &[("url", "7", 1), ("waiting", "{}", 1), ("slots", "[", 1), ("load", "1e999", 1)]);
        hear(&mut neighbours, &[good, odd], 1000);
        let live: Vec<_> = neighbours.live().collect();
        assert_eq!((live[0].url.as_deref(), live[0].version), (Some("http://10.0.0.1:7117"), 5));
        assert_eq!((live[0].waiting[0].queue.as_str(), live[0].waiting[0].pending), ("q", 7));
        assert!(live[1].url.is_none() && live[1].waiting.is_empty());
        let view = neighbours.view();
        assert_eq!((view[0].slots, view[0].free, view[0].version.as_str()), (4, 1, "1.2.3"));
        assert_eq!((view[1].slots, view[1].load), (0, None));
    }

    #[test]
    fn who_is_gone_is_told_once_and_shown_until_it_is_back() {
        let mut neighbours = Neighbours::default();
        assert!(hear(&mut neighbours, &[peer("a", &[])], 1000).is_empty());
        assert_eq!(hear(&mut neighbours, &[], 2000), ["a"]);
        assert!(hear(&mut neighbours, &[], 3000).is_empty());
        let shown = neighbours.view();
        assert_eq!((shown[0].state, shown[0].since), (PeerState::Gone, Timestamp(2000)));
        assert_eq!(neighbours.live().count(), 0);
        hear(&mut neighbours, &[Peer { generation: 2, ..peer("a", &[("draining", "true", 1)]) }], 4000);
        let shown = neighbours.view();
        assert_eq!((shown[0].state, shown[0].since), (PeerState::Draining, Timestamp(4000)));
    }

    #[test]
    fn a_clock_that_is_a_day_ahead_is_seen_and_delays_do_not_add_to_it() {
        const DAY: i64 = 86_400_000;
        let mut neighbours = Neighbours::default();
        for (version, (sent, heard)) in [(0, 900), (2000, 2100), (4000, 4700)].into_iter().enumerate() {
            let said = serde_json::to_string(&Timestamp(DAY + sent)).unwrap();
            hear(&mut neighbours, &[peer("a", &[("now", &said, version as u64 + 1)])], heard);
            // The same word again says nothing new.
            hear(&mut neighbours, &[peer("a", &[("now", &said, version as u64 + 1)])], heard + 5000);
        }
        assert_eq!(neighbours.view()[0].clock_skew, Some(86_399.9));
    }

    #[test]
    fn an_api_that_nobody_can_reach_is_refused() {
        let far: SocketAddr = ([10, 0, 0, 1], 7).into();
        let near: SocketAddr = ([127, 0, 0, 1], 7).into();
        for good in ["http://10.0.0.2:7117", "https://queue.example", "http://[fd00::1]:1", "http://[2001:db8::1]:80"] {
            assert!(is_reachable(good, far), "{good}");
        }
        let bad = ["", "x", "ftp://a", "http://0.0.0.0:1", "http://[::]:1", "http://224.0.0.1:1", "http://", "/a"];
        for bad in bad.into_iter().chain(["http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1"]) {
            assert!(!is_reachable(bad, far), "{bad}");
        }
        assert!(is_reachable("http://127.0.0.1:1", near) && is_reachable("http://localhost:1", near));
        let counters = Counters::default();
        let liar = peer("a", &[("url", r#""http://0.0.0.0:1""#, 1)]);
        Neighbours::default().hear(&[("a".to_owned(), liar)].into(), Timestamp(0), &counters);
        assert_eq!(counters.refused(Refusal::BadAddress), 1);
    }
}
