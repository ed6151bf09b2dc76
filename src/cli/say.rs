//! `orx progress`, `orx heartbeat`, `orx result`: from inside a job (S35).

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::context::{self, Context};
use crate::error::{Error, Result};
use crate::job::spec::MAX_PAYLOAD;
use crate::worker::socket::{Answer, MAX_LINE, Message};

/// How long the worker may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Args)]
#[command(after_help = "Example, inside a job:\n  orx progress 40 'compiling'")]
pub(super) struct Progress {
    /// 0 to 100
    #[arg(value_name = "N", value_parser = percent)]
    percent: f64,

    /// A few words
    text: Option<String>,
}

#[derive(Args)]
#[command(after_help = "Example, inside a job:\n  while work; do orx heartbeat; done")]
pub(super) struct Heartbeat {}

#[derive(Args)]
#[command(after_help = "Example, inside a job:\n  ./measure | orx result -")]
pub(super) struct JobResult {
    /// A file, or - for standard input
    #[arg(value_name = "FILE")]
    file: String,
}

fn percent(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('%').parse::<f64>() {
        Ok(n) if (0.0..=100.0).contains(&n) => Ok(n),
        _ => Err("not a number from 0 to 100".into()),
    }
}

impl Progress {
    pub(super) fn run(self, _context: &Context) -> Result<ExitCode> {
        say(Message { progress: Some((self.percent, self.text)), ..Message::default() })
    }
}

impl Heartbeat {
    pub(super) fn run(self, _context: &Context) -> Result<ExitCode> {
        say(Message::default())
    }
}

impl JobResult {
    pub(super) fn run(self, _context: &Context) -> Result<ExitCode> {
        inside()?; // before somebody is waited for who types
        let mut bytes = Vec::new();
        let limit = MAX_PAYLOAD as u64 + 1;
        let read = match self.file.as_str() {
            "-" => std::io::stdin().lock().take(limit).read_to_end(&mut bytes),
            file => std::fs::File::open(file).and_then(|f| f.take(limit).read_to_end(&mut bytes)),
        };
        read.map_err(|e| Error::usage(format!("cannot read {}", self.file)).source(e))?;
        if bytes.len() > MAX_PAYLOAD {
            return Err(too_large());
        }
        let result = String::from_utf8(bytes).map_err(|e| {
            Error::usage("the result is not UTF-8")
                .source(e)
                .hint("store it in a file and give its path, or: base64 | orx result -")
        })?;
        say(Message { result: Some(result), ..Message::default() })
    }
}

fn too_large() -> Error {
    Error::usage("the result is larger than 1 MiB").hint("store it in a file and give its path")
}

/// The socket of the worker of this job, and the fence of the attempt.
///
/// # Errors
/// `Usage` outside a job.
fn inside() -> Result<(String, String)> {
    context::env("ORX_SOCKET")
        .zip(context::env("ORX_FENCE"))
        .ok_or_else(|| Error::usage("this works only inside a job").hint("ORX_SOCKET and ORX_FENCE are set there"))
}

/// Tells the worker, and waits until it has recorded it.
fn say(message: Message) -> Result<ExitCode> {
    let (socket, fence) = inside()?;
    let gone = |e: std::io::Error| Error::unavailable("the worker of this job does not answer").source(e);
    let mut stream = UnixStream::connect(socket).map_err(gone)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(gone)?;
    let mut line =
        serde_json::to_vec(&Message { fence, ..message }).map_err(|e| Error::failed("not JSON").source(e))?;
    line.push(b'\n');
    if line.len() > MAX_LINE {
        return Err(too_large()); // the worker would hang up in the middle of it
    }
    stream.write_all(&line).map_err(gone)?;
    let mut text = String::new();
    BufReader::new(stream).read_line(&mut text).map_err(gone)?;
    let answer: Answer = serde_json::from_str(&text).map_err(|e| Error::unavailable("no answer").source(e))?;
    match answer.error {
        None => Ok(ExitCode::SUCCESS),
        Some(refusal) => Err(refusal.error()),
    }
}
