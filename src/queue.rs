//! The front door: every command, worker and route calls Ops through a [`Queue`].

use std::path::PathBuf;
use std::sync::Arc;

use tokio::time::Instant;

use crate::engine::{Engine, Try};
use crate::error::{Error, Result};
use crate::hub::Subscription;
use crate::job::{WorkerId, WorkerKey};
use crate::ops::{Caller, Op};
use crate::outage::Outage;
use crate::remote::Remote;
pub use crate::remote::Request;
use crate::store::restore::Counted;
use crate::store::{self, Claim, Finding, Holder, Location, Ownership, Topics};
use crate::time::Clock;

/// A queue, wherever it is.
#[derive(Clone)]
pub enum Queue {
    /// In a store that this process opened.
    Local(Arc<Engine>),
    /// At a coordinator.
    Remote(Arc<Remote>),
}

/// What only somebody who has the store itself can do.
fn needs_store(what: &str) -> Error {
    Error::usage(format!("{what} needs the store itself, not its coordinator"))
        .hint("run it where the store is, with --store and its place")
}

impl Queue {
    /// Opens the queue at `location`, making it where it does not exist.
    ///
    /// # Errors
    /// `Unavailable` when the store cannot be used.
    pub fn open(location: &Location, caller: Caller, clock: Arc<dyn Clock>) -> Result<Self> {
        Ok(Self::Local(Engine::new(store::open(location, clock)?, caller)))
    }

    /// Opens the queue at `location` for somebody who only looks: where there is none, none is made.
    ///
    /// # Errors
    /// `NotFound` where there is none, `Unavailable` when the store cannot be used.
    pub fn open_existing(location: &Location, caller: Caller, clock: Arc<dyn Clock>) -> Result<Self> {
        Ok(Self::Local(Engine::new(store::open_existing(location, clock)?, caller)))
    }

    /// The queue of the coordinator at `url`, called with `token`.
    ///
    /// # Errors
    /// `Usage` when the URL or token cannot be one.
    pub fn connect(url: &str, token: Option<String>) -> Result<Self> {
        Ok(Self::Remote(Remote::new(url, token)?))
    }

    /// Has `tell` hear of it when a coordinator has been called in vain for a second and is still called.
    pub fn on_trouble(&self, tell: impl Fn(&Error) + Send + Sync + 'static) {
        if let Self::Remote(remote) = self {
            remote.on_trouble(tell);
        }
    }

    /// Whether it is at a coordinator, which does the upkeep.
    pub fn is_remote(&self) -> bool {
        matches!(self, Self::Remote(_))
    }

    /// Runs an Op, and answers when what it wrote is durable.
    ///
    /// # Errors
    /// What the Op says, or that the store cannot be used.
    pub async fn call<O: Op>(&self, op: O) -> Result<O::Reply> {
        match self {
            Self::Local(engine) => engine.call(op).await,
            Self::Remote(remote) => remote.call(op).await,
        }
    }

    /// As [`Queue::call`], and an instant before which it was not done, however long it took to reach the store.
    ///
    /// # Errors
    /// As [`Queue::call`].
    pub async fn call_since<O: Op>(&self, op: O, request: Request) -> Result<(Instant, O::Reply)> {
        let now = Instant::now();
        match self {
            Self::Local(engine) => {
                let attempt = if request.is_again() { Try::Again } else { Try::First };
                let reply = engine.call_as(Arc::clone(engine.caller()), op, attempt).await;
                reply.map(|reply| (now, reply))
            }
            Self::Remote(remote) => remote.call_since(op, request).await,
        }
    }

    /// Runs a reading Op again with each change of `topics` until its reply is `ready` (S25).
    ///
    /// Gives the last reply, ready or not, when `deadline` passes.
    ///
    /// # Errors
    /// What the Op says, or that the store cannot be used.
    pub async fn call_until<O: Op + Clone>(
        &self,
        op: O,
        topics: Topics,
        deadline: Option<Instant>,
        mut ready: impl FnMut(&O::Reply) -> bool,
    ) -> Result<O::Reply> {
        let mut changes = self.subscribe(topics)?;
        loop {
            let reply = self.call(op.clone()).await?;
            if ready(&reply) || deadline.is_some_and(|at| at <= Instant::now()) {
                return Ok(reply);
            }
            changes.changed(deadline).await;
        }
    }

    /// Looks whether it can be asked anything at all.
    ///
    /// # Errors
    /// `Unavailable` when its coordinator does not answer.
    pub async fn greet(&self) -> Result<()> {
        match self {
            Self::Local(_) => Ok(()),
            Self::Remote(remote) => remote.greet().await,
        }
    }

