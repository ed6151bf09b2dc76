//! Runs Ops inside transactions of a store: many callers share one commit, and wake each other.
//!
//! One thread writes the queue. It takes what is waiting, runs each Op in a savepoint, commits once
//! and only then answers: an acknowledgement follows the commit by construction (S23).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::error::{Error, Kind, Result};
use crate::mutant::{Mutant, planted};
use crate::ops::{Access, Caller, Op};
use crate::store::{Finding, Listening, Ownership, Store, Topics, Tx, Work, Written};

/// The most Ops that share one commit.
const MAX_BATCH: usize = 256;
/// The most Ops that wait for the writer; more callers wait to hand theirs over.
const MAX_WAITING: usize = 1024;
/// How often an Op of unknown outcome is looked up before the answer is "unknown".
const REREADS: u32 = 5;

/// A store with a writer.
pub struct Engine {
    store: Arc<dyn Store>,
    caller: Arc<Caller>,
    hub: Arc<Hub>,
    writers: Mutex<Writers>,
    ears: Mutex<(Topics, Vec<Listening>)>,
}

#[derive(Default)]
struct Writers {
    queue: Option<mpsc::Sender<Box<dyn Pending>>>,
    output: Option<mpsc::Sender<Box<dyn Pending>>>,
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
        })
    }

    /// Runs an Op, and answers when what it wrote is durable.
    ///
    /// # Errors
    /// What the Op says; `Unknown` when a commit failed and nothing can be found out about it.
    pub async fn call<O: Op>(&self, op: O) -> Result<O::Reply> {
        let (reply, answer) = oneshot::channel();
        let slot =
            Box::new(Slot { op, caller: Arc::clone(&self.caller), mode: Mode::Run, result: None, reply: Some(reply) });
        match O::ACCESS {
            Access::Read => self.read(slot),
            access => {
                let writer = self.writer(access)?;
                writer.send(slot).await.map_err(|_| ended())?;
            }
        }
        answer.await.map_err(|_| ended())?
    }

    fn read<O: Op>(&self, mut slot: Box<Slot<O>>) {
        let store = Arc::clone(&self.store);
        tokio::task::spawn_blocking(move || {
            if let Err(error) = store.read(&mut *slot) {
                slot.result.get_or_insert(Err(error));
            }
            slot.answer();
        });
    }

    fn writer(&self, access: Access) -> Result<mpsc::Sender<Box<dyn Pending>>> {
        let mut writers = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
        let (writer, name) = match access {
            Access::Output => (&mut writers.output, "orx-output"),
            _ => (&mut writers.queue, "orx-writer"),
        };
        if let Some(writer) = writer {
            return Ok(writer.clone());
        }
        let (sender, receiver) = mpsc::channel(MAX_WAITING);
        let thread =
            Writer { store: Arc::clone(&self.store), hub: Arc::clone(&self.hub), output: access == Access::Output };
        std::thread::Builder::new().name(name.into()).spawn(move || thread.run(receiver))?;
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
    pub fn own(&self, name: &str) -> Result<Option<Ownership>> {
        self.store.own(name)
    }

    /// Looks whether what is stored contradicts itself.
    ///
    /// # Errors
    /// `Unavailable` when it cannot be read.
    pub async fn check(&self) -> Result<Vec<Finding>> {
        let store = Arc::clone(&self.store);
        tokio::task::spawn_blocking(move || store.check()).await.map_err(|_| ended())?
    }

    /// Copies the store to a new file, and checks the copy.
    ///
    /// # Errors
    /// `Conflict` when the file exists, `Unavailable` when it cannot be written.
    pub async fn backup(&self, to: PathBuf) -> Result<()> {
        let store = Arc::clone(&self.store);
        tokio::task::spawn_blocking(move || store.backup(&to)).await.map_err(|_| ended())?
    }

    /// Gives free space back to the file system.
    ///
    /// # Errors
    /// `Unavailable` when the store cannot be written.
    pub async fn shrink(&self) -> Result<()> {
        let store = Arc::clone(&self.store);
        tokio::task::spawn_blocking(move || store.shrink()).await.map_err(|_| ended())?
    }

    /// Where the store is, for messages.
    pub fn location(&self) -> String {
        self.store.location()
    }
}

fn ended() -> Error {
    Error::failed("the engine has ended")
}

/// An Op that waits for its transaction, whatever its type.
trait Pending: Work {
    /// Looks up what became of it instead of running it.
    fn look_up(&mut self);
    /// Whether it has run since it was made or told to look up.
    fn has_run(&self) -> bool;
    /// Whether the last run found what it looked for, or a final error.
    fn is_settled(&self) -> bool;
    /// Answers with an error instead.
    fn fail(&mut self, error: Error);
    /// Answers with the result of the last run.
    fn answer(&mut self);
}

enum Mode {
    Run,
    Reread,
}

struct Slot<O: Op> {
    op: O,
    caller: Arc<Caller>,
    mode: Mode,
    result: Option<Result<O::Reply>>,
    reply: Option<oneshot::Sender<Result<O::Reply>>>,
}

impl<O: Op> Work for Slot<O> {
    fn run(&mut self, tx: &mut dyn Tx) -> Result<()> {
        let ran = catch_unwind(AssertUnwindSafe(|| match self.mode {
            Mode::Run => self.op.run(&self.caller, tx),
            Mode::Reread => match self.op.reread(&self.caller, tx) {
                Ok(Some(reply)) => Ok(reply),
                Ok(None) => Err(Error::unavailable(format!("{} was not stored", O::NAME))),
                Err(error) => Err(error),
            },
        }));
        let result = ran.unwrap_or_else(|_| Err(Error::failed(format!("{} hit a bug in orx", O::NAME))));
        // The error stays with the Op; the store needs to know only that there was one.
        let told = result.as_ref().map(|_| ()).map_err(Error::copy);
        self.result = Some(result);
        if planted(Mutant::AckBeforeCommit) {
            self.answer();
        }
        told
    }
}

