//! `orx bench`

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use clap::Args;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde::Serialize;
use uuid::Uuid;

use super::context::Context;
use super::view::{Text, View};
use super::{OutputFormat, ui};
use crate::error::{Error, Result};
use crate::job::{JobId, JobSpec, Submission};
use crate::ops::Caller;
use crate::ops::enqueue::{Enqueue, MAX_BATCH};
use crate::private;
use crate::queue::Queue;
use crate::store::Location;

/// The most jobs that are stored one by one, and the most that are started one by one.
const MAX_SINGLE: usize = 500;
const MAX_STARTS: usize = 200;
/// How long one job may take to start before something is wrong.
const START_LIMIT: Duration = Duration::from_secs(30);

#[derive(Args)]
#[command(after_help = "\
Examples:
  orx bench
  orx bench --jobs 10000 --slots 4 --json")]
pub(super) struct Bench {
    /// Jobs that are stored and run
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    jobs: u32,

    /// Jobs at once
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=4096))]
    slots: u32,

    /// Make the store in this directory [default: where the store in use is, else the one for temporary files]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,

    /// The same as -o json
    #[arg(long)]
    json: bool,
}

/// What was measured. Milliseconds, and things a second.
#[derive(Serialize)]
struct Figures {
    dir: PathBuf,
    jobs: u32,
    slots: u32,
    /// `PRAGMA synchronous` of the store that was measured.
    synchronous: &'static str,
    enqueue_p50_ms: f64,
    enqueue_p99_ms: f64,
    bulk_enqueue_per_s: f64,
    drain_per_s: f64,
    start_p50_ms: f64,
    start_p99_ms: f64,
}

impl Bench {
    pub(super) async fn run(self, context: &Context) -> Result<ExitCode> {
        let parent = self.dir.clone().unwrap_or_else(|| beside(context));
        let made = private::temp_dir_in(&parent, "orx-bench-");
        let dir =
            made.map_err(|e| Error::usage(format!("cannot make a directory in {}", parent.display())).source(e))?;
        let path = dir.path().join("orx.db");
        let queue = Queue::open(&Location::File(path.clone()), Caller::local("bench"), Arc::clone(&context.clock))?;
        if queue.durable().await? != Some(true) {
            return Err(Error::failed("the store is not durable (PRAGMA synchronous is not FULL)"));
        }
        ui::say(context, &format!("measuring in {}", dir.path().display()));
        // What follows fills the store, so latency comes first: of an idle worker, then of a caller alone.
        let mut starts = starts(&queue, dir.path(), &path).await?;
        let mut enqueues = singles(&queue, (self.jobs as usize).min(MAX_SINGLE)).await?;
        drain(&path, self.slots).await?;
        let bulk_enqueue_per_s = bulk(&queue, self.jobs as usize).await?;
        let took = drain(&path, self.slots).await?;
        let figures = Figures {
            dir: parent,
            jobs: self.jobs,
            slots: self.slots,
            synchronous: "full",
            enqueue_p50_ms: percentile(&mut enqueues, 0.5),
            enqueue_p99_ms: percentile(&mut enqueues, 0.99),
            bulk_enqueue_per_s,
            drain_per_s: f64::from(self.jobs) / took.as_secs_f64(),
            start_p50_ms: percentile(&mut starts, 0.5),
            start_p99_ms: percentile(&mut starts, 0.99),
        };
        self.show(context, &figures)?;
        Ok(ExitCode::SUCCESS)
    }

    fn show(&self, context: &Context, f: &Figures) -> Result<()> {
        let view = match self.json {
            true => View::new(OutputFormat::Json, None, context.color(), context.clock.now())?,
            false => context.view()?,
        };
        let both = |p50: f64, p99: f64| Text::new(format!("p50 {p50:.2} ms, p99 {p99:.2} ms"));
        let rate = |n: f64| Text::new(format!("{n:.0} jobs/s"));
        view.value(f, |view| {
            view.facts(vec![
                ("enqueue, one by one", both(f.enqueue_p50_ms, f.enqueue_p99_ms)),
                ("enqueue in bulk", rate(f.bulk_enqueue_per_s)),
                ("run 'true'", Text::new(format!("{:.0} jobs/s in {} slots", f.drain_per_s, f.slots))),
                ("from enqueue to start", both(f.start_p50_ms, f.start_p99_ms)),
                ("synchronous", Text::new(f.synchronous)),
            ])
        })
    }
}

/// The directory of the store in use: another file system would tell nothing.
fn beside(context: &Context) -> PathBuf {
    let file = match context.location() {
        Ok(Location::File(path)) => std::path::absolute(path).ok(),
        _ => None,
    };
    let dir = file.as_deref().and_then(Path::parent).filter(|dir| dir.is_dir());
    dir.map_or_else(std::env::temp_dir, Path::to_owned)
}

