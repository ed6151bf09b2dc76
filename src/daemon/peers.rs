//! Gossip beside a coordinator: says what it is and what waits in it, and tells the log who comes and goes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::error::Result;
use crate::gossip::{Config, KeyRing, Member, Pace, Peer, Peers, Seeds};
use crate::http::Source;
use crate::job::State;
use crate::ops::exposition::Text;
use crate::ops::status::Status;
use crate::queue::Queue;
use crate::time::{Clock, Timestamp};

/// How often the node says anew what waits in it.
const SAY_EVERY: Duration = Duration::from_secs(2);
/// So many queues are named, those with the most pending jobs.
const MAX_QUEUES: usize = 50;

/// How a coordinator gossips.
pub struct Gossip {
    /// Where it takes gossip.
    pub listen: SocketAddr,
    /// Where others reach it, if that is not `listen`.
    pub advertise: Option<SocketAddr>,
    /// Where it finds its first peers.
    pub seeds: Seeds,
    /// The file of the cluster's keys; read again on SIGHUP.
    pub key_file: PathBuf,
    /// The cluster's label.
    pub label: String,
    /// Where its generation is kept.
    pub generation_file: PathBuf,
}

/// A coordinator among its peers.
pub(super) struct Gossiping {
    member: Arc<Member>,
    key_file: PathBuf,
    task: JoinHandle<()>,
}

impl Gossiping {
    /// Begins to gossip under `name`.
    pub(super) async fn start(queue: Queue, name: &str, url: &str, how: Gossip, clock: Arc<dyn Clock>) -> Result<Self> {
        let Gossip { listen, advertise, seeds, key_file, label, generation_file } = how;
        let keys = KeyRing::read(&key_file)?;
        let (id, pace, started_at) = (name.to_owned(), Pace::default(), clock.now());
        let config = Config { id, listen, advertise, seeds, label, generation_file, pace, clock };
        let key = keys.current().fingerprint();
        let member = Arc::new(Member::start(config, keys).await?);
        info!(address = %member.address(), %key, "gossips");
        introduce(&member, name, url, started_at)?;
        let task = tokio::spawn(go_on(queue, Arc::clone(&member)));
        Ok(Self { member, key_file, task })
    }

    /// Reads the keys again; those of before stay where they cannot be read.
    pub(super) fn reload(&self) {
        match KeyRing::read(&self.key_file) {
            Ok(keys) => self.member.set_keys(keys),
            Err(e) => warn!("the cluster's keys stay as they were: {e}"),
        }
    }

    /// Says that this node takes no more.
    pub(super) fn drain(&self) {
        say(&self.member, "draining", &json!(true));
    }

    /// Its figures for `/metrics`, as long as it gossips.
    pub(super) fn figures(&self) -> Source {
        let member = Arc::downgrade(&self.member); // or else it could not end
        Box::new(move |text| member.upgrade().iter().for_each(|member| measure(member, text)))
    }

    /// Says good-bye.
    pub(super) async fn end(self) {
        self.task.abort();
        let _ = self.task.await; // so that the member is ours alone
        if let Some(member) = Arc::into_inner(self.member) {
            member.stop().await;
        }
    }
}

fn introduce(member: &Member, name: &str, url: &str, started_at: Timestamp) -> Result<()> {
    let said = [
        ("name", json!(name)),
        ("url", json!(url)),
        ("version", json!(env!("CARGO_PKG_VERSION"))),
        ("role", json!("coordinator")),
        ("started_at", json!(started_at)),
        ("draining", json!(false)),
    ];
    said.into_iter().try_for_each(|(key, value)| member.set(key, value.to_string()))
}

fn say(member: &Member, key: &str, value: &serde_json::Value) {
    if let Err(e) = member.set(key, value.to_string()) {
        warn!("cannot tell peers {key}: {e}");
    }
}

fn measure(member: &Member, text: &mut Text) {
    let (counters, traffic) = (member.counters(), member.counters().traffic());
    text.one("orx_gossip_peers", "gauge", "Peers that are there.", member.peers().borrow().len());
    text.one("orx_gossip_connections", "gauge", "Connections with peers.", member.connections());
    let name = "orx_gossip_connections_total";
    text.one(name, "counter", "Connections on which a peer has shown the key.", traffic.connections);
    let both = [
        ("orx_gossip_frames_total", "Frames by direction.", traffic.frames_in, traffic.frames_out),
        ("orx_gossip_bytes_total", "Bytes on the wire by direction.", traffic.bytes_in, traffic.bytes_out),
    ];
    for (name, help, received, sent) in both {
        text.family(name, "counter", help);
        text.line(name, &[("direction", "in")], received);
        text.line(name, &[("direction", "out")], sent);
    }
    text.family("orx_gossip_refusals_total", "counter", "What was not taken from peers, or for them, by reason.");
    for (why, times) in counters.refusals() {
        text.line("orx_gossip_refusals_total", &[("reason", why.as_str())], times);
    }
}

/// Says what is pending and hears who is there, until it is aborted.
async fn go_on(queue: Queue, member: Arc<Member>) {
    let mut live = member.peers();
    let mut known = Peers::new();
    loop {
        match queue.call(Status {}).await {
            Ok(status) => {
                let pending =
                    status.queues.iter().map(|q| (&*q.name, q.counts.get(&State::Pending).copied().unwrap_or(0)));
                say(&member, "pending", &json!(longest(pending)));
            }
            Err(e) => warn!("cannot tell peers what is pending: {e}"),
        }
        let until = tokio::time::Instant::now() + SAY_EVERY;
        while let Ok(Ok(())) = tokio::time::timeout_at(until, live.changed()).await {
            let now = Peers::clone(&live.borrow_and_update());
            report(&known, &now);
            known = now;
        }
        // A member that has ended changes no more, and must not make this loop spin.
        let _ =
            timeout(until.saturating_duration_since(tokio::time::Instant::now()), std::future::pending::<()>()).await;
    }
}

/// The queues with the most pending jobs.
fn longest<'a>(pending: impl Iterator<Item = (&'a str, i64)>) -> BTreeMap<&'a str, i64> {
    let mut waiting: Vec<_> = pending.filter(|(_, count)| *count > 0).collect();
    waiting.sort_by_key(|(name, count)| (-count, *name));
    waiting.into_iter().take(MAX_QUEUES).collect()
}

/// Tells the log who came and who is gone.
fn report(before: &Peers, now: &Peers) {
    let ids: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    for id in ids {
        match (before.get(id), now.get(id)) {
            (None, Some(peer)) => {
                info!(peer = %id, address = %peer.address, url = %word(peer, "url"), "a peer is there")
            }
            (Some(old), Some(new)) if new.generation > old.generation => info!(peer = %id, "a peer was restarted"),
            (Some(_), None) => info!(peer = %id, "a peer is gone"),
            _ => {}
        }
    }
}

/// A text that a peer says, or nothing; of a peer it may be anything.
fn word(peer: &Peer, key: &str) -> String {
    let value = peer.values.get(key).and_then(|value| serde_json::from_slice(&value.bytes).ok());
    value.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fifty_longest_queues_are_named_and_empty_ones_are_not() {
        let names: Vec<String> = (0..100).map(|n| format!("q{n:02}")).collect();
        let pending = names.iter().enumerate().map(|(n, name)| (name.as_str(), n as i64));
        let told = longest(pending);
        assert_eq!((told.len(), told.keys().next().copied()), (MAX_QUEUES, Some("q50")));
        assert!(longest([("empty", 0)].into_iter()).is_empty());
    }
}
