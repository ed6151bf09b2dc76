//! From the words that name jobs to their numbers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::transition::no_job;
use super::{Access, Caller, Op, Scopes};
use crate::error::{Error, Result};
use crate::job::many::at_most;
use crate::job::{JobId, Number, Selector, State};
use crate::store::{Filter, Tx};

/// Finds the jobs that `selectors` name, in the order named, each once.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Select {
    /// The words of the command line.
    #[serde(deserialize_with = "at_most::<MAX_SELECTED, _, _>")]
    pub selectors: Vec<Selector>,
    /// All that match, instead of naming them.
    pub all: Option<Filter>,
}

/// A job that was named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Selected {
    /// Its number.
    pub number: Number,
    /// Its id.
    pub id: JobId,
    /// Its state at that moment.
    pub state: State,
}

/// The most jobs one call may name.
pub const MAX_SELECTED: usize = 100_000;

impl Op for Select {
    type Reply = Vec<Selected>;
    const NAME: &'static str = "select";
    const ACCESS: Access = Access::Read;
    const SCOPES: Scopes = Scopes::READ;

    fn run(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Self::Reply> {
        let mut numbers = Vec::new();
        let mut seen = std::collections::HashSet::new();
        for selector in &self.selectors {
            let found = resolve(caller, tx, selector)?;
            numbers.extend(found.into_iter().filter(|n| seen.insert(*n)));
        }
        if let Some(filter) = &self.all {
            let mut filter = filter.clone();
            if caller.tenant.is_some() {
                filter.tenant.clone_from(&caller.tenant);
            }
            let found = tx.list(&filter, None, MAX_SELECTED + 1)?;
            numbers.extend(found.into_iter().filter(|n| seen.insert(*n)));
        }
        check_count(numbers.len())?;
        let jobs = tx.load(&numbers)?.into_iter().filter(|job| caller.sees(&job.tenant));
        Ok(jobs.map(|job| Selected { number: job.number, id: job.id, state: job.life.state }).collect())
    }
}

fn check_count(count: usize) -> Result<()> {
    match count > MAX_SELECTED {
        true => Err(Error::usage(format!("more than {MAX_SELECTED} jobs at once")).hint("name fewer")),
        false => Ok(()),
    }
}

/// The jobs that one word names: at least one, or an error; a prefix names exactly one.
pub(super) fn resolve(caller: &Caller, tx: &mut dyn Tx, selector: &Selector) -> Result<Vec<Number>> {
    let found = find(caller, tx, selector)?;
    check_count(found.len())?;
    if found.is_empty() {
        return Err(match selector {
            Selector::Last => Error::not_found("there is no job yet").hint("'orx enqueue -- CMD' stores one"),
            other => no_job(other),
        });
    }
    if let (Selector::Prefix(prefix), [_, _, ..]) = (selector, found.as_slice()) {
        let some: Vec<_> = found.iter().take(5).map(Number::to_string).collect();
        return Err(Error::usage(format!("{prefix} is the start of {} ids", found.len())).hint(format!(
            "use the number: {}{}",
            some.join(", "),
            if found.len() > 5 { ", …" } else { "" }
        )));
    }
    Ok(found)
}

/// The jobs that one word names and that exist for the caller.
fn find(caller: &Caller, tx: &mut dyn Tx, selector: &Selector) -> Result<Vec<Number>> {
    if caller.tenant.is_none() {
        return tx.find(selector, MAX_SELECTED + 1);
    }
    // Looked for among its own: those of others must not use up the bound.
    let mut mine = Filter { tenant: caller.tenant.clone(), ..Filter::default() };
    let mut newest = |mine: &Filter, before, limit| {
        let mut found = tx.list(mine, before, limit)?;
        found.reverse();
        Ok(found)
    };
    match selector {
        Selector::Last => return newest(&mine, None, 1),
        Selector::Label(key, value) => {
            mine.labels.insert(key.clone(), value.clone());
            return newest(&mine, None, MAX_SELECTED + 1);
        }
        Selector::Range(from, to) => {
            let found: Vec<Number> = newest(&mine, Some(to.saturating_add(1)), MAX_SELECTED + 1)?;
            return Ok(found.into_iter().filter(|number| number >= from).collect());
        }
        Selector::Number(_) | Selector::Id(_) | Selector::Prefix(_) => {}
    }
    let found = tx.find(selector, MAX_SELECTED + 1)?;
    Ok(tx.load(&found)?.into_iter().filter(|job| caller.sees(&job.tenant)).map(|job| job.number).collect())
}
