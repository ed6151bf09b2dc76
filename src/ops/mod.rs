//! Use cases: every one is a value, an [`Op`], that an engine runs inside a transaction.
//!
//! The CLI, the worker and the API build Ops and know nothing else of the store. What must not be
//! here: async, HTTP, which database it is, terminals.

mod admission;
pub mod append_output;
pub mod bounds;
pub mod cancel;
pub mod catalog;
pub mod dead_letters;
pub mod enqueue;
pub mod events;
pub mod exposition;
pub mod heartbeat;
pub mod holdings;
pub mod jobs;
pub mod lead;
pub mod lease;
pub mod metrics;
mod naming;
pub mod nodes;
pub mod output;
pub mod outstanding;
pub mod policies;
mod proof;
pub mod prune;
pub mod quarantine;
pub mod register;
pub mod renew;
pub mod restore;
pub mod results;
pub mod retention;
pub mod retry;
pub mod runs;
pub mod say;
pub mod schedules;
mod scopes;
pub mod select;
pub mod settle;
pub mod sharing;
pub mod status;
pub mod sweep;
mod tenancy;
mod timers;
pub mod tokens;
mod transition;
pub mod turn;
pub mod why;
pub mod workers;

use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

pub use self::scopes::Scopes;
use crate::error::{Error, Kind, Result};
use crate::job::Number;
use crate::job::schemas::Schemas;
use crate::store::Tx;

/// Which transaction an Op needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It writes nothing.
    Read,
    /// It writes the queue.
    Write,
    /// It renews leases, and must not wait for those that write the queue.
    Renewal,
    /// It writes output only, which must not delay the queue (S28).
    Output,
}

/// Who calls.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The name for the audit trail.
    pub actor: String,
    /// The only tenant it may touch; none: all.
    pub tenant: Option<String>,
    /// The token that it showed, where it did.
    pub token: Option<Uuid>,
    /// What it may do.
    pub scopes: Scopes,
    /// What payloads of handlers must look like, as far as this process knows.
    pub schemas: Schemas,
    /// Which jobs it may lease.
    pub takes: Takes,
}

/// Which jobs a caller may lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// Those of all queues.
    All,
    /// Those of queues that are shared with other nodes.
    Shared,
    /// None any more; what it holds it may end.
    Nothing,
}

impl Caller {
    /// Somebody who can open the store's files may do everything.
    pub fn local(actor: impl Into<String>) -> Self {
        let (scopes, schemas, takes) = (Scopes::ALL, Schemas::default(), Takes::All);
        Self { actor: actor.into(), tenant: None, token: None, scopes, schemas, takes }
    }
}

/// A use case as a value.
pub trait Op: Serialize + DeserializeOwned + JsonSchema + Send + Sync + 'static {
    /// What it answers.
    type Reply: Serialize + DeserializeOwned + JsonSchema + Send + 'static;
    /// Its name in routes and logs.
    const NAME: &'static str;
    /// Which transaction it needs.
    const ACCESS: Access;
    /// What the caller's token must hold whatever the body says: looked at before the body is read.
    const SCOPES: Scopes;
    /// It is about what all tenants share, so no caller that is bound to one may.
    const SHARED: bool = false;
    /// How much memory an object in its body may take, in bytes, beyond what its values take.
    const OBJECT: usize = 256;

    /// What the caller's token must hold for this body: [`Op::SCOPES`], and more where the body asks for more.
    fn scopes(&self) -> Scopes {
        Self::SCOPES
    }

    /// Refuses what is wrong whatever is stored; [`Op::run`] does so too. Whoever asks for much is told before it keeps others
    /// from writing.
    ///
    /// # Errors
    /// As [`Op::run`].
    fn vet(&self) -> Result<()> {
        Ok(())
    }

    /// Fills in what follows from who calls.
    fn bind(&mut self, _caller: &Caller) {}

    /// Does it. May be run again after a failure, so it has no effect outside `tx`.
    ///
    /// # Errors
    /// An error leaves no write. A refusal that must be recorded is part of the reply (S23).
    fn run(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Self::Reply>;

    /// The command that shows whether it took effect.
    fn check(&self) -> String {
        "orx list".into()
    }

    /// After a commit of unknown outcome: the reply if it was stored, nothing if it was not.
    ///
    /// # Errors
    /// `Unknown` for an Op that cannot tell.
    fn reread(&self, _caller: &Caller, _tx: &mut dyn Tx) -> Result<Option<Self::Reply>> {
        Err(Error::new(Kind::Unknown, format!("whether {} took effect is unknown", Self::NAME)))
    }
}

/// Runs an Op, and what follows from it for runs.
///
/// # Errors
/// What the Op says.
pub fn perform<O: Op>(op: &O, caller: &Caller, tx: &mut dyn Tx) -> Result<O::Reply> {
    tenancy::check_shared::<O>(caller)?;
    let reply = op.run(caller, tx)?;
    runs::follow(tx)?;
    Ok(reply)
}

/// Looks an Op up after a commit of unknown outcome; some do it by doing it again.
///
/// # Errors
/// What the Op says.
pub fn look_up<O: Op>(op: &O, caller: &Caller, tx: &mut dyn Tx) -> Result<Option<O::Reply>> {
    tenancy::check_shared::<O>(caller)?;
    let reply = op.reread(caller, tx)?;
    runs::follow(tx)?;
    Ok(reply)
}

/// How many jobs a command that is to be typed names.
const MAX_NAMED: usize = 20;

/// The command that shows the state of `jobs`.
fn status_of(jobs: &[Number]) -> String {
    let mut command = "orx status".to_owned();
    for number in jobs.iter().take(MAX_NAMED) {
        let _ = write!(command, " {number}"); // a string takes all
    }
    command
}
