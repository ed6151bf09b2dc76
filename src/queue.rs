//! The front door: every command, worker and route calls Ops through a [`Queue`].

use std::path::PathBuf;
use std::sync::Arc;

use tokio::time::Instant;

use crate::engine::{Engine, Subscription};
use crate::error::Result;
use crate::ops::{Caller, Op};
use crate::store::{self, Claim, Finding, Location, Ownership, Topics};
use crate::time::Clock;

/// A queue, wherever it is.
#[derive(Clone)]
pub enum Queue {
    /// In a store that this process opened.
    Local(Arc<Engine>),
}

impl Queue {
    /// Opens the queue at `location`, making it where it does not exist.
    ///
    /// # Errors
    /// `Unavailable` when the store cannot be used.
    pub fn open(location: &Location, caller: Caller, clock: Arc<dyn Clock>) -> Result<Self> {
        Ok(Self::Local(Engine::new(store::open(location, clock)?, caller)))
    }

    /// Runs an Op, and answers when what it wrote is durable.
    ///
    /// # Errors
    /// What the Op says, or that the store cannot be used.
    pub async fn call<O: Op>(&self, op: O) -> Result<O::Reply> {
        match self {
            Self::Local(engine) => engine.call(op).await,
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

    /// Hears of changes from now on.
    ///
    /// # Errors
    /// `Unavailable` when it cannot listen.
    pub fn subscribe(&self, topics: Topics) -> Result<Subscription> {
        match self {
            Self::Local(engine) => engine.subscribe(topics),
        }
    }

    /// Tries to own `name` on this machine until the value is dropped or the process ends.
    ///
    /// # Errors
    /// `Unavailable` when locks cannot be had.
    pub fn own(&self, name: &str) -> Result<Option<Ownership>> {
        match self {
            Self::Local(engine) => engine.own(name),
        }
    }

    /// Whether a failure to write is always one for everybody, so that nobody can take a lease meanwhile (S2).
    pub fn fails_for_everyone(&self) -> bool {
        match self {
            Self::Local(engine) => engine.fails_for_everyone(),
        }
    }

    /// What this process has that would be the leader.
    ///
    /// # Errors
    /// `Unavailable` when locks cannot be had.
    pub async fn claim_lead(&self) -> Result<Claim> {
        match self {
            Self::Local(engine) => engine.claim_lead().await,
        }
    }

    /// Looks whether what is stored contradicts itself.
    ///
    /// # Errors
    /// `Unavailable` when it cannot be read.
    pub async fn check(&self) -> Result<Vec<Finding>> {
        match self {
            Self::Local(engine) => engine.check().await,
        }
    }

    /// Copies the store to a new file, and checks the copy.
    ///
    /// # Errors
    /// `Conflict` when the file exists, `Unavailable` when it cannot be written.
    pub async fn backup(&self, to: PathBuf) -> Result<()> {
        match self {
            Self::Local(engine) => engine.backup(to).await,
        }
    }

    /// Keeps some room for a full disk, or gives it away; says whether it is kept, or was.
    ///
    /// # Errors
    /// `Unavailable` when it cannot be written.
    pub async fn ballast(&self, keep: bool) -> Result<bool> {
        match self {
            Self::Local(engine) => engine.ballast(keep).await,
        }
    }

    /// Gives free space back to the file system.
    ///
    /// # Errors
    /// `Unavailable` when the store cannot be written.
    pub async fn shrink(&self) -> Result<()> {
        match self {
            Self::Local(engine) => engine.shrink().await,
        }
    }

    /// Where it is, for messages.
    pub fn location(&self) -> String {
        match self {
            Self::Local(engine) => engine.location(),
        }
    }
}
