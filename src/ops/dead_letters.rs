//! The dead letters: looking at them, and throwing them away. `retry` runs them again.

use std::collections::HashMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::jobs::views;
use super::select::MAX_SELECTED;
use super::tenancy::{check_jobs, load_mine};
use super::{Access, Caller, Op, Scopes};
use crate::error::{Error, Kind, Result};
use crate::job::many::at_most;
use crate::job::{EventKind, Job, Number};
use crate::store::{Letter, LetterFilter, LetterGroup, NewEvent, Topics, Tx};
use crate::time::Timestamp;

/// Lists dead letters, of the newest jobs first.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct ListLetters {
    /// Which ones.
    #[serde(default)]
    pub filter: LetterFilter,
    /// Of jobs below this number.
    pub before: Option<Number>,
    /// At most so many; at most [`super::jobs::MAX_PAGE`].
    pub limit: usize,
}

/// A dead letter as users see it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)] // the names are those of docs/reference/json.md
pub struct DeadLetter {
    pub job: Job,
    pub reason: String,
    pub fingerprint: String,
    pub error: Option<String>,
    pub died_at: Timestamp,
}

impl Op for ListLetters {
    type Reply = Vec<DeadLetter>;
    const NAME: &'static str = "list_letters";
    const ACCESS: Access = Access::Read;
    const SCOPES: Scopes = Scopes::READ;

    fn run(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Self::Reply> {
        let limit = self.limit.clamp(1, super::jobs::MAX_PAGE);
        let letters = tx.letters(&of_caller(&self.filter, caller), self.before, limit)?;
        let numbers: Vec<Number> = letters.iter().map(|l| l.number).collect();
        let mut jobs: HashMap<Number, Job> = views(tx, &numbers)?.into_iter().map(|job| (job.number, job)).collect();
        let with_jobs = letters.into_iter().filter_map(|l| {
            let job = jobs.remove(&l.number)?;
            let Letter { reason, fingerprint, error, died_at, .. } = l;
            Some(DeadLetter { job, reason, fingerprint, error, died_at })
        });
        Ok(with_jobs.collect())
    }
}

/// Counts dead letters that are alike, the largest group first.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct GroupLetters {
    /// Which ones.
    #[serde(default)]
    pub filter: LetterFilter,
}

impl Op for GroupLetters {
    type Reply = Vec<LetterGroup>;
    const NAME: &'static str = "group_letters";
    const ACCESS: Access = Access::Read;
    const SCOPES: Scopes = Scopes::READ;

    fn run(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Self::Reply> {
        tx.letter_groups(&of_caller(&self.filter, caller), super::jobs::MAX_PAGE)
    }
}

fn of_caller(filter: &LetterFilter, caller: &Caller) -> LetterFilter {
    let mut filter = filter.clone();
    if caller.tenant.is_some() {
        filter.tenant.clone_from(&caller.tenant);
    }
    filter
}

/// Takes dead letters away for good; their jobs stay failed, with their history.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct DiscardLetters {
    /// The jobs.
    #[serde(deserialize_with = "at_most::<MAX_SELECTED, _, _>")]
    pub numbers: Vec<Number>,
}

impl Op for DiscardLetters {
    type Reply = usize;
    const NAME: &'static str = "discard_letters";
    const ACCESS: Access = Access::Write;
    const SCOPES: Scopes = Scopes::OPERATE;

    fn run(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<usize> {
        for number in &self.numbers {
            let job = load_mine(caller, tx, *number)?;
            if tx.unbury(&[*number])? == 0 {
                let message = format!("job {number} has no dead letter: it is {}", job.life.state);
                return Err(Error::new(Kind::Conflict, message).hint("'orx dlq list' shows them"));
            }
            tx.append(&[NewEvent {
                number: Some(*number),
                actor: Some(&caller.actor),
                ..NewEvent::of(EventKind::Discarded)
            }])?;
        }
        tx.note_told(&self.numbers)?;
        tx.wake(Topics::JOBS);
        Ok(self.numbers.len())
    }

    fn check(&self) -> String {
        "orx dlq list".into()
    }

    fn reread(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Option<usize>> {
        check_jobs(caller, tx, &self.numbers)?;
        for number in &self.numbers {
            let next = tx.letters(&LetterFilter::default(), Some(number + 1), 1)?;
            if next.iter().any(|letter| letter.number == *number) {
                return Ok(None); // all are discarded or none
            }
        }
        Ok(Some(self.numbers.len()))
    }
}
