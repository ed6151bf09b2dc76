//! A node of a cluster: start, stop, say something of oneself, watch the others.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::accept;
use super::backoff::{chance, spread};
use super::counters::{Counters, Refusal};
use super::driver::{Driver, Identity, Wires};
use super::hello::{Hello, MAX_ID, is_id, plain};
use super::key::KeyRing;
use super::net::Net;
use super::peers::{Peers, Values, put};
use super::seeds::Seeds;
use super::socket::TcpListener;
use super::token::Worthless;
use super::transport::Tcp;
use crate::error::{Error, Result};
use crate::time::{Clock, Timestamp};

/// Messages that were received and wait for chitchat; more are dropped.
const INBOX: usize = 256;
/// The longest label.
const MAX_LABEL: usize = 64;
/// How often the first peers are looked for while no peer is connected, while some are missing, and otherwise.
const LOOK_ALONE: Duration = Duration::from_secs(1);
const LOOK_MISSING: Duration = Duration::from_secs(5);
const LOOK_ALWAYS: Duration = Duration::from_secs(30);
/// How long stopping may take.
const STOP_LIMIT: Duration = Duration::from_secs(2);

/// How fast a cluster talks.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// How often each node talks to three others.
    pub interval: Duration,
    /// How many times the usual wait for a sign of life a node may be silent before it is seen dead.
    pub phi: f64,
    /// How long a dead node is remembered.
    pub keep: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { interval: Duration::from_millis(500), phi: 8.0, keep: Duration::from_secs(600) }
    }
}

/// What a member needs to start.
pub struct Config {
    /// The node's id, of which there must be no other in the cluster.
    pub id: String,
    /// Where it takes connections; with port 0 the system chooses one.
    pub listen: SocketAddr,
    /// Where others reach it, if that is not `listen`.
    pub advertise: Option<SocketAddr>,
    /// Where it finds its first peers. Its own address may be among them.
    pub seeds: Seeds,
    /// Members of another label are strangers, also with the same key.
    pub label: String,
    /// Where its generation is kept.
    pub generation_file: PathBuf,
    /// How fast it talks; the same in the whole cluster.
    pub pace: Pace,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
}

impl Config {
    fn check(&self) -> Result<()> {
        if !is_id(&self.id) {
            let hint = format!("letters, digits and ._-@:, at most {MAX_ID}");
            return Err(Error::usage(format!("{:?} cannot be the id of a node", self.id)).hint(hint));
        }
        if self.label.len() > MAX_LABEL || self.label.chars().any(char::is_control) {
            return Err(Error::usage(format!("{:?} cannot be the label of a cluster", self.label)));
        }
        self.seeds.check()
    }
}

/// A node of a cluster, for as long as this lives.
pub struct Member {
    net: Arc<Net>,
    listens_at: SocketAddr,
    clock: Arc<dyn Clock>,
    values: watch::Sender<Values>,
    live: watch::Receiver<Arc<Peers>>,
    stop: watch::Sender<bool>,
    driver: JoinHandle<()>,
}

impl Member {
    /// Listens, and gossips from now on. Peers that are not there yet are looked for again and again.
    ///
    /// # Errors
    /// `Usage` when the configuration contradicts itself; when it cannot listen or its generation cannot be kept.
    pub async fn start(config: Config, keys: KeyRing) -> Result<Self> {
        config.check()?;
        let listener = TcpListener::bind(config.listen).await;
        let listener = listener
            .map_err(|e| Error::unavailable(format!("cannot listen for gossip on {}", config.listen)).source(e))?;
        let listens_at = listener.local_addr()?;
        let advertise = advertise(config.advertise, listens_at)?;
        let Config { id, seeds, label, generation_file, pace, clock, .. } = config;
        let (inbox, received) = mpsc::channel(INBOX);
        let me = Hello::new(&id, advertise);
        let net = Arc::new(Net::new(me, label.clone(), keys, pace.keep, inbox));
        let (values, (live, shown), stop) =
            (watch::Sender::default(), watch::channel(Arc::default()), watch::Sender::new(false));
        let (found, first_peers) = mpsc::channel(1);
        let driver = Driver {
            identity: Identity { id, advertise, label, generation_file, clock: clock.clone() },
            pace,
            transport: Tcp { net: net.clone(), inbox: Arc::new(Mutex::new(received)) },
            counters: net.counters.clone(),
            wires: Wires {
                values: values.subscribe(),
                first_peers,
                live,
                keys: net.keys.subscribe(),
                stop: stop.subscribe(),
            },
        };
        let handle = driver.start().await?;
        net.spawn(accept::run(net.clone(), listener));
        net.spawn(look(net.clone(), seeds, found));
        let driver = tokio::spawn(driver.run(handle));
        Ok(Self { net, listens_at, clock, values, live: shown, stop, driver })
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.net.me.id
    }

    /// Where it listens, as the system says it.
    pub fn listens_at(&self) -> SocketAddr {
        self.listens_at
    }

    /// Where others reach it.
    pub fn address(&self) -> SocketAddr {
        self.net.me.advertise
    }

