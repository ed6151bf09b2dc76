//! Many jobs at once: `orx enqueue --from` and `--each-line` (S32).

use std::io::Read;
use std::process::ExitCode;
use std::sync::Arc;

use serde::Serialize;
use uuid::Uuid;

use super::context::Context;
use super::enqueue::open;
use super::view::is_unread;
use super::{OutputFormat, entering, ui};
use crate::error::{Error, Kind, Result};
use crate::job::json_text::{Members, flaw_of, read_members};
use crate::job::{Captured, JobId, JobSpec, JsonText, Origin, Submission};
use crate::ops::enqueue::{Enqueue, MAX_BATCH};

/// The longest line, in bytes.
const MAX_LINE: usize = 4 * 1024 * 1024;
/// A line that is longer than this has no end, and is not kept in memory until there is none left.
const ENDLESS: usize = 64 << 20;
/// How many bad lines are shown.
const MAX_SHOWN: usize = 5;

/// What a line is.
#[derive(Clone, Copy)]
pub(super) enum Source {
    /// A job as JSON.
    Ndjson,
    /// Text for the command.
    Lines,
}

/// A load of many jobs.
pub(super) struct Bulk {
    pub(super) source: Source,
    pub(super) file: String,
    pub(super) batch: Option<Uuid>,
    pub(super) skip_invalid: bool,
    /// The options of the command line: what a line leaves out.
    pub(super) defaults: JobSpec,
    pub(super) captured: Captured,
}

impl Bulk {
    pub(super) async fn run(self, context: &Context) -> Result<ExitCode> {
        let text = Arc::new(self.read()?);
        let parser = Arc::new(self.parser(Arc::clone(&text))?);
        let good = Arc::new(self.validate(context, &parser)?);
        let batch = self.batch.unwrap_or_else(Uuid::now_v7);
        let each = context.view()?.format() == OutputFormat::Id;
        let bar = ui::progress(context, good.len() as u64, "stored");
        let captured = Arc::new(self.captured);
        let queue = open(context)?;
        let (mut stored, mut existing) = (0u64, 0u64);
        let mut next = prepare(&parser, &good, 0, batch, &captured);
        let mut from = 0;
        while from < good.len() {
            let jobs = next.await.map_err(|e| Error::failed("reading a line failed").source(e))??;
            let count = jobs.len();
            from += count;
            // The next lines are read while these are written.
            next = prepare(&parser, &good, from, batch, &captured);
            let replies = queue.call(Enqueue { jobs }).await.map_err(|e| unfinished(e, stored + existing, batch))?;
            existing += replies.iter().filter(|job| job.existing).count() as u64;
            stored += replies.iter().filter(|job| !job.existing).count() as u64;
            bar.set_position(stored + existing);
            if each {
                printed(context.view()?.ids(replies.iter().map(|job| job.id)), stored + existing, batch)?;
            }
        }
        bar.finish_and_clear();
        if !each {
            let view = context.view()?;
            let load = Load { batch, stored, existing };
            printed(view.value(&load, |view| view.ids([batch])), stored + existing, batch)?;
        }
        let known = if existing > 0 { format!(", {existing} were there before") } else { String::new() };
        ui::say(context, &format!("{} stored{known}", ui::count(stored, "job")));
        let dir = self.defaults.cwd.as_deref().or(captured.cwd.as_deref());
        entering::warn(context, self.defaults.queue.as_deref(), dir).await;
        Ok(ExitCode::SUCCESS)
    }

    fn read(&self) -> Result<Vec<u8>> {
        let done = match self.file.as_str() {
            "-" => read_lines(std::io::stdin().lock()),
            file => std::fs::File::open(file).and_then(read_lines),
        };
        done.map_err(|e| Error::usage(format!("cannot read {}", self.file)).source(e))
    }

