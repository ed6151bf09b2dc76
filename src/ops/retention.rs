//! For how long finished jobs are kept, and how the leader finds what is older.

use std::collections::HashMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::prune::{MAX_PRUNED, deposed};
use super::{Access, Caller, Op, Scopes};
use crate::error::{Error, Result};
use crate::job::audit::limit_changed;
use crate::job::{Event, EventKind, Number};
use crate::store::{NewEvent, Topics, Tx};
use crate::time::{Span, Timestamp};

/// The name of the setting.
const SETTING: &str = "retention";

/// What is forgotten without being asked for. Dead letters never are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// Jobs that finished longer ago, and what else happened before; none: they stay.
    pub done_older_than: Option<Span>,
    /// While the store uses more bytes, the oldest finished jobs; none: it may grow.
    pub max_size: Option<u64>,
}

impl Retention {
    /// For how long jobs are kept unless something else is said.
    pub const DEFAULT_AGE: Span = Span::from_secs(30 * 24 * 3600);
    /// A shorter age is refused.
    pub const MIN_AGE: Span = Span::from_secs(1);
    /// A smaller size is refused: an empty store with room for its log.
    pub const MIN_SIZE: u64 = 1 << 20;
}

impl Default for Retention {
    fn default() -> Self {
        Self { done_older_than: Some(Self::DEFAULT_AGE), max_size: None }
    }
}

fn read(tx: &mut dyn Tx) -> Result<Retention> {
    let Some(text) = tx.setting(SETTING)? else { return Ok(Retention::default()) };
    serde_json::from_str(&text).map_err(|e| {
        Error::failed("for how long jobs are kept is not understood")
            .source(e)
            .hint("say it again with 'orx db retention'")
    })
}

/// Reads what is forgotten without being asked for.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct GetRetention {}

/// What is forgotten, and how much there is.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Kept {
    /// What is forgotten without being asked for.
    #[serde(flatten)]
    pub retention: Retention,
    /// Bytes that the store uses; none where it cannot tell.
    pub used: Option<i64>,
}

impl Op for GetRetention {
    type Reply = Kept;
    const NAME: &'static str = "get_retention";
    const ACCESS: Access = Access::Read;
    const SCOPES: Scopes = Scopes::READ;
    const SHARED: bool = true;

    fn run(&self, _caller: &Caller, tx: &mut dyn Tx) -> Result<Kept> {
        Ok(Kept { retention: read(tx)?, used: tx.used()? })
    }
}

/// Says what is to be forgotten without being asked for.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SetRetention {
    /// What.
    pub retention: Retention,
}

impl Op for SetRetention {
    type Reply = ();
    const NAME: &'static str = "set_retention";
    const ACCESS: Access = Access::Write;
    const SCOPES: Scopes = Scopes::ADMIN;
    const SHARED: bool = true;

