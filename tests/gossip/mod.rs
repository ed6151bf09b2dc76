//! Real members over real sockets on loopback.

mod cluster;
mod coordinators;
mod figures;
mod hostile;
mod metrics;
mod namespaces;
mod sharing;
mod strangers;
mod view;
mod workers;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use orx::gossip::{ClusterKey, Config, KeyRing, Member, Pace, Peers, Refusal, Seeds};
use orx::time::SystemClock;
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

/// Generous: the machine may be busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the members of one test share.
struct Lab {
    dir: TempDir,
    keys: KeyRing,
}

/// A member to be started.
struct Plan {
    config: Config,
    keys: KeyRing,
}

impl Lab {
    fn new() -> Self {
        Self { dir: TempDir::new().unwrap(), keys: KeyRing::of(key()) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A member on loopback that knows of no peer.
    fn plan(&self, id: &str) -> Plan {
        let config = Config {
            id: id.into(),
            listen: ([127, 0, 0, 1], 0).into(),
            advertise: None,
            seeds: Seeds::default(),
            label: "test".into(),
            generation_file: self.path(&format!("{id}.generation")),
            pace: Pace { interval: Duration::from_millis(100), ..Pace::default() },
            clock: Arc::new(SystemClock),
        };
        Plan { config, keys: self.keys.clone() }
    }

    /// A member that is told of another.
    async fn start(&self, id: &str, peer: Option<&Member>) -> Member {
        let plan = self.plan(id);
        plan.peers(peer.map(|peer| peer.address().to_string())).start().await
    }
}

impl Plan {
    fn peers(mut self, peers: impl IntoIterator<Item = String>) -> Self {
        self.config.seeds.peers.extend(peers);
        self
    }

    fn keys(mut self, keys: KeyRing) -> Self {
        self.keys = keys;
        self
    }

    fn listen(mut self, address: &str) -> Self {
        self.config.listen = address.parse().unwrap();
        self
    }

    async fn start(self) -> Member {
        Member::start(self.config, self.keys).await.unwrap()
    }
}

fn key() -> ClusterKey {
    ClusterKey::generate().unwrap()
}

/// Waits until a member's peers are so, and says how long it took.
async fn until(member: &Member, what: &str, mut holds: impl FnMut(&Peers) -> bool) -> Duration {
    let start = Instant::now();
    let mut peers = member.peers();
    let seen = timeout(PATIENCE, peers.wait_for(|peers| holds(peers))).await;
    let refusals: Vec<_> = member.counters().refusals().filter(|(_, times)| *times > 0).collect();
    assert!(seen.is_ok(), "{} never {what}: {:?}, {refusals:?}", member.id(), member.peers().borrow());
    start.elapsed()
}

/// Waits until a member sees exactly these.
async fn sees(member: &Member, ids: &[&str]) -> Duration {
    until(member, &format!("sees {ids:?}"), |peers| peers.keys().map(String::as_str).eq(ids.iter().copied())).await
}

/// Waits until something was refused so often.
async fn refuses(member: &Member, why: Refusal, times: u64) {
    let deadline = Instant::now() + PATIENCE;
    while member.counters().refused(why) < times {
        let so_far: Vec<_> = member.counters().refusals().filter(|(_, times)| *times > 0).collect();
        assert!(Instant::now() < deadline, "{} never refused {why:?} {times} times: {so_far:?}", member.id());
        sleep(Duration::from_millis(20)).await;
    }
}

/// What a peer says under a key.
fn said<'a>(peers: &'a Peers, id: &str, key: &str) -> Option<&'a [u8]> {
    Some(&peers.get(id)?.values.get(key)?.bytes)
}

/// An address on loopback where nobody listens.
fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