    fn parser(&self, text: Arc<Vec<u8>>) -> Result<Parser> {
        let mut lines = Vec::new();
        let mut start = 0;
        for line in text.split_inclusive(|b| *b == b'\n') {
            let end = match self.source {
                Source::Ndjson => line.trim_ascii_end(),
                Source::Lines => line.strip_suffix(b"\n").map_or(line, |line| line.strip_suffix(b"\r").unwrap_or(line)),
            };
            lines.push((start, start + end.len()));
            start += line.len();
        }
        let defaults = match self.source {
            Source::Ndjson => JsonText::of(&self.defaults)?.members().unwrap_or_default(),
            Source::Lines => {
                self.defaults.check()?;
                Members::new()
            }
        };
        Ok(Parser { text, lines, source: self.source, defaults, template: self.defaults.clone() })
    }

    /// The places of the lines that are valid; all are looked at before anything is stored.
    fn validate(&self, context: &Context, parser: &Parser) -> Result<Vec<usize>> {
        let (good, bad) = parser.sort();
        if bad.is_empty() {
            return Ok(good);
        }
        let more = bad.len().saturating_sub(MAX_SHOWN);
        let mut shown = bad[..bad.len() - more].join("\n  ");
        if more > 0 {
            shown.push_str(&format!("\n  and {more} more"));
        }
        if self.skip_invalid {
            ui::say(context, &format!("left out {}:\n  {shown}", ui::count(bad.len() as u64, "line")));
            return Ok(good);
        }
        let what = if bad.len() == 1 { "a line is" } else { "some lines are" };
        let hint = match good.is_empty() {
            true => "each line is one job in JSON; --each-line takes lines of text",
            false => "--skip-invalid stores the others",
        };
        Err(Error::usage(format!("{what} not valid; nothing was stored\n  {shown}")).hint(hint))
    }
}

/// All of it, unless a line of it has no end: what no job can have is not kept in memory.
fn read_lines(mut source: impl Read) -> std::io::Result<Vec<u8>> {
    let (mut bytes, mut start) = (Vec::new(), 0);
    loop {
        let before = bytes.len();
        if source.by_ref().take(ENDLESS as u64).read_to_end(&mut bytes)? == 0 {
            return Ok(bytes);
        }
        if let Some(end) = bytes[before..].iter().rposition(|b| *b == b'\n') {
            start = before + end + 1;
        }
        if bytes.len() - start > ENDLESS {
            let why = format!("a line is longer than {} MiB", ENDLESS >> 20);
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, why));
        }
    }
}

/// What became of a load.
#[derive(Serialize)]
struct Load {
    batch: Uuid,
    stored: u64,
    /// Jobs that were there before.
    existing: u64,
}

/// Adds to an error in the middle of a load how it can be finished.
fn unfinished(error: Error, done: u64, batch: Uuid) -> Error {
    let rest = format!("the same input with --batch {batch} stores the rest and doubles none");
    match done {
        0 if error.kind() == Kind::Unknown => error.hint(rest),
        0 => error,
        1 => error.hint(format!("1 job was stored before; {rest}")),
        _ => error.hint(format!("{done} jobs were stored before; {rest}")),
    }
}

/// A load goes on though nobody reads its ids.
fn printed(printed: Result<()>, done: u64, batch: Uuid) -> Result<()> {
    match printed {
        Err(e) if is_unread(&e) => Ok(()),
        printed => printed.map_err(|e| unfinished(e, done, batch)),
    }
}

/// Turns lines into jobs.
struct Parser {
    text: Arc<Vec<u8>>,
    lines: Vec<(usize, usize)>,
    source: Source,
    defaults: Members,
    template: JobSpec,
}

impl Parser {
    /// The places of valid lines, and what is wrong with the others; on all cores, as it is most of the work.
    fn sort(&self) -> (Vec<usize>, Vec<String>) {
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        let places: Vec<usize> = (0..self.lines.len()).collect();
        let share = places.len().div_ceil(cores).max(1);
        std::thread::scope(|scope| {
            let parts: Vec<_> = places.chunks(share).map(|part| scope.spawn(|| self.sort_part(part))).collect();
            let mut all = (Vec::with_capacity(places.len()), Vec::new());
            for part in parts {
                // A panic in there would be a bug; its lines must not be taken for stored.
                let (good, bad) = part.join().unwrap_or_else(|_| (Vec::new(), vec!["a bug in orx".into()]));
                all.0.extend(good);
                all.1.extend(bad);
            }
            all
        })
    }