    fn run(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<()> {
        let Retention { done_older_than, max_size } = self.retention;
        if done_older_than.is_some_and(|age| age < Retention::MIN_AGE) {
            return Err(Error::usage(format!("jobs are kept for {} at least", Retention::MIN_AGE)));
        }
        if max_size.is_some_and(|size| size < Retention::MIN_SIZE) {
            return Err(Error::usage("a store needs 1 MiB at least"));
        }
        if max_size.is_some() && tx.used()?.is_none() {
            return Err(Error::usage(
                "this store cannot tell how much it uses: PostgreSQL keeps the room of what is deleted",
            )
            .hint("say for how long jobs are kept instead"));
        }
        let text = serde_json::to_string(&self.retention).map_err(|e| Error::failed("cannot be stored").source(e))?;
        tx.put_setting(SETTING, &text)?;
        tx.append(&[NewEvent {
            actor: Some(&caller.actor),
            data: json!({ "retention": self.retention }),
            ..NewEvent::of(EventKind::PolicyChanged)
        }])?;
        tx.wake(Topics::CONTROL);
        Ok(())
    }

    fn check(&self) -> String {
        "orx db retention".into()
    }

    fn reread(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Option<()>> {
        self.run(caller, tx).map(Some) // once more changes nothing
    }
}

/// Looks at the next [`MAX_PRUNED`] jobs for some that may be forgotten; dead letters may not.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct FindAged {
    /// Above this number.
    pub after: Number,
    /// Finished for at least so long.
    pub older_than: Span,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Aged {
    /// Those that may be forgotten, ascending.
    pub numbers: Vec<Number>,
    /// They finished before this instant.
    pub before: Timestamp,
    /// Where to look next; none: all that follows was stored too late to be old enough.
    pub next: Option<Number>,
}

impl Op for FindAged {
    type Reply = Aged;
    const NAME: &'static str = "find_aged";
    const ACCESS: Access = Access::Read;
    const SCOPES: Scopes = Scopes::ADMIN;
    const SHARED: bool = true;

    fn run(&self, _caller: &Caller, tx: &mut dyn Tx) -> Result<Aged> {
        let before = Timestamp(tx.now().0.saturating_sub(self.older_than.as_millis()));
        let jobs = tx.aged(self.after, before, MAX_PRUNED)?;
        // Numbers follow the clock but for its jumps, so a whole page of young ones is followed by younger ones.
        let young = jobs.iter().all(|(_, stored, _)| *stored >= before);
        let next = jobs.last().map(|(number, ..)| *number).filter(|_| !young && jobs.len() == MAX_PRUNED);
        let numbers = jobs.into_iter().filter(|(_, _, old)| *old).map(|(number, ..)| number).collect();
        Ok(Aged { numbers, before, next })
    }
}

/// Forgets the oldest events that tell of no job that there is, one bounded batch of the trail. Those of jobs go with
/// their jobs.
///
/// It takes them in the order of the trail and stops at the first that is too young, so that the trail never tells of a
/// schedule's instants without its rule. What a named limit was when something happened to a job stays as long as that.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct PruneEvents {
    /// After this place.
    pub after: i64,
    /// Those that happened before this instant.
    pub before: Timestamp,
    /// The leader's epoch; once another leads nothing is forgotten.
    pub epoch: i64,
}

impl Op for PruneEvents {
    /// Where to look next, if anywhere.
    type Reply = Option<i64>;
    const NAME: &'static str = "prune_events";
    const ACCESS: Access = Access::Write;
    const SCOPES: Scopes = Scopes::ADMIN;
    const SHARED: bool = true;

    fn run(&self, _caller: &Caller, tx: &mut dyn Tx) -> Result<Option<i64>> {
        if deposed(tx, Some(self.epoch))? {
            return Ok(None);
        }
        let events = tx.events(self.after, MAX_PRUNED)?;
        let looked = events.len();
        let old: Vec<_> = events.into_iter().take_while(|event| event.at < self.before).collect();
        let next = old.last().map(|event| event.seq).filter(|_| old.len() == looked && looked == MAX_PRUNED);
        let seqs = forgettable(&old);
        if !seqs.is_empty() {
            tx.drop_events(&seqs)?;
        }
        Ok(next)
    }

    fn reread(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Option<Self::Reply>> {
        self.run(caller, tx).map(Some) // once more removes nothing else
    }
}

/// Those of `events` without which an audit of the others finds the same.
fn forgettable(events: &[Event]) -> Vec<i64> {
    let mut seqs = Vec::new();
    // The last change of each named limit, while nothing that stays came after it.
    let mut limits = HashMap::new();
    for event in events {
        // Who comes too late is told of even where the job is no more.
        if event.number.is_some() && event.job_id.is_some() {
            limits.clear();
        } else if let Some((limit, _)) = limit_changed(event) {
            seqs.extend(limits.insert(limit, event.seq));
        } else {
            seqs.push(event.seq);
        }
    }
    seqs
}
