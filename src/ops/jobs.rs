//! Looking at jobs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::select::MAX_SELECTED;
use super::{Access, Caller, Op, Scopes};
use crate::error::Result;
use crate::job::many::at_most;
use crate::job::spec::Until;
use crate::job::{Job, Number, surroundings};
use crate::store::{Filter, Tx};

/// Lists jobs, newest first.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct ListJobs {
    /// Which ones.
    #[serde(default)]
    pub filter: Filter,
    /// Below this number: the `next` of the page before.
    pub before: Option<Number>,
    /// At most so many; at most [`MAX_PAGE`].
    pub limit: usize,
}

/// A page of jobs.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Page {
    /// The jobs.
    pub jobs: Vec<Job>,
    /// Where the next page begins, if there may be one.
    pub next: Option<Number>,
}

/// The most jobs of one page.
pub const MAX_PAGE: usize = 1000;

impl Op for ListJobs {
    type Reply = Page;
    const NAME: &'static str = "list_jobs";
    const ACCESS: Access = Access::Read;
    const SCOPES: Scopes = Scopes::READ;

    fn run(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Page> {
        let limit = self.limit.clamp(1, MAX_PAGE);
        let mut filter = self.filter.clone();
        if caller.tenant.is_some() {
            filter.tenant.clone_from(&caller.tenant);
        }
        let numbers = tx.list(&filter, self.before, limit)?;
        let next = numbers.last().copied().filter(|_| numbers.len() == limit);
        Ok(Page { jobs: views(tx, &numbers)?, next })
    }
}

/// All about some jobs and their attempts; those that do not exist are left out.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct GetJobs {
    /// Their numbers.
    #[serde(deserialize_with = "at_most::<MAX_SELECTED, _, _>")]
    pub numbers: Vec<Number>,
    /// With attempts and edges.
    #[serde(default)]
    pub detail: bool,
}

impl Op for GetJobs {
    type Reply = Vec<Job>;
    const NAME: &'static str = "get_jobs";
    const ACCESS: Access = Access::Read;
    const SCOPES: Scopes = Scopes::READ;

    fn run(&self, caller: &Caller, tx: &mut dyn Tx) -> Result<Vec<Job>> {
        let mut jobs = views(tx, &self.numbers)?;
        if let Some(tenant) = &caller.tenant {
            jobs.retain(|job| job.tenant == *tenant);
        }
        if self.detail {
            let records = tx.load(&self.numbers)?;
            for (job, record) in jobs.iter_mut().filter_map(|job| {
                let record = records.iter().find(|record| record.number == job.number)?;
                Some((job, record))
            }) {
                job.cwd = surroundings::directory(record);
                job.env = Some(surroundings::environment(record));
            }
            for job in &mut jobs {
                job.attempts = Some(tx.attempts(job.number)?);
                // An edge to itself waits for another run.
                let edges = tx.needs(job.number)?.into_iter().filter(|(edge, _)| edge.needs != job.number);
                let edges = edges.map(|(edge, _)| match edge.until {
                    Until::Done => edge.needs.to_string(),
                    Until::Ended => format!("{}:ended", edge.needs),
                });
                job.after = Some(edges.collect());
            }
        }
        Ok(jobs)
    }
}

pub(super) fn views(tx: &mut dyn Tx, numbers: &[Number]) -> Result<Vec<Job>> {
    let records = tx.load(numbers)?;
    let found: Vec<Number> = records.iter().map(|r| r.number).collect();
    let latest = tx.latest(&found)?;
    let jobs = records.into_iter().zip(latest);
    Ok(jobs.map(|(record, (last, said))| Job::new(record, last, said)).collect())
}
