//! Drives chitchat: hands it our values and the addresses of first peers, shows what it sees, starts it again if it ends.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chitchat::transport::Transport;
use chitchat::{ChitchatConfig, ChitchatHandle, ChitchatId, FailureDetectorConfig, NodeState, spawn_chitchat};
use futures_util::FutureExt as _;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::backoff::Backoff;
use super::counters::{Counters, Refusal};
use super::generation::next_generation;
use super::key::KeyRing;
use super::member::Pace;
use super::peers::{HERE, LEFT, Peers, Seen, Values, encode, peers};
use crate::error::{Error, Result};
use crate::time::Clock;

/// How many peers hear a good-bye from this node itself.
const FAREWELLS: usize = 8;
/// How long a good-bye may take: a question and its answer.
const FAREWELL_LIMIT: Duration = Duration::from_millis(300);
/// Heartbeats of which the mean is taken.
const SAMPLES: usize = 1_000;

/// What a member gossips as.
pub(super) struct Identity {
    pub(super) id: String,
    pub(super) advertise: SocketAddr,
    pub(super) label: String,
    /// Where the generation is kept.
    pub(super) generation_file: PathBuf,
    pub(super) clock: Arc<dyn Clock>,
}

/// What goes in and out of the driver.
pub(super) struct Wires {
    pub(super) values: watch::Receiver<Values>,
    pub(super) first_peers: mpsc::Receiver<SocketAddr>,
    pub(super) live: watch::Sender<Arc<Peers>>,
    pub(super) keys: watch::Receiver<KeyRing>,
    pub(super) stop: watch::Receiver<bool>,
}

/// Drives chitchat over a transport.
pub(super) struct Driver<T> {
    pub(super) identity: Identity,
    pub(super) pace: Pace,
    pub(super) transport: T,
    pub(super) counters: Arc<Counters>,
    pub(super) wires: Wires,
}

enum Ended {
    Asked,
    Broken(String),
}

impl<T: Transport> Driver<T> {
    /// Starts the gossip under a new generation.
    pub(super) async fn start(&self) -> Result<ChitchatHandle> {
        let Identity { id, advertise, label, generation_file, clock } = &self.identity;
        let generation = next_generation(generation_file, clock.now())?;
        let Pace { interval, phi, keep } = self.pace;
        let config = ChitchatConfig {
            chitchat_id: ChitchatId::new(id.as_str(), generation, *advertise),
            cluster_id: label.clone(),
            gossip_interval: interval,
            listen_addr: *advertise,
            seed_nodes: Vec::new(), // ours are resolved without making chitchat wait
            failure_detector_config: FailureDetectorConfig::new(phi, SAMPLES, interval * 20, interval, keep),
            marked_for_deletion_grace_period: keep,
            catchup_callback: None,
            extra_liveness_predicate: None,
        };
        let here = vec![(HERE.to_owned(), encode(b""))];
        let started = spawn_chitchat(config, here, &self.transport).await;
        started.map_err(|e| Error::failed("cannot gossip").source(e))
    }

    /// Gossips until it is asked to stop.
    pub(super) async fn run(mut self, mut handle: ChitchatHandle) {
        let mut backoff = Backoff::default();
        loop {
            // What a member says may break chitchat where it is called from here too.
            let why = match AssertUnwindSafe(self.drive(&handle)).catch_unwind().await {
                Ok(Ended::Asked) => return self.leave(handle).await,
                Ok(Ended::Broken(why)) => why,
                Err(_) => "it panicked".into(),
            };
            self.counters.refuse(Refusal::Restarted, format_args!("gossip ended and is started again: {why}"));
            handle = loop {
                tokio::select! {
                    () = asked(&mut self.wires.stop) => return,
                    () = sleep(backoff.wait(1.0)) => {}
                }
                match self.start().await {
                    Ok(handle) => break handle,
                    Err(e) => self.counters.refuse(Refusal::Restarted, e),
                }
            };
        }
    }

