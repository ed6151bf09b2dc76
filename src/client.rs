//! The client library: everything that orx can do, from a program of yours.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::job::output::Stream;
use crate::job::{Captured, Job, JobId, JobSpec, Number, Origin, Submission};
use crate::ops::cancel::{Cancel, CancelReply};
use crate::ops::enqueue::{Enqueue, Enqueued, MAX_BATCH};
use crate::ops::jobs::GetJobs;
use crate::ops::output::ReadOutput;
use crate::ops::{Caller, Op};
use crate::queue::Queue;
use crate::store::{CancelRequest, Location, Topics};
use crate::time::{Clock as _, SystemClock};

/// A queue to submit jobs to and to look at, behind a coordinator or in a store that this program opens.
///
/// Every use case of orx is an [`Op`], and [`Client::call`] runs any of them; the other methods are the common ones, with the
/// types filled in. A clone talks to the same queue. It needs a tokio runtime with time and I/O enabled.
///
/// After a lost answer a call is sent again under the same id, so nothing is done twice; what could not be found out is an
/// error of the kind [`Unknown`](crate::error::Kind::Unknown). Give a job an idempotency key where your program itself may
/// ask twice.
///
/// At a coordinator:
///
/// ```no_run
/// use orx::job::JobSpec;
///
/// # async fn example() -> orx::error::Result<()> {
/// let orx = orx::Client::connect("http://127.0.0.1:7117", std::env::var("ORX_TOKEN").ok())?;
/// let job = orx.submit(JobSpec {
///     handler: Some("report".into()),
///     payload: Some(serde_json::json!({ "month": "2026-10" }).into()),
///     idempotency_key: Some("report-2026-10".into()),
///     ..JobSpec::default()
/// });
/// println!("job {}", job.await?.number);
/// # Ok(())
/// # }
/// ```
///
/// In a store, with nothing else running (this one is gone with the client):
///
/// ```
/// use orx::job::{JobSpec, State};
/// use std::time::Duration;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// let orx = orx::Client::open("memory:")?;
/// let spec = JobSpec { command: Some(vec!["make".into(), "test".into()]), ..JobSpec::default() };
/// let stored = orx.submit(spec).await?;
/// assert_eq!(stored.state, State::Pending);
///
/// orx.cancel(stored.number, Some("only an example")).await?;
/// let job = orx.wait(stored.number, Duration::from_secs(10)).await?;
/// assert_eq!(job.state, State::Cancelled);
///
/// // Any other use case is a value too.
/// use orx::ops::jobs::ListJobs;
/// let page = orx.call(ListJobs { limit: 10, ..ListJobs::default() }).await?;
/// assert_eq!(page.jobs.len(), 1);
/// # Ok::<_, orx::error::Error>(())
/// # })?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client {
    queue: Queue,
}

impl Client {
    /// The queue of the coordinator at `url`, called with `token`. Nothing is sent yet.
    ///
    /// # Errors
    /// `Usage` when the URL or token cannot be one.
    pub fn connect(url: &str, token: Option<String>) -> Result<Self> {
        Ok(Self { queue: Queue::connect(url, token)? })
    }

    /// The queue in a store: a path, `sqlite:///PATH`, `memory:` or `postgres://…`; it is made where it does not exist.
    ///
    /// # Errors
    /// `Usage` for a coordinator's URL, `Unavailable` when the store cannot be used.
    pub fn open(store: &str) -> Result<Self> {
        match store.parse()? {
            Location::Coordinator(_) => {
                Err(Error::usage("that is a coordinator's URL").hint("use Client::connect, with a token"))
            }
            place => Ok(Self { queue: Queue::open(&place, Caller::local("client"), Arc::new(SystemClock))? }),
        }
    }

    /// The queue as the rest of this crate knows it.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Runs any use case; the answer to a write is there when what it wrote is durable.
    ///
    /// # Errors
    /// What the Op says, or that the queue cannot be reached.
    pub async fn call<O: Op>(&self, op: O) -> Result<O::Reply> {
        self.queue.call(op).await
    }

