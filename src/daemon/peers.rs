//! Gossip beside a coordinator: says what it is and what waits in it, and hears of the others.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::{info, warn};

use super::homes::{Kinds, homes, kinds, lent};
use super::neighbours::{Neighbours, is_reachable};
use super::sharing::Helper;
use super::{load, offering, peer_figures};
use crate::error::{Error, Kind, Result};
use crate::gossip::{self, KeyRing, Member, NODE_TOKEN, Pace, Peers, Seeds, Worthless};
use crate::http::{Nodes, Source};
use crate::hub::Subscription;
use crate::job::WorkerId;
use crate::ops::Takes;
use crate::ops::sharing::ListWaiting;
use crate::ops::workers::ListWorkers;
use crate::queue::Queue;
use crate::store::{Home, PeerNode, Topics};
use crate::time::{Clock, Timestamp};
use crate::worker::{Config, Slots, Stop};

/// How often the node says anew how it is, though nothing changed.
const SAY_EVERY: Duration = Duration::from_secs(2);
/// How often at most it says what changed.
const REST: Duration = Duration::from_millis(250);
/// How often at most the store is told at once that other kinds of jobs wait elsewhere; it is told with each beat anyway.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// How a coordinator gossips.
pub struct Gossip {
    /// Where it takes gossip.
    pub listen: SocketAddr,
    /// Where others reach it, if that is not `listen`.
    pub advertise: Option<SocketAddr>,
    /// Where others reach its API, if that is not where it listens.
    pub url: Option<String>,
    /// Where it finds its first peers.
    pub seeds: Seeds,
    /// The file of the cluster's keys; read again on SIGHUP.
    pub key_file: PathBuf,
    /// The cluster's label.
    pub label: String,
    /// Where its generation is kept.
    pub generation_file: PathBuf,
    /// Which jobs it shares.
    pub share: Share,
}

/// Which jobs a node shares with others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Share {
    /// None.
    None,
    /// It runs those of others.
    Take,
    /// Others run its own.
    Give,
    /// Both.
    #[default]
    Both,
}

impl Share {
    fn takes(self) -> bool {
        matches!(self, Self::Take | Self::Both)
    }

    fn gives(self) -> bool {
        matches!(self, Self::Give | Self::Both)
    }
}

/// What the store is told of other nodes.
#[derive(Clone, Debug, Default)]
pub(super) struct Shown {
    /// All of them, for people.
    pub(super) peers: Vec<PeerNode>,
    /// Those that the store's workers may help.
    pub(super) homes: Vec<Home>,
}

/// A coordinator among its peers.
pub(super) struct Gossiping {
    member: Arc<Member>,
    key_file: PathBuf,
    share: Share,
    url: String,
    task: JoinHandle<()>,
    helper: Option<JoinHandle<()>>,
    draining: watch::Sender<bool>,
    /// Those to help; nobody where this node does not take.
    homes: watch::Receiver<Arc<Vec<Home>>>,
    /// All nodes for people; changes when one comes or goes, or has other kinds of jobs.
    pub(super) shown: watch::Receiver<Shown>,
    /// When a node was seen dead last.
    pub(super) deaths: watch::Receiver<Option<Instant>>,
}

