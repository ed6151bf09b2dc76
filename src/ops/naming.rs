//! Names, unique per tenant among unfinished jobs (S12), and idempotency keys (S13).

use serde_json::Value;

use super::enqueue::{Enqueued, existing_reply};
use super::transition::{self, By};
use super::{Caller, Scopes};
use crate::error::{Error, Kind, Result};
use crate::job::spec::{OnConflict, Until};
use crate::job::state::Cancelled;
use crate::job::{EventKind, JobSpec, Number, Record, State};
use crate::mutant::{Mutant, planted};
use crate::store::{CancelRequest, Topics, Tx};

/// Whether a new job can have its name.
pub(super) enum Name {
    Free,
    /// Answer with the job that holds it.
    Answer(Enqueued),
    /// Free, but its holder has to end first.
    After(Number),
}

/// What S12 says of the name of `spec`.
pub(super) fn name_conflict(caller: &Caller, tx: &mut dyn Tx, spec: &JobSpec) -> Result<Name> {
    let Some(name) = &spec.name else { return Ok(Name::Free) };
    let Some(job) = name_holder(tx, spec.tenant(), name)? else { return Ok(Name::Free) };
    let holder = job.number;
    match spec.on_conflict.unwrap_or_default() {
        OnConflict::Reject => {
            let by = if knows(caller, &job) {
                format!(" by job {holder}, which is {}", job.life.state)
            } else {
                String::new()
            };
            Err(Error::conflict(format!("the name {name} is taken{by}"))
                .hint("--on-conflict return gives that job, --on-conflict replace takes its place"))
        }
        OnConflict::Return if knows(caller, &job) => Ok(Name::Answer(existing_reply(job))),
        OnConflict::Return => {
            Err(Error::new(Kind::Denied, format!("the name {name} is taken, and the token may not see by which job"))
                .hint("another token stored that job: to see it needs the scope read"))
        }
        OnConflict::Replace => {
            let by = By { actor: Some(&caller.actor), worker: None };
            let reason = Some("replaced".to_owned());
            let before = predecessor(tx, holder, name)?;
            match job.life.clone().cancel(reason, tx.now())? {
                Cancelled::Ended(life) => {
                    transition::change(tx, &job, &life, EventKind::Cancelled, by, Value::Null)?;
                    Ok(before.map_or(Name::Free, Name::After))
                }
                Cancelled::Requested(_) if !caller.scopes.cover(Scopes::OPERATE) => {
                    Err(Error::new(Kind::Denied, format!("the name {name} is taken by a job that runs"))
                        .hint("to end it needs the scope operate; one that waits is replaced without"))
                }
                Cancelled::Requested(life) => {
                    tx.ask_cancel(holder, &CancelRequest::default())?;
                    transition::change(tx, &job, &life, EventKind::CancelRequested, by, Value::Null)?;
                    tx.wake(Topics::CONTROL);
                    Ok(Name::After(holder))
                }
            }
        }
    }
}

/// The job of the same idempotency key; the same key with another body is a conflict (S13).
pub(super) fn by_key(caller: &Caller, tx: &mut dyn Tx, spec: &JobSpec) -> Result<Option<Enqueued>> {
    let Some(key) = spec.idempotency_key.as_ref().filter(|_| !planted(Mutant::KeyIgnored)) else { return Ok(None) };
    let Some(holder) = tx.key_holder(spec.tenant(), key)? else { return Ok(None) };
    let job = tx.load(&[holder.number])?.pop();
    if holder.fingerprint != spec.fingerprint() {
        let knows = caller.may_look() || job.is_some_and(|job| knows(caller, &job));
        let which = if knows { format!(", {}", holder.number) } else { String::new() };
        return Err(Error::conflict(format!("the idempotency key {key} stands for another job{which}"))
            .hint("use a new key for a new job"));
    }
    if let Some(job) = job {
        return Ok(Some(existing_reply(job)));
    }
    // Pruned, but the key is kept.
    Ok(Some(Enqueued {
        number: holder.number,
        id: holder.id,
        state: holder.ended.unwrap_or(State::Done),
        queue: spec.queue().into(),
        existing: true,
    }))
}

/// Whether the caller may learn of `job` by what it stands in the way of.
pub(super) fn knows(caller: &Caller, job: &Record) -> bool {
    caller.may_look() || caller.token.is_some() && job.origin.by == caller.token
}

/// The unfinished job that owns `name`.
pub(super) fn name_holder(tx: &mut dyn Tx, tenant: &str, name: &str) -> Result<Option<Record>> {
    let Some(holder) = tx.name_holder(tenant, name)? else { return Ok(None) };
    // It may have ended while this waited for it: then the name is free, for nobody else was let near it.
    Ok(tx.load(&[holder])?.pop().filter(|job| !job.life.state.is_terminal()))
}

/// The running job that had `name` before `holder`, which waits for its end: who takes the place waits for it too.
fn predecessor(tx: &mut dyn Tx, holder: Number, name: &str) -> Result<Option<Number>> {
    let needs = tx.needs(holder)?.into_iter();
    let awaited = needs.filter(|(e, s)| e.until == Until::Ended && !e.satisfied && *s == Some(State::Running));
    let awaited: Vec<Number> = awaited.map(|(edge, _)| edge.needs).collect();
    Ok(tx.load(&awaited)?.into_iter().find(|job| job.spec.name.as_deref() == Some(name)).map(|job| job.number))
}