    async fn drive(&mut self, handle: &ChitchatHandle) -> Ended {
        let mut live = handle.with_chitchat(|chitchat| chitchat.live_nodes_watcher()).await;
        let ended = handle.termination_watcher();
        tokio::pin!(ended);
        let Wires { values, first_peers, live: shown, keys, stop } = &mut self.wires;
        values.mark_changed();
        loop {
            tokio::select! {
                () = asked(stop) => return Ended::Asked,
                result = &mut ended => {
                    return Ended::Broken(result.err().map(|e| e.to_string()).unwrap_or_default());
                }
                Ok(()) = values.changed() => {
                    let values = values.borrow_and_update().clone();
                    handle.with_chitchat(|chitchat| say(chitchat.self_node_state(), &values)).await;
                }
                Ok(()) = live.changed() => show(shown, view(&live.borrow_and_update(), &self.identity.id, &keys.borrow(), &self.counters)),
                Ok(()) = keys.changed() => {
                    let ring = keys.borrow_and_update();
                    show(shown, view(&live.borrow(), &self.identity.id, &ring, &self.counters));
                }
                Some(address) = first_peers.recv() => drop(handle.gossip(address)),
            }
        }
    }

    /// Says good-bye to a few, who tell the others.
    async fn leave(self, handle: ChitchatHandle) {
        handle.with_chitchat(|chitchat| chitchat.self_node_state().set(LEFT, encode(b""))).await;
        let peers: Vec<SocketAddr> =
            self.wires.live.borrow().values().take(FAREWELLS).map(|peer| peer.address).collect();
        if !peers.is_empty() {
            peers.into_iter().for_each(|address| drop(handle.gossip(address)));
            sleep(FAREWELL_LIMIT).await;
        }
        let _ = handle.shutdown().await;
    }
}

/// Waits until the member is to stop, or is gone.
async fn asked(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Makes the node's state say exactly `values`; what is said already keeps its version.
fn say(state: &mut NodeState, values: &Values) {
    let gone = |key: &&str| !values.contains_key(*key) && !matches!(*key, HERE | LEFT);
    let gone: Vec<String> = state.key_values().map(|(key, _)| key).filter(gone).map(str::to_owned).collect();
    gone.iter().for_each(|key| state.delete(key));
    values.iter().for_each(|(key, bytes)| state.set(key, encode(bytes)));
}

fn show(shown: &watch::Sender<Arc<Peers>>, seen: Peers) {
    shown.send_if_modified(|old| {
        let changed = **old != seen;
        if changed {
            *old = Arc::new(seen);
        }
        changed
    });
}

fn view(live: &BTreeMap<ChitchatId, NodeState>, own_id: &str, ring: &KeyRing, counters: &Counters) -> Peers {
    // Others who know of no ban may speak of them still.
    let seen = live.iter().filter(|(id, _)| !ring.bans(&id.node_id)).map(|(id, state)| Seen {
        id: &id.node_id,
        generation: id.generation_id,
        address: id.gossip_advertise_addr,
        version: state.max_version(),
        values: state
            .key_values_including_deleted()
            .filter(|(_, value)| !value.is_deleted())
            .map(|(key, value)| (key, value.value.as_str(), value.version))
            .collect(),
    });
    peers(seen, own_id, |id| {
        counters.refuse(Refusal::TooManyValues, format_args!("{id} says more of itself than a node may"));
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn saying_the_same_again_changes_no_version_and_what_is_gone_is_deleted() {
        let mut state = NodeState::for_test();
        let mut values = Values::from([("a".into(), b"1".to_vec()), ("b".into(), b"2".to_vec())]);
        say(&mut state, &values);
        let version = state.max_version();
        say(&mut state, &values);
        assert_eq!(state.max_version(), version);
        values.remove("a");
        values.insert("b".into(), b"3".to_vec());
        state.set(HERE, "t");
        say(&mut state, &values);
        assert_eq!(state.key_values().collect::<Vec<_>>(), [("b", "t3"), (HERE, "t")]);
        assert!(state.max_version() > version);
    }
}
