//! Runs Ops inside transactions of a store: many callers share one commit, and wake each other.
//!
//! Each store says how it wants to be written: SQLite by one thread that runs what is waiting in savepoints of one
//! transaction, PostgreSQL by a few side by side.

mod writer;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::oneshot;

use self::writer::{Pending, Slot, Write, Writer};
use crate::error::{Error, Result};
use crate::hub::{Hub, Subscription};
use crate::job::{WorkerId, WorkerKey};
use crate::ops::exposition::{Histogram, Timings};
use crate::ops::{Access, Caller, Op};
use crate::outage::Outage;
use crate::store::restore::Counted;
use crate::store::{Claim, Finding, Holder, Listening, Ownership, Store, Topics};

/// The most Ops that wait for the writer; more callers wait to hand theirs over.
const MAX_WAITING: usize = 1024;

/// Whether an Op may have been run before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Try {
    /// It was not.
    First,
    /// The answer to an earlier try got lost: if that one was stored, its answer is given again.
    Again,
}

/// A store with a writer.
pub struct Engine {
    store: Arc<dyn Store>,
    caller: Arc<Caller>,
    hub: Arc<Hub>,
    writers: Mutex<Writers>,
    ears: Mutex<(Topics, Vec<Listening>)>,
    timings: Timings,
    outage: Outage,
}

#[derive(Default)]
struct Writers {
    queue: Option<async_channel::Sender<Box<dyn Pending>>>,
    renewals: Option<async_channel::Sender<Box<dyn Pending>>>,
    output: Option<async_channel::Sender<Box<dyn Pending>>>,
}

impl Engine {
    /// An engine on `store`, for calls by `caller`. Its threads start with the first write.
    pub fn new(store: Arc<dyn Store>, caller: Caller) -> Arc<Self> {
        Arc::new(Self {
            store,
            caller: Arc::new(caller),
            hub: Arc::new(Hub::new()),
            writers: Mutex::default(),
            ears: Mutex::new((Topics::NONE, Vec::new())),
            timings: Timings::default(),
            outage: Outage::default(),
        })
    }

    /// Who calls where nobody else does.
    pub fn caller(&self) -> &Arc<Caller> {
        &self.caller
    }

    /// Runs an Op, and answers when what it wrote is durable.
    ///
    /// # Errors
    /// What the Op says; `Unknown` when a commit failed and nothing can be found out about it.
    pub async fn call<O: Op>(&self, op: O) -> Result<O::Reply> {
        self.call_as(Arc::clone(&self.caller), op, Try::First).await
    }

    /// Runs an Op for somebody else.
    ///
    /// # Errors
    /// As [`Engine::call`].
    pub async fn call_as<O: Op>(&self, caller: Arc<Caller>, mut op: O, attempt: Try) -> Result<O::Reply> {
        let begun = Instant::now();
        op.bind(&caller);
        let (reply, answer) = oneshot::channel();
        self.begin(O::ACCESS, Box::new(Slot::new(op, caller, attempt, reply))).await?;
        let answer = answer.await.map_err(|_| ended())?;
        self.timings.add(O::NAME, begun.elapsed());
        self.outage.note(O::ACCESS, &answer);
        answer
    }