    /// Stores a job. It gets the environment and directory that `spec` gives it, and otherwise its worker's.
    ///
    /// # Errors
    /// `Usage` when the job makes no sense, `Conflict` when its name is taken, `Limit` when there are too many.
    pub async fn submit(&self, spec: JobSpec) -> Result<Enqueued> {
        let stored = self.submit_all(vec![spec]).await?.pop();
        stored.ok_or_else(|| Error::failed("the answer names no job"))
    }

    /// Stores jobs in one transaction: all of them, in this order, or none.
    ///
    /// # Errors
    /// As [`Client::submit`]; also `Usage` for more than 10,000 at once.
    pub async fn submit_all(&self, specs: Vec<JobSpec>) -> Result<Vec<Enqueued>> {
        if specs.len() > MAX_BATCH {
            return Err(Error::usage(format!("more than {MAX_BATCH} jobs at once")));
        }
        let captured = Arc::new(Captured::default());
        let (now, mut jobs) = (SystemClock.now(), Vec::with_capacity(specs.len()));
        for spec in specs {
            let mut chance = [0; 10];
            chance.copy_from_slice(&uuid::Uuid::new_v4().as_bytes()[..10]);
            let id = JobId::new(now, chance);
            jobs.push(Submission { id, spec, captured: Arc::clone(&captured), origin: Origin::default(), line: None });
        }
        self.call(Enqueue { jobs }).await
    }

    /// All about a job, its attempts included.
    ///
    /// # Errors
    /// `NotFound` when there is none of this number.
    pub async fn job(&self, number: Number) -> Result<Job> {
        one(number, self.call(look(number)).await?)
    }

    /// Waits until a job has ended, for at most `limit`, and gives it as it is then, ended or not.
    ///
    /// # Errors
    /// `NotFound` when there is none of this number.
    pub async fn wait(&self, number: Number, limit: Duration) -> Result<Job> {
        let ended = |jobs: &Vec<Job>| jobs.iter().all(|job| job.state.is_terminal());
        let deadline = Some(Instant::now() + limit);
        one(number, self.queue.call_until(look(number), Topics::JOBS, deadline, ended).await?)
    }

    /// What the last attempt of a job wrote so far to one of its streams; of output over the cap the middle is missing, and
    /// of a lost attempt perhaps the end.
    ///
    /// # Errors
    /// `NotFound` when there is no such job.
    pub async fn output(&self, number: Number, stream: Stream) -> Result<Vec<u8>> {
        let (mut bytes, mut read) = (Vec::new(), ReadOutput { number, attempt: None, after: None });
        loop {
            let reply = self.call(read.clone()).await?;
            let Some(last) = reply.chunks.last() else { return Ok(bytes) };
            // The job may start again meanwhile: what follows belongs to this attempt.
            (read.attempt, read.after) = (Some(reply.attempt), Some(last.seq));
            bytes.extend(reply.chunks.iter().filter(|chunk| chunk.stream == stream).flat_map(|chunk| &chunk.bytes));
        }
    }

    /// Ends a job: at once where it waits, by asking its worker where it runs.
    ///
    /// # Errors
    /// `NotFound` when there is no such job.
    pub async fn cancel(&self, number: Number, reason: Option<&str>) -> Result<CancelReply> {
        let (numbers, reason) = (vec![number], reason.map(str::to_owned));
        let replies = self.call(Cancel { numbers, reason, how: CancelRequest::default() }).await?;
        replies.into_iter().next().ok_or_else(|| nothing(number))
    }
}

fn look(number: Number) -> GetJobs {
    GetJobs { numbers: vec![number], detail: true }
}

fn one(number: Number, jobs: Vec<Job>) -> Result<Job> {
    jobs.into_iter().next().ok_or_else(|| nothing(number))
}

fn nothing(number: Number) -> Error {
    Error::not_found(format!("no job {number}"))
}
