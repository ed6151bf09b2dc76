//! From a leased job to the program that its attempt runs: arguments, environment, input.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::results::Results;
use super::secrets::Secrets;
use super::spawn::Program;
use super::{Config, Shared};
use crate::hex::hex;
use crate::job::{Fence, Number, WorkerId};
use crate::ops::lease::Leased;

/// Variables that a job gets from its surroundings; nothing else is inherited (S34).
pub const INHERITED: [&str; 5] = ["PATH", "HOME", "USER", "LANG", "TZ"];

/// What is said of jobs whose first processes may be alive.
pub(super) const IN_DOUBT: &str =
    "a process that may be the first of such a job cannot be looked at: its lease is waited for";

/// Where `execvp` looks when PATH is not set.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// The environment entry by which every process of an attempt is found again.
///
/// What a job says carries it too, so it ends with what other jobs of this worker cannot guess.
pub(super) fn marker(shared: &Shared, fence: Fence) -> String {
    let named = format!("{}{}", job_prefix(&shared.config, fence.number), fence.attempt);
    let code = Sha256::new().chain_update(shared.secret).chain_update(&named).finalize();
    format!("{named}.{}", hex(&code[..8]))
}

/// What the markers of all attempts of a job begin with.
pub(super) fn job_prefix(config: &Config, number: Number) -> String {
    format!("ORX_FENCE={}.{number}.", config.store_id)
}

/// The environment entry by which every process of a worker's jobs is found again. Its id tells one life of a worker from
/// the next, and from a worker of that name which another user of this machine has.
pub(super) fn worker_marker(config: &Config, id: WorkerId) -> String {
    format!("ORX_SWEEP={}.{}/{id}", config.store_id, config.name) // no name has a slash, but many have dots
}

/// The entries of the jobs that the dead of this name left.
pub(super) fn predecessors_markers(config: &Config) -> Vec<Vec<u8>> {
    config.predecessors.iter().map(|key| worker_marker(config, key.id).into_bytes()).collect()
}

/// Files that an attempt is given.
pub(super) struct Files<'a> {
    /// Its payload.
    pub(super) payload: Option<&'a Path>,
    /// What tasks made that it needs.
    pub(super) results: &'a Results,
    /// Its secrets.
    pub(super) secrets: &'a Secrets,
}

/// The program of an attempt in `slot`, to run in `cgroup`.
pub(super) fn program(
    shared: &Shared,
    job: &Leased,
    slot: u32,
    files: &Files,
    cgroup: Option<PathBuf>,
) -> Result<Program, String> {
    let config = &shared.config;
    let spec = &job.spec;
    let argv = match (&spec.command, &spec.handler) {
        (Some(command), _) => command.clone(),
        (None, Some(name)) => match config.handlers.get(name) {
            Some(command) => command.clone(),
            None => return Err(format!("this worker has no handler {name}")),
        },
        (None, None) => return Err("the job has neither command nor handler".into()),
    };
    let input = match (&spec.stdin, &spec.payload) {
        (Some(stdin), _) => Some(stdin.0.clone()),
        (None, Some(payload)) => Some(payload.to_string().into_bytes()),
        (None, None) => None,
    };
    let cwd = spec.cwd.as_ref().or(job.captured.cwd.as_ref());
    Ok(Program {
        argv: argv.into_iter().map(OsString::from).collect(),
        env: environment(shared, job, slot, files),
        cwd: cwd.map(Into::into),
        stdin: input,
        cgroup,
    })
}

fn environment(shared: &Shared, job: &Leased, slot: u32, files: &Files) -> Vec<(OsString, OsString)> {
    let config = &shared.config;
    let mut env = std::collections::BTreeMap::<OsString, OsString>::new();
    env.insert("PATH".into(), DEFAULT_PATH.into());
    let captured = &job.captured.env;
    // What was submitted from another machine has no surroundings: it gets the worker's (S34).
    if job.captured.cwd.is_none() {
        let own = INHERITED.iter().filter_map(|k| Some((k.into(), std::env::var_os(k)?)));
        env.extend(own);
    }
    let given = captured.iter().chain(&job.spec.env);
    env.extend(given.map(|(k, v)| (k.into(), v.into())));
    env.extend(files.secrets.env.iter().map(|(k, v)| (k.clone(), v.clone())));
    let spec = &job.spec;
    let marker = marker(shared, job.fence);
    let mut set = |name: &str, value: String| env.insert(name.into(), value.into());
    for entry in [marker, worker_marker(config, config.key.id)] {
        if let Some((name, value)) = entry.split_once('=') {
            set(name, value.into());
        }
    }
    set("ORX_JOB_ID", job.id.to_string());
    set("ORX_ATTEMPT", job.fence.attempt.to_string());
    set("ORX_MAX_ATTEMPTS", spec.max_attempts().to_string());
    set("ORX_QUEUE", job.queue.clone());
    set("ORX_TENANT", job.tenant.clone());
    set("ORX_WORKER", config.name.clone());
    set("ORX_SLOT", slot.to_string());
    set("TRACEPARENT", traceparent(job));
    if let Some(socket) = &shared.socket {
        set("ORX_SOCKET", socket.path().display().to_string());
    }
    if let Some(name) = &spec.name {
        set("ORX_NAME", name.clone());
    }
    let origin = &job.origin;
    let given = [
        ("ORX_RUN_ID", origin.run_id.map(|id| id.to_string())),
        ("ORX_TASK", origin.task.clone()),
        ("ORX_OCCURRENCE_ID", origin.occurrence_id.map(|id| id.to_string())),
        ("ORX_SCHEDULED_FOR", origin.scheduled_for.map(|at| at.to_string())),
    ];
    for (name, value) in given.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        set(name, value);
    }
    if let Some(path) = files.payload {
        set("ORX_PAYLOAD_FILE", path.display().to_string());
    }
    for (name, path) in files.results.variables() {
        set(&name, path);
    }
    env.into_iter().collect()
}

/// The attempt as a span of the caller's trace, or of a trace of its own.
fn traceparent(job: &Leased) -> String {
    let trace = job.captured.trace_id(job.id);
    let span = Fence::attempt_id(job.id, job.fence.attempt).simple().to_string();
    format!("00-{trace}-{}-{}", &span[..16], job.captured.trace_flags())
}
