//! The options that describe a job, for `enqueue` and `run`.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use clap::{ArgAction, Args, ValueEnum};

use super::context::{self, Context};
use crate::error::{Error, Result};
use crate::job::retry::{Backoff, CodeSet};
use crate::job::spec::{After, Bytes, KeyLimit, MAX_PAYLOAD, OnConflict, Restart};
use crate::job::workflow_file::{FROM_YAML, looks_like_yaml};
use crate::job::{Captured, JobId, JobSpec, JsonText, Origin, Submission};
use crate::store::Location;
use crate::time::{Span, Timestamp};
use crate::worker::program::INHERITED;

/// What a job is and how it is to be run.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Job options")]
pub(super) struct JobOptions {
    /// The queue it stands in [default: default]
    #[arg(long, value_name = "QUEUE", add = super::select::queue_candidates())]
    queue: Option<String>,

    /// Who it belongs to [default: default]
    #[arg(long)]
    tenant: Option<String>,

    /// A name that no other unfinished job of the tenant has
    #[arg(long)]
    name: Option<String>,

    /// What to do when the name is taken [default: reject]
    #[arg(long, value_name = "WHAT", requires = "name")]
    on_conflict: Option<Conflict>,

    /// Run this handler of the worker instead of a command
    #[arg(long, value_name = "NAME")]
    handler: Option<String>,

    /// What the handler gets: JSON, @FILE, or - for standard input
    #[arg(long, value_name = "JSON", requires = "handler")]
    payload: Option<String>,

    /// -100 to 100, higher first [default: 0]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    priority: Option<i32>,

    /// Start no earlier than this long from now (90s, 1h30m, 2d)
    #[arg(long, value_name = "DURATION")]
    delay: Option<Span>,

    /// Cancel it, as expired, when it has not started after this long
    #[arg(long, value_name = "DURATION")]
    deadline: Option<Span>,

    /// Failures that end it [default: 1]
    #[arg(long, value_name = "N")]
    max_attempts: Option<u32>,

    /// Waits between attempts: BASE[..CAP][xFACTOR] [default: 10s..10mx2]
    #[arg(long, value_name = "WAITS")]
    backoff: Option<Backoff>,

    /// Only these exit codes are tried again (1,3,10-20)
    #[arg(long, value_name = "LIST")]
    retry_codes: Option<CodeSet>,

    /// These exit codes are never tried again
    #[arg(long, value_name = "LIST")]
    fatal_codes: Option<CodeSet>,

    /// Lost leases that are forgiven; 0: it must not run twice [default: 3]
    #[arg(long, value_name = "N")]
    max_losses: Option<u32>,

    /// Consecutive exits with 75 (try later) that are allowed [default: 100]
    #[arg(long, value_name = "N")]
    max_snoozes: Option<u32>,

    /// Run it only on workers with this label
    #[arg(long, value_name = "K=V", value_parser = pair)]
    require: Vec<(String, String)>,

    /// End an attempt that takes longer
    #[arg(long, value_name = "DURATION")]
    timeout: Option<Span>,

    /// Time between SIGTERM and SIGKILL [default: 10s]
    #[arg(long, value_name = "DURATION")]
    kill_grace: Option<Span>,

    /// End an attempt that says nothing for so long (orx heartbeat, orx progress)
    #[arg(long, value_name = "DURATION")]
    heartbeat_timeout: Option<Span>,

    /// Run it for ever, again after each end: a service
    #[arg(long, value_name = "always", value_parser = restart)]
    restart: Option<Restart>,

    /// Wait until these jobs are done (JOB:ended: until it has ended somehow)
    #[arg(long, value_name = "JOB", value_delimiter = ',', num_args = 1.., add = super::select::job_candidates())]
    after: Vec<After>,

    /// The same key never makes a second job
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,

    /// Metadata, to find it by
    #[arg(long, value_name = "K=V", value_parser = pair)]
    label: Vec<(String, String)>,

    /// Set a variable (K=V), or take it from here (K); K=secret://NAME is read by the worker, and hidden in the output
    #[arg(long, value_name = "K[=V]", action = ArgAction::Append)]
    env: Vec<String>,

    /// Set a variable to what a file of the worker's machine says; it is hidden in the output
    #[arg(long, value_name = "K=FILE", value_parser = pair)]
    env_from_file: Vec<(String, String)>,