fn submissions(count: usize, command: &[&str]) -> Result<Vec<Submission>> {
    let spec = serde_json::json!({ "command": command });
    let spec: JobSpec = serde_json::from_value(spec).map_err(|e| Error::failed("no job").source(e))?;
    let job = |_| Submission {
        id: JobId(Uuid::now_v7()),
        spec: spec.clone(),
        captured: Arc::default(),
        origin: Default::default(),
        line: None,
    };
    Ok((0..count).map(job).collect())
}

/// Milliseconds that each of `count` durable calls took.
async fn singles(queue: &Queue, count: usize) -> Result<Vec<f64>> {
    let mut took = Vec::with_capacity(count);
    for _ in 0..count {
        let jobs = submissions(1, &["true"])?;
        let begun = Instant::now();
        queue.call(Enqueue { jobs }).await?;
        took.push(millis(begun.elapsed()));
    }
    Ok(took)
}

/// Stores `count` jobs in large transactions; gives how many a second.
async fn bulk(queue: &Queue, count: usize) -> Result<f64> {
    let mut took = Duration::ZERO;
    let mut left = count;
    while left > 0 {
        let jobs = submissions(left.min(MAX_BATCH), &["true"])?;
        left -= jobs.len();
        let begun = Instant::now();
        queue.call(Enqueue { jobs }).await?;
        took += begun.elapsed();
    }
    Ok(count as f64 / took.as_secs_f64())
}

/// How long a worker takes to start, run all there is, and end.
async fn drain(store: &Path, slots: u32) -> Result<Duration> {
    let begun = Instant::now();
    let mut worker = Worker::start(store, slots, &["--burst"])?;
    let ended = tokio::task::spawn_blocking(move || worker.0.wait().map(|status| (status, worker))).await;
    let (status, _) = ended.map_err(|e| Error::failed("the worker is lost").source(e))??;
    match status.success() {
        true => Ok(begun.elapsed()),
        false => Err(Error::failed(format!("the worker ended with {status}"))),
    }
}

/// Milliseconds from each call to the first thing that its job does, while a worker has nothing else to do.
async fn starts(queue: &Queue, dir: &Path, store: &Path) -> Result<Vec<f64>> {
    let pipe = dir.join("started");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
        .map_err(|e| Error::failed("cannot make a pipe").source(e))?;
    let _worker = Worker::start(store, 1, &[])?;
    let mut heard = listen(&pipe)?;
    let script = "echo >\"$0\"";
    let name = pipe.to_str().ok_or_else(|| Error::usage("the directory's name is not UTF-8"))?;
    let mut took = Vec::with_capacity(MAX_STARTS);
    for round in 0..=MAX_STARTS {
        let jobs = submissions(1, &["sh", "-c", script, name])?;
        let begun = Instant::now();
        queue.call(Enqueue { jobs }).await?;
        let waited = tokio::task::spawn_blocking(move || (heard.recv_timeout(START_LIMIT), heard)).await;
        let (at, again) = waited.map_err(|e| Error::failed("nobody listens").source(e))?;
        heard = again;
        let at = at.map_err(|e| Error::failed("a job does not start").source(e))?;
        if round > 0 {
            took.push(millis(at.duration_since(begun))); // the first one waited for the worker itself
        }
    }
    Ok(took)
}

/// The instants at which something came through `pipe`.
fn listen(pipe: &Path) -> Result<Receiver<Instant>> {
    // Also for writing: opening does not wait then, and it never ends. The thread ends with the program.
    let mut pipe = File::options().read(true).write(true).open(pipe)?;
    let (said, heard) = sync_channel(1);
    std::thread::Builder::new().name("orx-bench".into()).spawn(move || {
        let mut byte = [0];
        while pipe.read_exact(&mut byte).is_ok() && said.send(Instant::now()).is_ok() {}
    })?;
    Ok(heard)
}

/// A worker as users start it; killed when it is dropped before its end.
struct Worker(Child);

impl Worker {
    fn start(store: &Path, slots: u32, more: &[&str]) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--quiet", "worker", "--slots", &slots.to_string()]).args(more);
        command.env("ORX_STORE", store).env_remove("RUST_LOG").stdin(Stdio::null()).stdout(Stdio::null());
        Ok(Self(command.spawn()?))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            let _ = self.0.kill(); // it has ended, or does so now
            let _ = self.0.wait();
        }
    }
}

fn millis(span: Duration) -> f64 {
    span.as_secs_f64() * 1000.0
}

/// The value below which so large a part of `values` lies; sorts them.
fn percentile(values: &mut [f64], part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = (values.len().saturating_sub(1) as f64 * part).round() as usize;
    values.get(at).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let mut values: Vec<f64> = (0..=100).rev().map(f64::from).collect();
        assert_eq!((percentile(&mut values, 0.5), percentile(&mut values, 0.99)), (50.0, 99.0));
        assert_eq!((percentile(&mut [7.0], 0.99), percentile(&mut [], 0.5)), (7.0, 0.0));
    }
}