    fn sort_part(&self, places: &[usize]) -> (Vec<usize>, Vec<String>) {
        let (mut good, mut bad) = (Vec::with_capacity(places.len()), Vec::new());
        for place in places {
            match self.parse(*place) {
                Ok(Some(_)) => good.push(*place),
                Ok(None) => {} // an empty line
                Err(e) => bad.push(format!("line {}: {e}", place + 1)),
            }
        }
        (good, bad)
    }

    /// The job of the line at `place` (from 0); none for an empty line.
    fn parse(&self, place: usize) -> Result<Option<JobSpec>> {
        let (start, end) = self.lines[place];
        let line = &self.text[start..end];
        if line.trim_ascii().is_empty() {
            return Ok(None);
        }
        if line.len() > MAX_LINE {
            return Err(Error::usage("is longer than 4 MiB"));
        }
        let spec = match self.source {
            Source::Lines => return self.fill(line).map(Some),
            Source::Ndjson if self.defaults.is_empty() => serde_json::from_slice(line).map_err(|e| e.to_string()),
            Source::Ndjson => serde_json::from_slice::<Members>(line).map_err(|e| e.to_string()).and_then(|given| {
                let all: Members = self.defaults.clone().into_iter().chain(given).collect();
                read_members(&all).map_err(|e| flaw_of(&e))
            }),
        };
        let spec: JobSpec = spec.map_err(|e| Error::usage(without_line(&e)))?;
        spec.check()?;
        // Of two members with one key, the last would count and nobody would hear of it.
        match serde_json::from_slice::<JsonText>(line).ok().and_then(|line| line.flaw()) {
            Some(flaw) => Err(Error::usage(flaw)),
            None => Ok(Some(spec)),
        }
    }

    fn fill(&self, line: &[u8]) -> Result<JobSpec> {
        let line = std::str::from_utf8(line).map_err(|_| Error::usage("is not UTF-8"))?;
        let mut spec = self.template.clone();
        let command = spec.command.get_or_insert_default();
        let mut used = false;
        for arg in command.iter_mut().filter(|arg| arg.contains("{}")) {
            *arg = arg.replace("{}", line);
            used = true;
        }
        if !used {
            command.push(line.into()); // as xargs does
        }
        spec.check()?;
        Ok(spec)
    }
}

/// The JSON is one line of many, so serde's own "line 1" would mislead.
fn without_line(message: &str) -> String {
    let message = message.replace(" at line 1 column ", " at column ");
    // serde lists every field there is; the place and the word that was not understood say enough.
    match (message.split_once(", expected one of"), message.rsplit_once(" at column ")) {
        (Some((what, _)), Some((_, column))) if what.starts_with("unknown field") => {
            format!("{what} at column {column}")
        }
        _ => message,
    }
}

type Prepared = tokio::task::JoinHandle<Result<Vec<Submission>>>;

/// Reads the next lines on another thread.
fn prepare(
    parser: &Arc<Parser>,
    good: &Arc<Vec<usize>>,
    from: usize,
    batch: Uuid,
    captured: &Arc<Captured>,
) -> Prepared {
    let (parser, good, captured) = (Arc::clone(parser), Arc::clone(good), Arc::clone(captured));
    tokio::task::spawn_blocking(move || {
        let places = good.iter().skip(from).take(MAX_BATCH);
        places
            .map(|place| {
                let spec = parser.parse(*place)?.unwrap_or_default();
                let id = JobId::of_line(batch, place + 1);
                Ok(Submission {
                    id,
                    spec,
                    captured: Arc::clone(&captured),
                    origin: Origin::default(),
                    line: u32::try_from(place + 1).ok(),
                })
            })
            .collect()
    })
}
