//! Helping other nodes: with slots to spare, this node leases their jobs as any remote worker does.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};

use super::choice::{Candidate, Rests};
use super::claim_name;
use crate::error::{Kind, Result};
use crate::gossip::{Counters, Refusal};
use crate::job::WorkerId;
use crate::job::lanes::Offer;
use crate::queue::Queue;
use crate::store::{Home, Waiting};
use crate::time::{Clock, Span};
use crate::worker::{self, Config, Slots, Stop, chance};

/// How long one node is helped before the choice is made anew.
const TURN: Duration = Duration::from_secs(1);
/// How long a worker for another node stays there without a job: while it is there, `orx run` leaves jobs to it.
const IDLE: Span = Span::from_secs(10);
/// How much longer than their drain time workers for other nodes may take to end: a home may be unreachable.
const END_LIMIT: Duration = Duration::from_secs(10);

/// Other nodes' jobs, for slots that the own worker of this process has no use for.
pub(super) struct Helper {
    /// What this process is called after the name of its node, where it is not the node's coordinator.
    pub(super) suffix: String,
    /// What is refused.
    pub(super) counters: Arc<Counters>,
    /// The slots that it shares with the own worker.
    pub(super) slots: Arc<Slots>,
    /// What the own worker is like.
    pub(super) config: Config,
    pub(super) clock: Arc<dyn Clock>,
}

/// A worker for another node.
struct Guest {
    id: WorkerId,
    url: String,
    /// Tokens are replaced while it works.
    token: String,
    queue: Queue,
    stop: watch::Sender<Stop>,
}

/// The workers for other nodes, by the ids of these.
#[derive(Default)]
struct Guests {
    of: HashMap<String, Guest>,
    nodes: HashMap<Id, String>,
    tasks: JoinSet<Result<()>>,
    rests: Rests,
    /// Whose turn it is, since when, and the word by which it was chosen.
    turn: Option<(String, Instant, u64)>,
}

impl Helper {
    /// Helps until `stop` rises or the own worker begins to end, and until what it runs then has ended.
    pub(super) async fn help(self, mut homes: watch::Receiver<Arc<Vec<Home>>>, mut stop: watch::Receiver<Stop>) {
        let mut guests = Guests::default();
        let mut changes = self.slots.changes();
        while *stop.borrow_and_update() == Stop::Run && !self.slots.is_closed() {
            let live = Arc::clone(&homes.borrow_and_update());
            self.look(&mut guests, &live, &stop);
            tokio::select! {
                () = changes.changed() => {}
                Ok(()) = homes.changed() => {}
                Some(ended) = guests.tasks.join_next_with_id() => self.ended(&mut guests, ended),
                changed = stop.changed() => {
                    if changed.is_err() {
                        break; // nobody is left who could ask
                    }
                }
                // Where there is nobody to help nothing comes to its time.
                () = sleep(TURN), if !live.is_empty() || !guests.of.is_empty() => {}
            }
        }
        let until = Instant::now() + self.config.drain_timeout.duration() + END_LIMIT;
        loop {
            let asked = *stop.borrow_and_update();
            for guest in guests.of.values() {
                guest.stop.send_replace(asked.max(Stop::Drain));
            }
            tokio::select! {
                ended = guests.tasks.join_next_with_id() => match ended {
                    Some(ended) => self.ended(&mut guests, ended),
                    None => return,
                },
                Ok(()) = stop.changed() => {}
                Ok(()) = homes.changed() => self.renew_tokens(&mut guests, &homes.borrow_and_update()),
                () = tokio::time::sleep_until(until) => {
                    return warn!(workers = guests.of.len(), "workers for other nodes do not end and are given up");
                }
            }
        }
    }

    /// Gives the turn to whoever may have work, when there are slots for it.
    fn look(&self, guests: &mut Guests, live: &[Home], stop: &watch::Receiver<Stop>) {
        let now = Instant::now();
        let done = self.slots.done();
        if let (Some((id, something)), Some((node, _, version))) = (done, &guests.turn)
            && guests.of.get(node).is_some_and(|guest| guest.id == id)
        {
            if !something {
                let detail = format_args!("{node} said that jobs wait, and had none");
                self.counters.refuse(Refusal::NothingThere, detail);
            }
            guests.rests.rest(node, *version, something, now);
            guests.turn = None;
        }
        self.renew_tokens(guests, live);
        self.let_go_of_moved(guests, live);
        let is_over = guests.turn.as_ref().is_none_or(|(_, since, _)| now.duration_since(*since) >= TURN);
        if !is_over || self.slots.spare() == 0 {
            return;
        }
        let candidates: Vec<Candidate> = live.iter().map(|home| self.candidate(home)).collect();
        let Some(id) = guests.rests.choose(&candidates, [chance(), chance()], now) else { return };
        let Some(home) = live.iter().find(|home| home.node == id) else { return };
        match self.guest(guests, home, stop) {
            Ok(guest) => {
                self.slots.give_turn(guest);
                guests.turn = Some((id, now, home.version));
            }
            Err(e) => {
                warn!("cannot help {id}: {e}");
                guests.rests.rest(&id, home.version, false, now);
            }
        }
    }