impl Gossiping {
    /// Begins to gossip under `name`.
    ///
    /// # Errors
    /// When it cannot listen, the keys cannot be read, or others could not reach it.
    pub(super) async fn start(
        queue: Queue,
        name: &str,
        url: &str,
        how: Gossip,
        clock: Arc<dyn Clock>,
        worker: Option<(&Config, &Arc<Slots>)>,
    ) -> Result<Self> {
        let Gossip { listen, advertise, url: wanted, seeds, key_file, label, generation_file, share } = how;
        let keys = KeyRing::read(&key_file)?;
        let (id, pace, started_at) = (name.to_owned(), Pace::default(), clock.now());
        let config =
            gossip::Config { id, listen, advertise, seeds, label, generation_file, pace, clock: clock.clone() };
        let key = keys.current().fingerprint();
        let member = Arc::new(Member::start(config, keys).await?);
        let url = wanted.unwrap_or_else(|| url.to_owned());
        if !is_reachable(&url, member.address()) {
            return Err(Error::usage(format!("peers cannot reach this node's API at {url}"))
                .hint("say where it is for them, with --advertise"));
        }
        info!(address = %member.address(), listen = %member.listens_at(), %key, "gossips");
        introduce(&member, name, &url, started_at)?;
        let (draining, is_draining) = watch::channel(false);
        let ((shows, shown), (lists, homes), (dies, deaths)) =
            (watch::channel(Shown::default()), watch::channel(Arc::default()), watch::channel(None));
        let talk = Talk {
            changes: queue.subscribe(Topics::WORK)?,
            queue,
            member: Arc::clone(&member),
            clock,
            own: worker.map(|(config, slots)| (config.key.id, Arc::clone(slots))),
            gives: share.gives(),
            takes: share.takes(),
            draining: is_draining,
            neighbours: Neighbours::default(),
            known: Peers::new(),
            told: (Instant::now(), Kinds::new()),
            shows,
            lists,
            dies,
        };
        let task = tokio::spawn(talk.go_on());
        Ok(Self { member, key_file, share, url, task, helper: None, draining, homes, shown, deaths })
    }

    /// Where others reach this node's API.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Helps others with the slots that the worker of `config` has no use for.
    pub(super) fn help(
        &mut self,
        config: Config,
        slots: Arc<Slots>,
        clock: Arc<dyn Clock>,
        stop: watch::Receiver<Stop>,
    ) {
        if self.share.takes() {
            let counters = Arc::clone(self.member.counters());
            let helper = Helper { suffix: String::new(), counters, slots, config, clock };
            self.helper = Some(tokio::spawn(helper.help(self.homes.clone(), stop)));
        }
    }

    /// How the API knows other nodes.
    pub(super) fn nodes(&self) -> Nodes {
        let member = Arc::downgrade(&self.member); // it ends although the API lives a little longer
        let node_of = move |token: &str| {
            let member = member.upgrade().ok_or_else(|| Error::unavailable("this node is ending"))?;
            member.node_of(token).map_err(|why| {
                Error::new(
                    Kind::Denied,
                    match why {
                        Worthless::NoToken => "this is no node's token".into(),
                        Worthless::Unknown => "the node's token is of another cluster key, label or node".into(),
                        Worthless::Expired => "the token that a node lent its worker has ended".into(),
                        Worthless::Banned(id) => format!("node {id} is banned"),
                    },
                )
            })
        };
        let takes = if self.share.gives() { Takes::Shared } else { Takes::Nothing };
        Nodes { prefix: NODE_TOKEN, node_of: Arc::new(node_of), takes, counters: Arc::clone(self.member.counters()) }
    }

    /// Reads the keys again; those of before stay where they cannot be read.
    pub(super) fn reload(&self) {
        match KeyRing::read(&self.key_file) {
            Ok(keys) => {
                let key = keys.current().fingerprint();
                info!(%key, banned = keys.banned().len(), "the cluster's keys were read again");
                say(&self.member, "key", &json!(key));
                self.member.set_keys(keys);
            }
            Err(e) => warn!("the cluster's keys stay as they were: {e}"),
        }
    }

    /// Says that this node takes no more, and has no slots for anybody.
    pub(super) fn drain(&self) {
        say(&self.member, "draining", &json!(true));
        say(&self.member, "slots", &json!({ "total": 0, "free": 0 }));
        self.draining.send_replace(true);
    }

    /// Waits until what it runs for others has ended, which must have been told to stop.
    pub(super) async fn end_helping(&mut self) {
        if let Some(helper) = self.helper.take() {
            let _ = helper.await; // it has a limit of its own
        }
    }

    /// Its figures for `/metrics`, as long as it gossips.
    pub(super) fn figures(&self) -> Source {
        let member = Arc::downgrade(&self.member); // or else it could not end
        Box::new(move |text| member.upgrade().iter().for_each(|member| peer_figures::tell(member, text)))
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
        ("key", json!(member.keys().current().fingerprint())),
    ];
    said.into_iter().try_for_each(|(key, value)| member.set(key, value.to_string()))
}

fn say(member: &Member, key: &str, value: &serde_json::Value) {
    if let Err(e) = member.set(key, value.to_string()) {
        warn!("cannot tell peers {key}: {e}");
    }
}