impl<O: Op> Pending for Slot<O> {
    fn look_up(&mut self) {
        self.mode = Mode::Reread;
        self.result = None;
    }

    fn has_run(&self) -> bool {
        self.result.is_some()
    }

    fn is_settled(&self) -> bool {
        matches!(self.result, Some(Ok(_)))
    }

    fn fail(&mut self, error: Error) {
        self.result = Some(Err(error));
        self.answer();
    }

    fn answer(&mut self) {
        let result = self.result.take().unwrap_or_else(|| Err(ended()));
        if let Some(reply) = self.reply.take() {
            let _ = reply.send(result); // the caller may have gone
        }
    }
}

/// The thread that writes.
struct Writer {
    store: Arc<dyn Store>,
    hub: Arc<Hub>,
    output: bool,
}

impl Writer {
    fn run(&self, mut waiting: mpsc::Receiver<Box<dyn Pending>>) {
        let mut batch = Vec::new();
        while let Some(first) = waiting.blocking_recv() {
            batch.push(first);
            while batch.len() < MAX_BATCH
                && let Ok(next) = waiting.try_recv()
            {
                batch.push(next);
            }
            self.commit(&mut batch);
            batch.clear();
        }
    }

    /// Runs a batch to its end: every Op in it has been answered afterwards.
    fn commit(&self, batch: &mut [Box<dyn Pending>]) {
        match self.write(batch) {
            Written::Committed(topics) => {
                self.tell(topics);
                for slot in batch.iter_mut() {
                    slot.answer();
                }
            }
            Written::Nothing(error) => {
                let began = batch.iter().any(|slot| slot.has_run());
                if began && batch.len() > 1 {
                    // One of them broke the transaction: by itself it hurts nobody else.
                    for slot in batch.iter_mut() {
                        self.commit(std::slice::from_mut(slot));
                    }
                } else {
                    batch.iter_mut().for_each(|slot| slot.fail(error.copy()));
                }
            }
            Written::Unknown(error) => {
                for slot in batch.iter_mut() {
                    self.find_out(slot, &error);
                }
            }
        }
    }

    /// Wakes whoever waits, before the answer: the process may end with the answer, and nobody would be woken.
    fn tell(&self, topics: Topics) {
        if topics != Topics::NONE {
            self.store.poke(topics);
            self.hub.tell(topics);
        }
    }

    fn write(&self, batch: &mut [Box<dyn Pending>]) -> Written {
        let mut works: Vec<&mut dyn Work> = batch.iter_mut().map(|slot| &mut **slot as &mut dyn Work).collect();
        match self.output {
            true => self.store.write_output(&mut works),
            false => self.store.write(&mut works),
        }
    }

    /// After a failed commit: nobody may be told anything before it was read again (DESIGN §4.1).
    fn find_out(&self, slot: &mut Box<dyn Pending>, error: &Error) {
        for pause in 0..REREADS {
            slot.look_up();
            let written = self.write(std::slice::from_mut(slot));
            match written {
                Written::Committed(topics) => {
                    if !slot.is_settled() {
                        slot.fail(Error::unavailable("nothing was stored").source(error.to_string()));
                        return;
                    }
                    self.tell(topics);
                    slot.answer();
                    return;
                }
                _ => std::thread::sleep(Duration::from_millis(20 << pause)),
            }
        }
        slot.fail(
            Error::new(Kind::Unknown, "whether it was stored is unknown")
                .source(error.to_string())
                .hint("look with: orx list"),
        );
    }
}

/// Tells the tasks of this process what changed.
struct Hub(watch::Sender<[u64; 4]>);

impl Hub {
    fn new() -> Self {
        Self(watch::Sender::new([0; 4]))
    }

    fn tell(&self, topics: Topics) {
        self.0.send_modify(|counts| {
            for (bit, count) in counts.iter_mut().enumerate() {
                *count += u64::from(topics.0 >> bit & 1);
            }
        });
    }

    fn subscribe(&self, topics: Topics) -> Subscription {
        let receiver = self.0.subscribe();
        let seen = *receiver.borrow();
        Subscription { receiver, topics, seen }
    }
}

/// Hears of changes.
pub struct Subscription {
    receiver: watch::Receiver<[u64; 4]>,
    topics: Topics,
    seen: [u64; 4],
}

impl Subscription {
    /// Returns when one of the topics changed since the last return, or at `deadline`; gives what changed.
    pub async fn changed(&mut self, deadline: Option<Instant>) -> Topics {
        loop {
            let now = *self.receiver.borrow_and_update();
            let mut changed = 0;
            for (bit, (now, seen)) in now.iter().zip(&self.seen).enumerate() {
                changed |= u8::from(now != seen) << bit;
            }
            self.seen = now;
            let changed = Topics(changed & self.topics.0);
            if changed != Topics::NONE {
                return changed;
            }
            let next = self.receiver.changed();
            match deadline {
                Some(at) => match tokio::time::timeout_at(at, next).await {
                    Ok(Ok(())) => {}
                    _ => return Topics::NONE,
                },
                None => {
                    if next.await.is_err() {
                        return Topics::NONE;
                    }
                }
            }
        }
    }
}
