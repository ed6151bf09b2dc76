//! The processes of a running job, where it runs on this machine.

use std::fmt;

use super::context::Context;
use crate::daemon;
use crate::error::Result;
use crate::job::{Job, State};
use crate::ops::workers::ListWorkers;

/// The first process of a job, and which of its processes are stopped.
#[derive(Debug, PartialEq)]
pub(super) struct Process {
    pid: u32,
    pub(super) stopped: Vec<u32>,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.pid)?;
        match self.stopped.as_slice() {
            [] => Ok(()),
            [one] if *one == self.pid => f.write_str(", stopped"),
            some => write!(f, ", stopped: {}", words(some)),
        }
    }
}

/// `12 13`
pub(super) fn words(pids: &[u32]) -> String {
    pids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// The process of a job that runs on this machine, as far as this user may see it.
pub(super) async fn of(context: &Context, job: &Job) -> Result<Option<Process>> {
    if job.state != State::Running {
        return Ok(None);
    }
    let workers = context.queue()?.call(ListWorkers {}).await?;
    let here = daemon::host();
    let holder = workers.into_iter().find(|worker| worker.host == here && worker.running.contains(&job.number));
    Ok(holder.and_then(|worker| look(worker.pid, &[format!("ORX_JOB_ID={}", job.id), attempt(job)])))
}

fn attempt(job: &Job) -> String {
    format!("ORX_ATTEMPT={}", job.attempt)
}

/// The child of a worker whose environment has these `marks`, and which of all that have them are stopped.
fn look(worker: u32, marks: &[String]) -> Option<Process> {
    let (mut first, mut stopped) = (None, Vec::new());
    for entry in std::fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // Those of others cannot be read, and one that has ended is not there.
        let environ = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        let has = |mark: &String| environ.split(|b| *b == 0).any(|variable| variable == mark.as_bytes());
        if !marks.iter().all(has) {
            continue;
        }
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // The name in parentheses may have any character.
        let Some((_, rest)) = stat.rsplit_once(") ") else { continue };
        let mut fields = rest.split(' ');
        let (state, parent) = (fields.next(), fields.next());
        if state == Some("T") {
            stopped.push(pid);
        }
        if parent.and_then(|parent| parent.parse().ok()) == Some(worker) {
            first = first.or(Some(pid));
        }
    }
    first.map(|pid| Process { pid, stopped })
}
