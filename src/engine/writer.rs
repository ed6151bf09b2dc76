//! The threads that write: an acknowledgement follows the commit by construction (S23).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::{Try, ended};
use crate::error::{Error, Kind, Result};
use crate::hub::Hub;
use crate::mutant::{Mutant, planted};
use crate::ops::{self, Access, Caller, Op};
use crate::store::{Store, Topics, Tx, Work, Written};

/// How often looking up Ops of unknown outcome may fail before the answer is "unknown".
const REREADS: u32 = 5;

/// The answer to an Op of which nothing is stored.
fn not_stored(error: &Error) -> Error {
    error.copy().context("not stored")
}

/// An Op that waits for its transaction, whatever its type.
pub(super) trait Pending: Work {
    /// Looks up what became of it instead of running it.
    fn look_up(&mut self);
    /// Whether it has run since it was made or told to look up.
    fn has_run(&self) -> bool;
    /// Answers with what a look-up found, after the commit that failed with `error`.
    fn answer_found(&mut self, error: &Error);
    /// Answers that nobody can say whether it was stored.
    fn answer_unknown(&mut self, error: &Error);
    /// Answers with an error instead.
    fn fail(&mut self, error: Error);
    /// Answers with the result of the last run.
    fn answer(&mut self);
}

enum Mode {
    Run,
    Reread,
    /// Reread, and it was not there.
    Absent,
}

/// An Op with its place for the answer.
pub(super) struct Slot<O: Op> {
    op: O,
    caller: Arc<Caller>,
    attempt: Try,
    mode: Mode,
    result: Option<Result<O::Reply>>,
    reply: Option<oneshot::Sender<Result<O::Reply>>>,
}

impl<O: Op> Slot<O> {
    pub(super) fn new(op: O, caller: Arc<Caller>, attempt: Try, reply: oneshot::Sender<Result<O::Reply>>) -> Self {
        Self { op, caller, attempt, mode: Mode::Run, result: None, reply: Some(reply) }
    }

    fn perform(&self, tx: &mut dyn Tx) -> Result<O::Reply> {
        if self.attempt == Try::Again
            && O::ACCESS != Access::Read
            && let Some(reply) = ops::look_up(&self.op, &self.caller, tx)?
        {
            return Ok(reply);
        }
        ops::perform(&self.op, &self.caller, tx)
    }
}

impl<O: Op> Work for Slot<O> {
    fn run(&mut self, tx: &mut dyn Tx) -> Result<()> {
        let ran = catch_unwind(AssertUnwindSafe(|| match self.mode {
            Mode::Run => self.perform(tx),
            Mode::Reread | Mode::Absent => match ops::look_up(&self.op, &self.caller, tx) {
                Ok(Some(reply)) => Ok(reply),
                Ok(None) => {
                    self.mode = Mode::Absent;
                    Err(Error::unavailable("it is not there"))
                }
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

    fn answer_found(&mut self, error: &Error) {
        match &self.result {
            _ if matches!(self.mode, Mode::Absent) => self.fail(not_stored(error)),
            Some(Err(e)) if e.kind() == Kind::Unknown => self.answer_unknown(error),
            _ => self.answer(),
        }
    }

    fn answer_unknown(&mut self, error: &Error) {
        let check = format!("unknown, check with `{}`", self.op.check());
        self.fail(Error::new(Kind::Unknown, check).source(error.to_string()));
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

/// How a thread writes.
pub(super) type Write = fn(&dyn Store, &mut [&mut dyn Work]) -> Written;

/// The thread that writes.
pub(super) struct Writer {
    store: Arc<dyn Store>,
    hub: Arc<Hub>,
    write: Write,
    /// The most Ops that share one commit.
    batch: usize,
}

/// Ops that wait, for whichever writer is free first: each wakes one.
pub(super) type Waiting = async_channel::Receiver<Box<dyn Pending>>;

impl Writer {
    pub(super) fn new(store: Arc<dyn Store>, hub: Arc<Hub>, write: Write, batch: usize) -> Self {
        Self { store, hub, write, batch }
    }

    pub(super) fn run(&self, waiting: &Waiting) {
        let mut batch = Vec::new();
        while self.gather(waiting, &mut batch) {
            self.commit(&mut batch);
            batch.clear();
        }
    }

    /// Waits for an Op and takes what else waits; false: nobody will ask any more.
    fn gather(&self, waiting: &Waiting, batch: &mut Vec<Box<dyn Pending>>) -> bool {
        let Ok(first) = waiting.recv_blocking() else { return false };
        batch.push(first);
        while batch.len() < self.batch
            && let Ok(next) = waiting.try_recv()
        {
            batch.push(next);
        }
        true
    }

    /// Runs a batch to its end: every Op in it has been answered afterwards.
    fn commit(&self, batch: &mut [Box<dyn Pending>]) {
        match self.write(batch) {
            Written::Committed(topics) => {
                self.poke(topics);
                for slot in batch.iter_mut() {
                    slot.answer();
                }
                self.tell(topics);
            }
            Written::Refused => batch.iter_mut().for_each(|slot| slot.answer()),
            Written::Nothing(error) => {
                let began = batch.iter().any(|slot| slot.has_run());
                if began && batch.len() > 1 {
                    // One of them broke the transaction: by itself it hurts nobody else.
                    for slot in batch.iter_mut() {
                        self.commit(std::slice::from_mut(slot));
                    }
                } else {
                    batch.iter_mut().for_each(|slot| slot.fail(not_stored(&error)));
                }
            }
            Written::Unknown(error) => self.find_out(batch, &error),
        }
    }

    /// Wakes other processes, before the answer: this one may end with the answer, and nobody would be woken.
    fn poke(&self, topics: Topics) {
        if topics != Topics::NONE {
            self.store.poke(topics);
        }
    }

    /// Wakes tasks of this process, after the answer: whoever waits for that has more to do than they.
    fn tell(&self, topics: Topics) {
        if topics != Topics::NONE {
            self.hub.tell(topics);
        }
    }

    fn write(&self, batch: &mut [Box<dyn Pending>]) -> Written {
        let mut works: Vec<&mut dyn Work> = batch.iter_mut().map(|slot| &mut **slot as &mut dyn Work).collect();
        (self.write)(&*self.store, &mut works)
    }

    /// After a failed commit: nobody may be told anything before it was read again (I1). A store commits the
    /// reading only when the failed commit cannot come true any more.
    fn find_out(&self, batch: &mut [Box<dyn Pending>], error: &Error) {
        let mut failed = 0; // for all of them, so that many do not wait for long
        for slot in batch {
            loop {
                slot.look_up();
                let found = match self.write(std::slice::from_mut(slot)) {
                    Written::Committed(topics) => Some(topics),
                    Written::Refused => Some(Topics::NONE),
                    Written::Nothing(_) | Written::Unknown(_) => None,
                };
                if let Some(topics) = found {
                    self.poke(topics);
                    slot.answer_found(error);
                    self.tell(topics);
                    break;
                }
                if failed == REREADS {
                    slot.answer_unknown(error);
                    break;
                }
                std::thread::sleep(Duration::from_millis(20 << failed));
                failed += 1;
            }
        }
    }
}
