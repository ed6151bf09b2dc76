//! Gossip over a network that loses, doubles, delays and reorders messages by a seed; no sockets, and time is virtual.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use chitchat::transport::{Socket, Transport};
use chitchat::{ChitchatMessage, Deserializable as _, Serializable as _};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::counters::{Counters, Refusal};
use super::driver::{Driver, Identity, Wires};
use super::key::{ClusterKey, KeyRing};
use super::member::Pace;
use super::net::Received;
use super::peers::{Peers, Values};
use crate::time::SystemClock;

/// How the network treats each message, in percent.
#[derive(Clone, Copy)]
struct Weather {
    lost: u64,
    doubled: u64,
    max_delay_ms: u64,
}

struct Sky {
    random: u64,
    weather: Weather,
    inboxes: BTreeMap<SocketAddr, mpsc::Sender<Received>>,
    cut_off: BTreeSet<SocketAddr>,
    bytes: u64,
}

impl Sky {
    /// The next number below `bound`, by xorshift.
    fn below(&mut self, bound: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % bound.max(1)
    }
}

#[derive(Clone)]
struct Shuffler(Arc<Mutex<Sky>>);

struct End {
    own: SocketAddr,
    sky: Arc<Mutex<Sky>>,
    inbox: mpsc::Receiver<Received>,
}

#[async_trait]
impl Transport for Shuffler {
    async fn open(&self, own: SocketAddr) -> anyhow::Result<Box<dyn Socket>> {
        let (sender, inbox) = mpsc::channel(256);
        self.0.lock().unwrap().inboxes.insert(own, sender);
        Ok(Box::new(End { own, sky: self.0.clone(), inbox }))
    }
}

#[async_trait]
impl Socket for End {
    async fn send(&mut self, to: SocketAddr, message: ChitchatMessage) -> anyhow::Result<()> {
        let mut sky = self.sky.lock().unwrap();
        let bytes = message.serialize_to_vec();
        sky.bytes += bytes.len() as u64;
        if sky.cut_off.contains(&to) || sky.cut_off.contains(&self.own) {
            return Ok(());
        }
        let Weather { lost, doubled, max_delay_ms } = sky.weather;
        let copies = if sky.below(100) < doubled { 2 } else { 1 };
        for _ in 0..copies {
            if sky.below(100) < lost {
                continue;
            }
            let delay = Duration::from_millis(sky.below(max_delay_ms));
            let (own, bytes, inbox) = (self.own, bytes.clone(), sky.inboxes.get(&to).cloned());
            tokio::spawn(async move {
                sleep(delay).await;
                if let Some(inbox) = inbox {
                    let message = ChitchatMessage::deserialize(&mut &bytes[..]).unwrap();
                    let _ = inbox.try_send((own, message));
                }
            });
        }
        Ok(())
    }

    async fn recv(&mut self) -> anyhow::Result<Received> {
        self.inbox.recv().await.ok_or_else(|| anyhow::anyhow!("closed"))
    }
}

struct Node {
    values: watch::Sender<Values>,
    live: watch::Receiver<Arc<Peers>>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    counters: Arc<Counters>,
    _found: mpsc::Sender<SocketAddr>,
}

struct Cluster {
    sky: Shuffler,
    dir: tempfile::TempDir,
    nodes: Vec<Node>,
}

fn address(n: usize) -> SocketAddr {
    ([10, 0, (n >> 8) as u8, n as u8], 7946).into()
}

impl Cluster {
    async fn new(seed: u64, nodes: usize, weather: Weather) -> Self {
        let sky = Sky { random: seed | 1, weather, inboxes: BTreeMap::new(), cut_off: BTreeSet::new(), bytes: 0 };
        let sky = Shuffler(Arc::new(Mutex::new(sky)));
        let mut cluster = Self { sky, dir: tempfile::tempdir().unwrap(), nodes: Vec::new() };
        for n in 0..nodes {
            let node = cluster.start(n).await;
            cluster.nodes.push(node);
        }
        cluster
    }