    /// Hears of changes from now on.
    ///
    /// # Errors
    /// `Unavailable` when it cannot listen.
    pub fn subscribe(&self, topics: Topics) -> Result<Subscription> {
        match self {
            Self::Local(engine) => engine.subscribe(topics),
            Self::Remote(remote) => Ok(remote.subscribe(topics)),
        }
    }

    /// Tries to own `name` on this machine until the value is dropped or the process ends.
    ///
    /// # Errors
    /// `Unavailable` when locks cannot be had.
    pub fn own(&self, name: &str, who: &WorkerKey) -> Result<Option<Ownership>> {
        match self {
            Self::Local(engine) => engine.own(name, who),
            Self::Remote(remote) => store::own_here(remote.location(), name, who),
        }
    }

    /// Tries to own `name` on this machine in the place of `dead`; `None` unless the lock itself shows that this one owned it
    /// and is dead.
    ///
    /// # Errors
    /// `Unavailable` when locks cannot be had.
    pub fn succeed(&self, name: &str, dead: WorkerId, who: &WorkerKey) -> Result<Option<Ownership>> {
        match self {
            Self::Local(engine) => engine.succeed(name, dead, who),
            Self::Remote(remote) => store::succeed_here(remote.location(), name, dead, who),
        }
    }

    /// Whether a failure to write is always one for everybody, so that nobody can take a lease meanwhile (S2).
    pub fn fails_for_everyone(&self) -> bool {
        match self {
            Self::Local(engine) => engine.fails_for_everyone(),
            Self::Remote(_) => false,
        }
    }

    /// What this process has that would be the leader.
    ///
    /// # Errors
    /// `Unavailable` when locks cannot be had.
    pub async fn claim_lead(&self) -> Result<Claim> {
        match self {
            Self::Local(engine) => engine.claim_lead().await,
            Self::Remote(_) => Ok(Claim::Taken),
        }
    }

    /// Looks whether what is stored contradicts itself.
    ///
    /// # Errors
    /// `Unavailable` when it cannot be read.
    pub async fn check(&self) -> Result<Vec<Finding>> {
        match self {
            Self::Local(engine) => engine.check().await,
            Self::Remote(_) => Err(needs_store("a check")),
        }
    }

    /// Copies the store to a new file, checks the copy, and gives what is in it.
    ///
    /// # Errors
    /// `Conflict` when the file exists, `Unavailable` when it cannot be written.
    pub async fn backup(&self, to: PathBuf) -> Result<Vec<Counted>> {
        match self {
            Self::Local(engine) => engine.backup(to).await,
            Self::Remote(_) => Err(needs_store("a backup")),
        }
    }

    /// Keeps some room for a full disk, or gives it away; says whether it is kept, or was.
    ///
    /// # Errors
    /// `Unavailable` when it cannot be written.
    pub async fn ballast(&self, keep: bool) -> Result<bool> {
        match self {
            Self::Local(engine) => engine.ballast(keep).await,
            Self::Remote(_) => Ok(false),
        }
    }

    /// Whether each commit reaches the disk before it is acknowledged; none where only a server knows.
    ///
    /// # Errors
    /// `Unavailable` when it cannot be read.
    pub async fn durable(&self) -> Result<Option<bool>> {
        match self {
            Self::Local(engine) => engine.durable().await,
            Self::Remote(_) => Ok(None),
        }
    }

    /// Who keeps everybody else from writing; takes some seconds to say so.
    ///
    /// # Errors
    /// `Unavailable` when it cannot be read.
    pub async fn holder(&self) -> Result<Option<Holder>> {
        match self {
            Self::Local(engine) => engine.holder().await,
            Self::Remote(_) => Ok(None), // told where the store is
        }
    }

    /// Gives free space back to the file system.
    ///
    /// # Errors
    /// `Unavailable` when the store cannot be written.
    pub async fn shrink(&self) -> Result<()> {
        match self {
            Self::Local(engine) => engine.shrink().await,
            Self::Remote(_) => Ok(()),
        }
    }

    /// Looks whether what others open under the name of the store is still what this process has open.
    ///
    /// # Errors
    /// `Unavailable`; lasting where it is not, so that what is written is for nobody.
    pub async fn in_place(&self) -> Result<()> {
        match self {
            Self::Local(engine) => engine.in_place().await,
            Self::Remote(_) => Ok(()), // its coordinator looks
        }
    }

    /// Whether it can be used.
    pub fn outage(&self) -> &Outage {
        match self {
            Self::Local(engine) => engine.outage(),
            Self::Remote(remote) => remote.outage(),
        }
    }

    /// Where it is, for messages.
    pub fn location(&self) -> String {
        match self {
            Self::Local(engine) => engine.location(),
            Self::Remote(remote) => remote.location().to_owned(),
        }
    }
}