    fn candidate(&self, home: &Home) -> Candidate {
        let fits = |kind: &&Waiting| self.config.offer.serves(&kind.queue, &kind.needs);
        let fitting = home.waiting.iter().filter(fits).map(|kind| u64::from(kind.pending)).sum();
        Candidate { id: home.node.clone(), fitting, version: home.version }
    }

    /// Has the workers show the newest tokens: keys change, and tokens end.
    fn renew_tokens(&self, guests: &mut Guests, live: &[Home]) {
        for home in live {
            if let Some(guest) = guests.of.get_mut(&home.node)
                && guest.url == home.url
                && guest.token != home.token
                && let Queue::Remote(remote) = &guest.queue
            {
                match remote.set_token(&home.token) {
                    Ok(()) => guest.token.clone_from(&home.token),
                    Err(e) => warn!("the token for {} is none: {e}", home.node),
                }
            }
        }
    }

    /// Has workers end that know a node under a former address: another is started when it is needed.
    fn let_go_of_moved(&self, guests: &mut Guests, live: &[Home]) {
        for home in live {
            if let Some(guest) = guests.of.get(&home.node)
                && home.url != guest.url
            {
                guest.stop.send_if_modified(|stop| std::mem::replace(stop, Stop::Drain) != Stop::Drain);
            }
        }
        guests.rests.keep(|id| live.iter().any(|home| home.node == id));
    }

    /// The worker for `home`, started where there is none.
    fn guest(&self, guests: &mut Guests, home: &Home, stop: &watch::Receiver<Stop>) -> Result<WorkerId> {
        if let Some(guest) = guests.of.get(&home.node) {
            return Ok(guest.id);
        }
        let Home { url, token, .. } = home.clone();
        let queue = Queue::connect(&url, Some(token.clone()))?;
        let name = claim_name(&queue, Some(&format!("peer-{}{}", home.helper, self.suffix)))?;
        let id = name.key.id;
        let config = Config {
            key: name.key.clone(),
            name: name.name.clone(),
            store_id: super::store_id(&queue.location()),
            // A service would stay for ever.
            offer: Offer { no_services: true, ..self.config.offer.clone() },
            idle_timeout: Some(IDLE),
            owns_name: true,
            predecessors: name.predecessors(),
            ..self.config.clone()
        };
        let seat = self.slots.guest(id);
        let clock = Arc::clone(&self.clock);
        let (stop, stopped) = watch::channel(*stop.borrow());
        debug!(node = %home.node, %url, "helps");
        let (lock, at) = (name.lock, queue.clone());
        let task = guests.tasks.spawn(async move {
            at.greet().await?;
            let result = worker::run_at(seat, at, config, clock, stopped, || ()).await;
            drop(lock);
            result
        });
        guests.nodes.insert(task.id(), home.node.clone());
        guests.of.insert(home.node.clone(), Guest { id, url, token, queue, stop });
        Ok(id)
    }

    fn ended(&self, guests: &mut Guests, ended: Result<(Id, Result<()>), JoinError>) {
        let (task, result) = match ended {
            Ok((task, result)) => (task, result.map_err(|e| (e.kind(), e.to_string()))),
            Err(e) => (e.id(), Err((Kind::Failed, e.to_string()))),
        };
        let Some(node) = guests.nodes.remove(&task) else { return };
        guests.of.remove(&node);
        let version = guests.turn.take_if(|(id, ..)| *id == node).map(|(_, _, version)| version);
        match result {
            Ok(()) => info!(%node, "helps no more"),
            Err((kind, why)) => {
                let refusal = if kind == Kind::Unavailable { Refusal::Unreachable } else { Refusal::RefusedByPeer };
                self.counters.refuse(refusal, format_args!("cannot help {node}: {why}"));
                guests.rests.rest(&node, version.unwrap_or_default(), false, Instant::now());
            }
        }
    }
}