    /// The directory it runs in [default: this one]
    #[arg(long, value_name = "DIR")]
    cwd: Option<std::path::PathBuf>,

    /// What it reads from standard input: a file, or - for ours
    #[arg(long, value_name = "FILE", conflicts_with = "handler")]
    stdin: Option<String>,

    /// At most N running jobs share KEY
    #[arg(long, value_name = "KEY=N")]
    limit: Option<KeyLimit>,
}

/// When a job may start, for those that no schedule starts.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Job options")]
pub(super) struct StartOptions {
    /// Start no earlier than this time (RFC 3339, or a local time; a time of day is the next one)
    #[arg(long, value_name = "TIME", conflicts_with = "delay")]
    at: Option<String>,

    /// The time zone of --at, such as Europe/Berlin
    #[arg(long, value_name = "ZONE", requires = "at")]
    tz: Option<String>,
}

impl StartOptions {
    /// The instant, if one is given.
    pub(super) fn instant(&self, context: &Context) -> Result<Option<Timestamp>> {
        let Some(text) = &self.at else { return Ok(None) };
        let now = context.clock.now();
        let at = Timestamp::parse_next(text, self.tz.as_deref(), now).map_err(Error::usage)?;
        if now.since(at) > PAST {
            return Err(Error::usage(format!("--at: {at} is over since {}", now.since(at)))
                .hint("without --at the job starts at once; is the date right, and the time zone (--tz)?"));
        }
        Ok(Some(at))
    }
}

/// A time that a person gives may be over for so long: commands take their time to be typed.
const PAST: Span = Span::from_secs(60);

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Conflict {
    /// Refuse the new job
    Reject,
    /// Answer with the job that has it
    Return,
    /// Cancel that job and take its place
    Replace,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => Err("use KEY=VALUE".into()),
    }
}

fn restart(text: &str) -> Result<Restart, String> {
    match text {
        "always" => Ok(Restart::Always),
        _ => Err("the only choice is always".into()),
    }
}

impl JobOptions {
    /// The job that these options and `command` describe.
    ///
    /// # Errors
    /// `Usage` when they make no sense together.
    pub(super) fn spec(self, command: Vec<String>) -> Result<JobSpec> {
        let env = self.env.iter().filter_map(|e| e.split_once('='));
        let files = self.env_from_file.into_iter().map(|(k, path)| Ok((k, directory(path.into())?)));
        let spec = JobSpec {
            command: (!command.is_empty()).then_some(command),
            payload: self.payload.as_deref().map(payload).transpose()?,
            handler: self.handler,
            queue: self.queue,
            tenant: self.tenant,
            name: self.name,
            on_conflict: self.on_conflict.map(|c| match c {
                Conflict::Reject => OnConflict::Reject,
                Conflict::Return => OnConflict::Return,
                Conflict::Replace => OnConflict::Replace,
            }),
            priority: self.priority,
            delay: self.delay,
            at: None,
            deadline: self.deadline,
            max_attempts: self.max_attempts,
            backoff: self.backoff,
            retry_codes: self.retry_codes,
            fatal_codes: self.fatal_codes,
            max_losses: self.max_losses,
            max_snoozes: self.max_snoozes,
            require: self.require.into_iter().collect(),
            timeout: self.timeout,
            kill_grace: self.kill_grace,
            heartbeat_timeout: self.heartbeat_timeout,
            restart: self.restart,
            after: self.after,
            idempotency_key: self.idempotency_key,
            label: self.label.into_iter().collect(),
            env: env.map(|(k, v)| (k.into(), v.into())).collect(),
            env_from_file: files.collect::<Result<_>>()?,
            cwd: self.cwd.map(directory).transpose()?,
            stdin: self.stdin.as_deref().map(|s| read(s, "--stdin").map(Bytes)).transpose()?,
            limit: self.limit,
        };
        Ok(spec)
    }

    /// Who the job belongs to, if that is said.
    pub(super) fn tenant(&self) -> Option<&str> {
        self.tenant.as_deref()
    }

    /// The variables that are taken from here because --env names them.
    pub(super) fn named_env(&self) -> impl Iterator<Item = &str> {
        self.env.iter().map(String::as_str).filter(|e| !e.contains('='))
    }

    /// What is taken from here: a few variables, those that --env names, and the directory (S34).
    pub(super) fn captured(&self, context: &Context) -> Result<Captured> {
        captured(context, self.named_env(), self.cwd.as_deref())
    }
}