    /// Starts node `n`, which is told of node 0.
    async fn start(&self, n: usize) -> Node {
        let (values, (live, shown), stop) =
            (watch::Sender::default(), watch::channel(Arc::default()), watch::Sender::new(false));
        let (found, first_peers) = mpsc::channel(1);
        let driver = Driver {
            identity: Identity {
                id: format!("node-{n}"),
                advertise: address(n),
                label: "test".into(),
                generation_file: self.dir.path().join(n.to_string()),
                clock: Arc::new(SystemClock),
            },
            pace: Pace::default(),
            transport: self.sky.clone(),
            counters: Arc::<Counters>::default(),
            wires: Wires {
                values: values.subscribe(),
                first_peers,
                live,
                keys: watch::channel(KeyRing::of(ClusterKey::generate().unwrap())).1,
                stop: stop.subscribe(),
            },
        };
        let counters = driver.counters.clone();
        let handle = driver.start().await.unwrap();
        let task = tokio::spawn(driver.run(handle));
        let looking = found.clone();
        tokio::spawn(async move {
            while looking.send(address(0)).await.is_ok() {
                sleep(Duration::from_secs(1)).await
            }
        });
        Node { values, live: shown, stop, task, counters, _found: found }
    }

    fn sky(&self) -> std::sync::MutexGuard<'_, Sky> {
        self.sky.0.lock().unwrap()
    }

    /// Waits until each of these nodes sees what it should, and returns how long that took.
    async fn until(&self, nodes: &[usize], what: &str, mut holds: impl FnMut(usize, &Peers) -> bool) -> Duration {
        let start = Instant::now();
        for n in nodes {
            let mut live = self.nodes[*n].live.clone();
            let seen = timeout(Duration::from_secs(300), live.wait_for(|peers| holds(*n, peers))).await;
            assert!(seen.is_ok(), "node {n}: {what}");
        }
        start.elapsed()
    }
}

const CALM: Weather = Weather { lost: 0, doubled: 0, max_delay_ms: 2 };
const STORM: Weather = Weather { lost: 20, doubled: 20, max_delay_ms: 1500 };