    /// The live peers now and whenever they or their values change.
    pub fn peers(&self) -> watch::Receiver<Arc<Peers>> {
        self.live.clone()
    }

    /// Says `bytes` of this node under `key`, until something else is said.
    ///
    /// # Errors
    /// `Usage` for a key that cannot be one, `Limit` when all values together become too much; the old one stays then.
    pub fn set(&self, key: &str, bytes: impl Into<Vec<u8>>) -> Result<()> {
        let bytes = bytes.into();
        let mut result = Ok(());
        self.values.send_if_modified(|values| {
            if values.get(key) == Some(&bytes) {
                return false;
            }
            result = put(values, key, bytes);
            result.is_ok()
        });
        result
    }

    /// Says nothing more under `key`.
    pub fn unset(&self, key: &str) {
        self.values.send_if_modified(|values| values.remove(key).is_some());
    }

    /// Takes other keys; connections made with one that is no longer good end.
    pub fn set_keys(&self, keys: KeyRing) {
        self.net.keys.send_replace(keys);
    }

    /// The keys that are good now, and who is banned.
    pub fn keys(&self) -> KeyRing {
        self.net.keys.borrow().clone()
    }

    /// The token by which this node is known to the node `to`.
    ///
    /// # Errors
    /// When there is no way to compute it here.
    pub fn token_for(&self, to: &str) -> Result<String> {
        self.net.keys.borrow().token(&self.net.label, &self.net.me.id, to)
    }

    /// As [`Member::token_for`], for a process of this node that is not to hold the key: good before `until`, by the clock of
    /// the node `to`.
    ///
    /// # Errors
    /// When there is no way to compute it here.
    pub fn token_until(&self, to: &str, until: Timestamp) -> Result<String> {
        self.net.keys.borrow().token_until(&self.net.label, &self.net.me.id, to, until)
    }

    /// The id of the node that shows this one `token`; what is worth nothing is counted.
    ///
    /// # Errors
    /// Why it is worth nothing.
    pub fn node_of(&self, token: &str) -> Result<String, Worthless> {
        let known = self.net.keys.borrow().node_of(&self.net.label, token, &self.net.me.id, self.clock.now());
        match &known {
            Err(Worthless::Banned(id)) => self.counters().refuse(Refusal::Banned, format_args!("{id} is banned")),
            Err(Worthless::Expired) => {
                self.counters().refuse(Refusal::ExpiredToken, "the token of a node's worker is over")
            }
            Err(_) => self.counters().refuse(Refusal::WrongKey, "a node's token over HTTP is of another cluster key"),
            Ok(_) => {}
        }
        known
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.net.routes().links()
    }

    /// What it counts.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.net.counters
    }

    /// Says good-bye and ends.
    pub async fn stop(mut self) {
        let _ = self.stop.send(true);
        let _ = timeout(STOP_LIMIT, &mut self.driver).await;
        if let Some(mut tasks) = self.net.close() {
            tasks.shutdown().await;
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.driver.abort();
        drop(self.net.close());
    }
}

/// Where others reach a member that listens on `local`.
fn advertise(wanted: Option<SocketAddr>, local: SocketAddr) -> Result<SocketAddr> {
    let mut address = plain(wanted.unwrap_or(local));
    if address.port() == 0 {
        address.set_port(local.port());
    }
    if address.ip().is_unspecified() || address.ip().is_multicast() {
        return Err(Error::usage(format!("peers cannot reach this node at {address}"))
            .hint("say which address is its own, with --gossip-advertise"));
    }
    Ok(address)
}

/// Looks for the first peers, and again for those that are not connected.
async fn look(net: Arc<Net>, seeds: Seeds, found: mpsc::Sender<SocketAddr>) {
    loop {
        let mut missing = false;
        for address in seeds.resolve(&net.counters).await {
            if net.routes().reaches(address) {
                continue;
            }
            missing = true;
            if found.send(address).await.is_err() {
                return;
            }
        }
        let wait = match (net.routes().links(), missing) {
            (0, _) => LOOK_ALONE,
            (_, true) => LOOK_MISSING,
            (_, false) => LOOK_ALWAYS,
        };
        sleep(spread(wait, chance())).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_advertises_an_address_that_others_can_use() {
        let at = |wanted: Option<&str>, local: &str| {
            advertise(wanted.map(|w| w.parse().unwrap()), local.parse().unwrap()).map(|a| a.to_string())
        };
        assert_eq!(at(None, "127.0.0.1:7").unwrap(), "127.0.0.1:7");
        assert_eq!(at(None, "[::ffff:10.0.0.1]:7").unwrap(), "10.0.0.1:7");
        assert_eq!(at(Some("10.0.0.1:0"), "0.0.0.0:7").unwrap(), "10.0.0.1:7");
        assert_eq!(at(Some("[fd00::1]:9"), "[::]:7").unwrap(), "[fd00::1]:9");
        for (wanted, local) in [(None, "0.0.0.0:7"), (None, "[::]:7"), (Some("224.0.0.1:7"), "127.0.0.1:7")] {
            assert!(at(wanted, local).unwrap_err().hint_text().is_some());
        }
    }
}