    /// How long calls took, by the name of the Op, from the call to its answer.
    pub fn timings(&self) -> BTreeMap<&'static str, Histogram> {
        self.timings.all()
    }

    /// Whether the store can be used.
    pub fn outage(&self) -> &Outage {
        &self.outage
    }

    /// Hands an Op over to a thread that runs it. Of one type for all Ops: it would be compiled for each of them.
    async fn begin(&self, access: Access, slot: Box<dyn Pending>) -> Result<()> {
        match access {
            Access::Read => {
                self.read(slot);
                Ok(())
            }
            access => self.writer(access)?.send(slot).await.map_err(|_| ended()),
        }
    }

    fn read(&self, mut slot: Box<dyn Pending>) {
        let store = Arc::clone(&self.store);
        tokio::task::spawn_blocking(move || match store.read(&mut *slot) {
            Err(error) if !slot.has_run() => slot.fail(error),
            _ => slot.answer(),
        });
    }

    fn writer(&self, access: Access) -> Result<async_channel::Sender<Box<dyn Pending>>> {
        let mut writers = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = self.store.writers();
        let (writer, name, count, write): (_, _, _, Write) = match access {
            Access::Output => (&mut writers.output, "orx-output", 1, |store, batch| store.write_output(batch)),
            Access::Renewal if wanted.renewals > 0 => {
                (&mut writers.renewals, "orx-renewals", wanted.renewals, |store, batch| store.write_renewals(batch))
            }
            _ => (&mut writers.queue, "orx-writer", wanted.count, |store, batch| store.write(batch)),
        };
        if let Some(writer) = writer {
            return Ok(writer.clone());
        }
        let (sender, receiver) = async_channel::bounded(MAX_WAITING);
        for _ in 0..count {
            let (store, hub) = (Arc::clone(&self.store), Arc::clone(&self.hub));
            let (thread, waiting) = (Writer::new(store, hub, write, wanted.batch), receiver.clone());
            std::thread::Builder::new().name(name.into()).spawn(move || thread.run(&waiting))?;
        }
        *writer = Some(sender.clone());
        Ok(sender)
    }

    /// Hears of changes to `topics` from now on, by this process and others.
    ///
    /// # Errors
    /// `Unavailable` when it cannot listen beside the store.
    pub fn subscribe(&self, topics: Topics) -> Result<Subscription> {
        let mut ears = self.ears.lock().unwrap_or_else(PoisonError::into_inner);
        let missing = Topics(topics.0 & !ears.0.0);
        if missing != Topics::NONE {
            let hub = Arc::clone(&self.hub);
            ears.1.push(self.store.listen(missing, Box::new(move |t| hub.tell(t)))?);
            ears.0 = ears.0 | missing;
        }
        Ok(self.hub.subscribe(topics))
    }

    /// Tries to own `name` on this machine.
    ///
    /// # Errors
    /// `Unavailable` when locks cannot be had.
    pub fn own(&self, name: &str, who: &WorkerKey) -> Result<Option<Ownership>> {
        self.store.own(name, who)
    }

    /// Tries to own `name` in the place of `dead`; `None` unless the lock itself shows that this one is dead.
    ///
    /// # Errors
    /// `Unavailable` when locks cannot be had.
    pub fn succeed(&self, name: &str, dead: WorkerId, who: &WorkerKey) -> Result<Option<Ownership>> {
        self.store.succeed(name, dead, who)
    }

    /// Whether a failure to write is always one for everybody.
    pub fn fails_for_everyone(&self) -> bool {
        self.store.fails_for_everyone()
    }

    /// What this process has that would be the leader.
    ///
    /// # Errors
    /// `Unavailable` when locks cannot be had.
    pub async fn claim_lead(&self) -> Result<Claim> {
        let store = Arc::clone(&self.store);
        tokio::task::spawn_blocking(move || store.claim_lead()).await.map_err(|_| ended())?
    }

    /// Looks whether what is stored contradicts itself.
    ///
    /// # Errors
    /// `Unavailable` when it cannot be read.
    pub async fn check(&self) -> Result<Vec<Finding>> {
        let store = Arc::clone(&self.store);
        tokio::task::spawn_blocking(move || store.check()).await.map_err(|_| ended())?
    }

    /// Copies the store to a new file, checks the copy, and gives what is in it.
    ///
    /// # Errors
    /// `Conflict` when the file exists, `Unavailable` when it cannot be written.
    pub async fn backup(&self, to: PathBuf) -> Result<Vec<Counted>> {
        let store = Arc::clone(&self.store);
        tokio::task::spawn_blocking(move || store.backup(&to)).await.map_err(|_| ended())?
    }

    /// Keeps some room for a full disk, or gives it away; says whether it is kept, or was.
    ///
    /// # Errors
    /// `Unavailable` when it cannot be written.
    pub async fn ballast(&self, keep: bool) -> Result<bool> {
        let store = Arc::clone(&self.store);
        tokio::task::spawn_blocking(move || store.ballast(keep)).await.map_err(|_| ended())?
    }

    /// Whether each commit reaches the disk before it is acknowledged; none where only a server knows.
    ///
    /// # Errors
    /// `Unavailable` when it cannot be read.
    pub async fn durable(&self) -> Result<Option<bool>> {
        let store = Arc::clone(&self.store);
        tokio::task::spawn_blocking(move || store.durable()).await.map_err(|_| ended())?
    }

    /// Who keeps everybody else from writing; takes some seconds to say so.
    ///
    /// # Errors
    /// `Unavailable` when the store cannot be read.
    pub async fn holder(&self) -> Result<Option<Holder>> {
        let store = Arc::clone(&self.store);
        tokio::task::spawn_blocking(move || store.holder()).await.map_err(|_| ended())?
    }

    /// Gives free space back to the file system.
    ///
    /// # Errors
    /// `Unavailable` when the store cannot be written.
    pub async fn shrink(&self) -> Result<()> {
        let store = Arc::clone(&self.store);
        tokio::task::spawn_blocking(move || store.shrink()).await.map_err(|_| ended())?
    }

    /// Looks whether what others open under the name of the store is still what this process has open.
    ///
    /// # Errors
    /// `Unavailable`; lasting where it is not.
    pub async fn in_place(&self) -> Result<()> {
        let store = Arc::clone(&self.store);
        tokio::task::spawn_blocking(move || store.in_place()).await.map_err(|_| ended())?
    }

    /// Where the store is, for messages.
    pub fn location(&self) -> String {
        self.store.location()
    }
}

pub(super) fn ended() -> Error {
    Error::failed("the engine has ended")
}