#[tokio::test(start_paused = true)]
async fn values_arrive_everywhere_and_never_go_back_in_a_storm() {
    for seed in [1, 2, 3] {
        let cluster = Cluster::new(seed, 5, STORM).await;
        let all: Vec<usize> = (0..5).collect();
        cluster.until(&all, "sees all", |_, peers| peers.len() == 4).await;
        let newest = Arc::new(Mutex::new(BTreeMap::new()));
        for (n, node) in cluster.nodes.iter().enumerate() {
            let (mut live, newest) = (node.live.clone(), newest.clone());
            tokio::spawn(async move {
                while live.changed().await.is_ok() {
                    for peer in live.borrow_and_update().values() {
                        let key = (n, peer.id.clone(), peer.generation);
                        let mut newest = newest.lock().unwrap();
                        let version: &mut u64 = newest.entry(key).or_default();
                        assert!(peer.version >= *version, "seed {seed}: {} went back at node {n}", peer.id);
                        *version = peer.version;
                    }
                }
            });
        }
        for round in 0..20 {
            for (n, node) in cluster.nodes.iter().enumerate() {
                node.values.send_modify(|values| drop(values.insert("round".into(), format!("{n}:{round}").into())));
            }
            sleep(Duration::from_millis(300)).await;
        }
        let last = |peers: &Peers| {
            peers.len() == 4
                && peers.values().all(|peer| {
                    let n = &peer.id["node-".len()..];
                    peer.values.get("round").is_some_and(|value| value.bytes == format!("{n}:19").into_bytes())
                })
        };
        cluster.until(&all, "has the last values", |_, peers| last(peers)).await;
        assert!(!newest.lock().unwrap().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_partition_is_seen_and_heals() {
    let cluster = Cluster::new(7, 4, CALM).await;
    let all = [0, 1, 2, 3];
    cluster.until(&all, "sees all", |_, peers| peers.len() == 3).await;
    cluster.sky().cut_off.insert(address(3));
    cluster.until(&all[..3], "sees it gone", |_, peers| !peers.contains_key("node-3")).await;
    cluster.until(&[3], "is alone", |_, peers| peers.is_empty()).await;
    cluster.nodes[3].values.send_modify(|values| drop(values.insert("while".into(), b"apart".to_vec())));
    sleep(Duration::from_secs(60)).await;
    cluster.sky().cut_off.clear();
    cluster.until(&all, "sees all again", |_, peers| peers.len() == 3).await;
    cluster
        .until(&[0, 1, 2], "hears of it", |_, p| p.get("node-3").is_some_and(|p| p.values.contains_key("while")))
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_good_bye_is_heard_at_once_and_a_restart_is_one_peer() {
    let mut cluster = Cluster::new(11, 3, CALM).await;
    cluster.until(&[0, 1, 2], "sees all", |_, peers| peers.len() == 2).await;
    let before = cluster.nodes[0].live.borrow()["node-2"].generation;
    let node = cluster.nodes.pop().unwrap();
    node.stop.send(true).unwrap();
    let took = cluster.until(&[0, 1], "hears the good-bye", |_, peers| peers.len() == 1).await;
    assert!(took < Duration::from_secs(2), "{took:?}");
    node.task.await.unwrap();
    let again = cluster.start(2).await;
    cluster.nodes.push(again);
    let newer = |peers: &Peers| peers.get("node-2").is_some_and(|peer| peer.generation > before);
    cluster.until(&[0, 1], "sees the new generation", |_, peers| newer(peers)).await;
    cluster.nodes[2].task.abort(); // as kill -9 does
    cluster.sky().cut_off.insert(address(2));
    cluster.until(&[0, 1], "sees it dead", |_, peers| !peers.contains_key("node-2")).await;
}

#[tokio::test(start_paused = true)]
async fn gossip_that_breaks_is_started_again_under_a_new_generation() {
    let cluster = Cluster::new(13, 3, CALM).await;
    cluster.nodes[1].values.send_modify(|values| drop(values.insert("kept".into(), b"yes".to_vec())));
    let knows = |peers: &Peers| peers.get("node-1").is_some_and(|peer| peer.values.contains_key("kept"));
    cluster.until(&[0, 2], "sees it", |_, peers| knows(peers)).await;
    let before = cluster.nodes[0].live.borrow()["node-1"].generation;
    cluster.sky().inboxes.remove(&address(1)); // its socket breaks
    let newer = |peers: &Peers| knows(peers) && peers["node-1"].generation > before;
    cluster.until(&[0, 2], "sees it again, with what it says", |_, peers| newer(peers)).await;
    assert_eq!(cluster.nodes[1].counters.refused(Refusal::Restarted), 1);
}

/// Figures for the documents, and bounds that they must keep.
#[tokio::test(start_paused = true)]
async fn how_fast_news_and_deaths_spread_and_what_it_costs() {
    let mut rates = Vec::new();
    for nodes in [3, 10, 50] {
        let mut cluster = Cluster::new(5, nodes, Weather { lost: 0, doubled: 0, max_delay_ms: 5 }).await;
        let all: Vec<usize> = (0..nodes).collect();
        let joined = cluster.until(&all, "sees all", |_, peers| peers.len() == nodes - 1).await;
        for node in &cluster.nodes {
            node.values.send_modify(|values| drop(values.insert("load".into(), vec![b'x'; 500])));
        }
        let spread =
            cluster.until(&all, "has all values", |_, p| p.values().all(|p| p.values.contains_key("load"))).await;
        let before = cluster.sky().bytes;
        sleep(Duration::from_secs(10)).await;
        let rate = (cluster.sky().bytes - before) / 10 / nodes as u64;
        let mut deaths = Vec::new();
        for dead in (1..nodes).rev().take(if nodes == 10 { 3 } else { 1 }) {
            cluster.nodes[dead].task.abort();
            cluster.sky().cut_off.insert(address(dead));
            cluster.nodes.pop();
            let start = Instant::now();
            for n in 0..dead {
                let name = format!("node-{dead}");
                cluster.until(&[n], "sees it dead", |_, peers| !peers.contains_key(&name)).await;
                deaths.push(start.elapsed());
            }
        }
        deaths.sort();
        let (p50, p99) = (deaths[deaths.len() / 2], deaths[deaths.len() * 99 / 100]);
        println!(
            "{nodes} nodes: joined {joined:?}, news {spread:?}, death p50 {p50:?} p99 {p99:?}, {rate} bytes/s a node"
        );
        assert!(joined < Duration::from_secs(20) && spread < Duration::from_secs(10));
        assert!(p99 < Duration::from_secs(20), "{p99:?}");
        assert!(rate < 60_000, "{rate}");
        rates.push((nodes, rate));
    }
    for pair in rates.windows(2) {
        let [(few, before), (many, after)] = pair else { unreachable!() };
        let growth = after.saturating_sub(*before) / (*many - *few) as u64;
        println!("{few} to {many} nodes: each costs each of the others {growth} bytes/s more");
        assert!(growth < 2_000, "{growth}");
    }
}
