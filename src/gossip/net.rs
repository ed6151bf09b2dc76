//! What all connections of a member share.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chitchat::{ChitchatMessage, Deserializable as _, Serializable as _};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::counters::{Counters, Refusal};
use super::guard::Guard;
use super::hello::Hello;
use super::key::KeyRing;
use super::routes::{Message, Routes, Sent};
use super::{dial, seal};

/// The kind of a sealed message: its first byte. Others are of newer versions, and passed over.
pub(super) const HELLO: u8 = 0;
/// A message of chitchat.
pub(super) const GOSSIP: u8 = 1;
/// Nothing: only that the sender lives.
pub(super) const ALIVE: u8 = 2;

/// A message with the address at which its sender takes answers.
pub(super) type Received = (SocketAddr, ChitchatMessage);

/// What all connections of a member share.
pub(super) struct Net {
    pub(super) me: Hello,
    pub(super) label: String,
    pub(super) keys: watch::Sender<KeyRing>,
    pub(super) counters: Arc<Counters>,
    /// How long a dead node is remembered.
    pub(super) keep: Duration,
    inbox: mpsc::Sender<Received>,
    guard: Mutex<Guard>,
    routes: Mutex<Routes>,
    /// None once the member has stopped.
    tasks: Mutex<Option<JoinSet<()>>>,
}

impl Net {
    pub(super) fn new(me: Hello, label: String, keys: KeyRing, keep: Duration, inbox: mpsc::Sender<Received>) -> Self {
        let mut routes = Routes::default();
        routes.own(me.advertise);
        Self {
            me,
            label,
            keys: watch::Sender::new(keys),
            counters: Arc::default(),
            keep,
            inbox,
            guard: Mutex::default(),
            routes: Mutex::new(routes),
            tasks: Mutex::new(Some(JoinSet::new())),
        }
    }

    pub(super) fn routes(&self) -> MutexGuard<'_, Routes> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a task that ends with the member.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tasks) = tasks.as_mut() {
            while tasks.try_join_next().is_some() {}
            tasks.spawn(task);
        }
    }

    /// Ends all tasks and with them all connections.
    pub(super) fn close(&self) -> Option<JoinSet<()>> {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(tasks) = tasks.as_mut() {
            tasks.abort_all();
        }
        tasks
    }

    /// Puts a message on its way; never waits.
    pub(super) fn send(self: &Arc<Self>, to: SocketAddr, message: &ChitchatMessage) {
        let mut bytes = vec![GOSSIP];
        message.serialize(&mut bytes);
        if bytes.len() > seal::MAX_MESSAGE {
            let len = bytes.len();
            return self.counters.refuse(Refusal::MessageTooLong, format_args!("a message of {len} bytes is too long"));
        }
        let sent = self.routes().send(to, bytes, |queue: mpsc::Receiver<Message>| {
            self.spawn(dial::run(self.clone(), to, queue));
        });
        match sent {
            Sent::Queued => {}
            Sent::Dropped => self.counters.refuse(Refusal::QueueFull, format_args!("the queue for {to} is full")),
            Sent::Own => self.counters.refuse(Refusal::OwnAddress, to),
        }
    }

    /// Takes a message from the peer that said `from`.
    pub(super) fn receive(&self, from: &Hello, bytes: &[u8]) {
        let now = Instant::now();
        let (id, address) = (&from.id, from.advertise);
        if let Some(other) = self.routes().rival(from, now) {
            let detail = format_args!("two nodes are called {id}: at {address} and at {other}");
            self.counters.refuse(Refusal::SameId, detail);
        }
        let admitted = self.guard.lock().unwrap_or_else(PoisonError::into_inner).admit(bytes, now, self.keep);
        if let Err(why) = admitted {
            return self.counters.refuse(why, format_args!("a message of {id} at {address} was not taken"));
        }
        let Ok(message) = ChitchatMessage::deserialize(&mut &bytes[..]) else {
            let detail = format_args!("a message of {id} at {address} makes no sense");
            return self.counters.refuse(Refusal::Malformed, detail);
        };
        if self.inbox.try_send((address, message)).is_err() {
            self.counters.refuse(Refusal::QueueFull, "more comes in than is taken");
        }
    }
}