/// Our surroundings, for a job in a store that this machine opens by itself; of those at a coordinator only what --env
/// names, as another machine may run them.
///
/// Where the job is given a directory of its own, ours need not be there.
pub(super) fn captured<'a>(
    context: &Context,
    named: impl Iterator<Item = &'a str>,
    given: Option<&Path>,
) -> Result<Captured> {
    let mut env = BTreeMap::new();
    let here = !matches!(context.location()?, Location::Coordinator(_));
    for name in INHERITED.into_iter().filter(|_| here).chain(named) {
        if let Some(value) = std::env::var_os(name) {
            let value = value.into_string().map_err(|_| Error::usage(format!("the variable {name} is not UTF-8")))?;
            env.insert(name.to_owned(), value);
        }
    }
    let Captured { trace, .. } = Captured::of_trace(context::env("TRACEPARENT").as_deref());
    if !here {
        return Ok(Captured { env, cwd: None, trace });
    }
    let cwd = match (here_dir(), given.filter(|dir| dir.is_absolute())) {
        (Err(_), Some(given)) => given.to_owned(),
        (here, _) => here?,
    };
    let cwd = cwd.into_os_string().into_string();
    let cwd =
        cwd.map_err(|_| Error::usage("the path of this directory is not UTF-8").hint("name another with --cwd"))?;
    Ok(Captured { env, cwd: Some(cwd), trace })
}

/// A submission of `spec` under a new id.
pub(super) fn submission(context: &Context, spec: JobSpec, captured: Captured) -> Submission {
    let id = JobId::new(context.clock.now(), chance());
    Submission { id, spec, captured: Arc::new(captured), origin: Origin::default(), line: None }
}

/// Chance for a new id.
pub(super) fn chance() -> [u8; 10] {
    let mut chance = [0; 10];
    chance.copy_from_slice(&uuid::Uuid::new_v4().as_bytes()[..10]);
    chance
}

/// The directory that this command was called in.
fn here_dir() -> Result<std::path::PathBuf> {
    std::env::current_dir().map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => {
            Error::usage("this directory is not there any more").hint("change to another one: cd")
        }
        _ => Error::usage("it cannot be told which directory this is").source(e),
    })
}

fn directory(path: std::path::PathBuf) -> Result<String> {
    let path = if path.is_absolute() { path } else { std::path::absolute(here_dir()?.join(path))? };
    let text = path.into_os_string().into_string();
    text.map_err(|_| Error::usage("the path is not UTF-8"))
}

fn payload(text: &str) -> Result<JsonText> {
    let bytes = match text.strip_prefix('@') {
        Some(file) => read(file, "--payload")?,
        None if text == "-" => read(text, "--payload")?,
        None => text.as_bytes().to_vec(),
    };
    let text = std::str::from_utf8(&bytes).map_err(|e| {
        Error::usage("--payload is not UTF-8, and so no JSON")
            .source(e)
            .hint("pass the path of a file, or text that base64 makes")
    })?;
    text.parse().map_err(|e: serde_json::Error| {
        let error = Error::usage("--payload is not JSON").source(e);
        match text {
            text if looks_like_yaml(text) => error.hint(format!("this is YAML: {FROM_YAML}")),
            text if !text.starts_with(['{', '[', '"']) => {
                error.hint("text is JSON in double quotes: --payload '\"text\"'; @FILE reads a file")
            }
            _ => error,
        }
    })
}

/// A file, or standard input for `-`; never more than a job may have.
fn read(name: &str, option: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = MAX_PAYLOAD as u64 + 1;
    let done = match name {
        "-" => std::io::stdin().lock().take(limit).read_to_end(&mut bytes),
        file => std::fs::File::open(file).and_then(|f| f.take(limit).read_to_end(&mut bytes)),
    };
    done.map_err(|e| Error::usage(format!("{option}: cannot read {name}")).source(e))?;
    match bytes.len() <= MAX_PAYLOAD {
        true => Ok(bytes),
        false => Err(Error::usage(format!("{option} is larger than 1 MiB")).hint("pass the path of a file instead")),
    }
}

/// A duration with the smallest sensible value of one second.
pub(super) fn at_least_a_second(text: &str) -> Result<Span, String> {
    let span = Span::from_str(text)?;
    match span >= Span::from_secs(1) {
        true => Ok(span),
        false => Err("at least 1s".into()),
    }
}