/// What the task of a gossiping coordinator has.
struct Talk {
    queue: Queue,
    member: Arc<Member>,
    clock: Arc<dyn Clock>,
    /// Its worker, where it has one, and the slots of that.
    own: Option<(WorkerId, Arc<Slots>)>,
    gives: bool,
    takes: bool,
    draining: watch::Receiver<bool>,
    changes: Subscription,
    neighbours: Neighbours,
    known: Peers,
    /// What waits elsewhere, as the store was told last, and when.
    told: (Instant, Kinds),
    shows: watch::Sender<Shown>,
    lists: watch::Sender<Arc<Vec<Home>>>,
    dies: watch::Sender<Option<Instant>>,
}

impl Talk {
    /// Says how it is and hears who is there, until it is aborted.
    async fn go_on(mut self) {
        let mut live = self.member.peers();
        let mut slots = self.own.as_ref().map(|(_, slots)| slots.changes());
        let (mut last, mut stirred) = (Instant::now(), true);
        self.say_all().await;
        loop {
            let next = last + if stirred { REST } else { SAY_EVERY };
            if next <= Instant::now() {
                self.say_all().await;
                (last, stirred) = (Instant::now(), false);
                continue;
            }
            let slots_change = async {
                match &mut slots {
                    Some(slots) => slots.changed().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Ok(()) = live.changed() => {
                    let now = Peers::clone(&live.borrow_and_update());
                    self.hear(now);
                }
                topics = self.changes.changed(Some(next)) => stirred |= topics != Topics::NONE,
                () = slots_change, if !stirred => stirred = true,
            }
        }
    }

    async fn say_all(&self) {
        let member = &self.member;
        let waiting = match self.gives {
            true => self.queue.call(ListWaiting {}).await,
            false => Ok(Vec::new()),
        };
        match waiting {
            Ok(waiting) => say(member, "waiting", &json!(offering::waiting(waiting))),
            Err(e) => self.queue.outage().say("cannot tell peers what waits", &e),
        }
        if !*self.draining.borrow() {
            self.say_slots().await;
        }
        say(member, "load", &json!(load()));
        say(member, "now", &json!(self.clock.now()));
    }

    async fn say_slots(&self) {
        match self.queue.call(ListWorkers {}).await {
            Ok(workers) => {
                let mine = offering::own_workers(&workers, &self.known.keys().collect::<Vec<_>>());
                let own = self.own.as_ref().map(|(id, slots)| (*id, &**slots));
                say(&self.member, "slots", &json!(offering::slots(own, &mine)));
                say(&self.member, "offers", &json!(offering::offers(&mine)));
            }
            Err(e) => self.queue.outage().say("cannot tell peers of the workers", &e),
        }
    }

    fn hear(&mut self, now: Peers) {
        report(&self.known, &now);
        let gone = self.neighbours.hear(&now, self.clock.now(), self.member.counters());
        let changed = !self.known.keys().eq(now.keys());
        self.known = now;
        if !gone.is_empty() {
            self.dies.send_replace(Some(Instant::now()));
        }
        let mut shown = Shown { peers: self.neighbours.view(), homes: Vec::new() };
        if self.takes {
            self.lists.send_replace(Arc::new(homes(&self.member, self.neighbours.live())));
            shown.homes = lent(&self.member, self.neighbours.live(), self.clock.now());
        }
        let kinds = kinds(&shown.homes);
        let is_news = changed || (kinds != self.told.1 && self.told.0.elapsed() >= TELL_EVERY);
        if is_news {
            self.told = (Instant::now(), kinds);
        }
        self.shows.send_if_modified(|old| {
            *old = shown;
            is_news
        });
    }
}

/// Tells the log who came and who is gone.
fn report(before: &Peers, now: &Peers) {
    let ids: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    for id in ids {
        match (before.get(id), now.get(id)) {
            (None, Some(peer)) => info!(peer = %id, address = %peer.address, "a peer is there"),
            (Some(old), Some(new)) if new.generation > old.generation => info!(peer = %id, "a peer was restarted"),
            (Some(_), None) => info!(peer = %id, "a peer is gone"),
            _ => {}
        }
    }
}
