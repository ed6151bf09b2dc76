//! Formats of data: a reply is data, and every command prints it through here.

pub(super) mod junit;
mod nodes;
mod rows;
pub(super) mod runs;
mod schedules;
mod table;
mod template;
mod tokens;
pub(super) mod words;

pub(super) use self::nodes::Placed;
pub(super) use self::schedules::{title, when};

use std::io::{IsTerminal as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use serde::Serialize;

use super::ui::color_for;
use super::{ColorChoice, OutputFormat};
use crate::error::{Error, Result};
use crate::job::State;
use crate::ops::enqueue::Enqueued;
use crate::ops::runs::Started;
use crate::time::Timestamp;

/// A thing that has a line in a table.
pub(super) trait Row: Serialize {
    /// The words above the columns.
    const HEADERS: &'static [&'static str];
    /// What `-o id` prints.
    fn id(&self) -> String;
    /// What stands in the columns.
    fn cells(&self, now: Timestamp) -> Vec<Text>;
}

/// A word with a meaning that a colour may show.
pub(super) struct Text {
    text: String,
    tone: Tone,
}

/// What a colour means.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Good,
    Bad,
    Busy,
    Waiting,
    Dim,
}

impl Text {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), tone: Tone::Plain }
    }

    pub(super) fn toned(text: impl Into<String>, tone: Tone) -> Self {
        Self { text: text.into(), tone }
    }

    pub(super) fn dim(text: impl Into<String>) -> Self {
        Self::toned(text, Tone::Dim)
    }

    pub(super) fn state(state: State) -> Self {
        Self::toned(state.as_str(), tone_of(state))
    }
}

pub(super) fn tone_of(state: State) -> Tone {
    match state {
        State::Done => Tone::Good,
        State::Failed => Tone::Bad,
        State::Running => Tone::Busy,
        State::Pending | State::Scheduled | State::Blocked => Tone::Waiting,
        State::Cancelled | State::Skipped => Tone::Dim,
    }
}

/// The way to print that the user chose.
pub(super) struct View {
    format: OutputFormat,
    template: Option<template::Template>,
    /// Columns of the terminal, where there is one.
    width: Option<usize>,
    color: bool,
    now: Timestamp,
}

impl View {
    /// # Errors
    /// `Usage` when the template is not understood.
    pub(super) fn new(
        format: OutputFormat,
        template: Option<&str>,
        color: ColorChoice,
        now: Timestamp,
    ) -> Result<Self> {
        let terminal = std::io::stdout().is_terminal();
        let template = template.map(template::Template::new).transpose()?;
        let width = terminal.then(width).flatten();
        Ok(Self { format, template, width, color: color_for(color, terminal), now })
    }

    pub(super) fn format(&self) -> OutputFormat {
        self.format
    }

    /// Whether people read it, and not a template or a program.
    pub(super) fn is_for_people(&self) -> bool {
        self.format == OutputFormat::Table && self.template.is_none()
    }

    /// Many things.
    pub(super) fn rows<R: Row>(&self, rows: &[R]) -> Result<()> {
        raw(self.text(rows)?.as_bytes())
    }

    /// What [`View::rows`] prints.
    pub(super) fn text<R: Row>(&self, rows: &[R]) -> Result<String> {
        let lines = |line: &dyn Fn(&R) -> Result<String>| rows.iter().map(|row| Ok(line(row)? + "\n")).collect();
        match (&self.template, self.format) {
            (Some(template), _) => lines(&|row| Ok(words::safe(&template.render(row)?))),
            (None, OutputFormat::Table | OutputFormat::Junit) => Ok(self.table_text(rows)),
            (None, OutputFormat::Json) => Ok(to_json(&rows)? + "\n"),
            (None, OutputFormat::Ndjson) => ndjson(rows),
            (None, OutputFormat::Id) => lines(&|row| Ok(words::safe(&row.id()))),
        }
    }

    /// One thing: an object, and for people what `describe` writes.
    pub(super) fn one<R: Row>(&self, row: &R, describe: impl FnOnce(&Self) -> Result<()>) -> Result<()> {
        match self.format {
            OutputFormat::Table if self.template.is_none() => describe(self),
            OutputFormat::Json if self.template.is_none() => painted(&to_json(row)?),
            _ => self.rows(std::slice::from_ref(row)),
        }
    }

    /// Data that is no table, such as a summary.
    pub(super) fn value<T: Serialize>(&self, value: &T, describe: impl FnOnce(&Self) -> Result<()>) -> Result<()> {
        match (&self.template, self.format) {
            (Some(template), _) => line(&template.render(value)?),
            (None, OutputFormat::Table | OutputFormat::Id | OutputFormat::Junit) => describe(self),
            (None, OutputFormat::Ndjson) => raw(ndjson(std::slice::from_ref(value))?.as_bytes()),
            (None, _) => painted(&to_json(value)?),
        }
    }

    /// Jobs as they were stored: the full id alone, for scripts.
    pub(super) fn enqueued(&self, jobs: &[Enqueued]) -> Result<()> {
        if let Some(template) = &self.template {
            return jobs.iter().try_for_each(|job| line(&template.render(job)?));
        }
        match self.format {
            OutputFormat::Json | OutputFormat::Ndjson => raw(ndjson(jobs)?.as_bytes()),
            _ => self.ids(jobs.iter().map(|job| job.id)),
        }
    }

    /// A run as it was stored: the full id alone, for scripts.
    pub(super) fn started(&self, run: &Started) -> Result<()> {
        match self.is_for_people() {
            true => self.ids([run.id]),
            false => self.one(run, |_| Ok(())),
        }
    }

    /// Ids, one a line.
    pub(super) fn ids<I: std::fmt::Display>(&self, ids: impl IntoIterator<Item = I>) -> Result<()> {
        let text: String = ids.into_iter().map(|id| format!("{id}\n")).collect();
        raw(text.as_bytes())
    }

    /// `text` in the colour of its tone.
    pub(super) fn paint(&self, text: Text) -> String {
        paint(text, self.color)
    }

    /// Lines of `key: value`.
    pub(super) fn facts(&self, facts: Vec<(&str, Text)>) -> Result<()> {
        let wide = facts.iter().map(|(key, _)| key.len()).max().unwrap_or(0);
        let text = facts.into_iter().map(|(key, value)| {
            let key = self.paint(Text::dim(format!("{:<1$}", format!("{key}:"), wide + 1)));
            format!("{key}  {}\n", self.paint(value))
        });
        raw(text.collect::<String>().as_bytes())
    }

    pub(super) fn now(&self) -> Timestamp {
        self.now
    }
}

/// `text` on one line and in the colour of its tone, where colours are wanted.
pub(super) fn paint(Text { text, tone }: Text, color: bool) -> String {
    let text = words::one_line(&text);
    let code = match tone {
        _ if !color => return text,
        Tone::Plain => return text,
        Tone::Good => "32",
        Tone::Bad => "31",
        Tone::Busy => "36",
        Tone::Waiting => "33",
        Tone::Dim => "2",
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

fn width() -> Option<usize> {
    rustix::termios::tcgetwinsize(std::io::stdout()).ok().map(|size| size.ws_col.into()).filter(|w| *w > 0)
}

/// A line of JSON for each.
pub(super) fn ndjson<T: Serialize>(all: &[T]) -> Result<String> {
    all.iter().map(|one| Ok(words::one_line_json(to_json(one)?) + "\n")).collect()
}

/// What people gave as JSON is as they wrote it, also with line breaks.
fn to_json<T: Serialize + ?Sized>(value: &T) -> Result<String> {
    serde_json::to_string(value).map(words::safe_json).map_err(|e| Error::failed("cannot be printed as JSON").source(e))
}

/// One line on standard output, whatever is in it.
pub(super) fn line(text: &str) -> Result<()> {
    painted(&words::safe(text))
}

/// One line of parts that [`paint`] has made.
pub(super) fn painted(text: &str) -> Result<()> {
    raw(format!("{text}\n").as_bytes())
}

/// Text on standard output from another thread: who reads no more must not keep an interrupt from being heard.
pub(super) async fn raw_aside(text: String) -> Result<()> {
    PRINTING.fetch_add(1, Ordering::Relaxed);
    let printing = tokio::task::spawn_blocking(move || {
        let printed = raw(text.as_bytes());
        PRINTING.fetch_sub(1, Ordering::Relaxed);
        printed
    });
    printing.await.map_err(|e| Error::failed("printing failed").source(e))?
}

/// What other threads print now.
static PRINTING: AtomicU32 = AtomicU32::new(0);
/// How long whoever reads may take for it.
const PRINT_LIMIT: Duration = Duration::from_millis(200);

/// Waits a moment for what is printed now: nobody who reads on sees a part of a line.
pub(super) async fn printed() {
    let end = tokio::time::Instant::now() + PRINT_LIMIT;
    while PRINTING.load(Ordering::Relaxed) > 0 && tokio::time::Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Bytes on standard output, as they are.
pub(super) fn raw(bytes: &[u8]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    written(out.flush().and_then(|()| write_all(out.as_fd(), bytes)))
}

/// Bytes of a job on standard error, as they are.
pub(super) fn raw_err(bytes: &[u8]) -> Result<()> {
    written(write_all(std::io::stderr().lock().as_fd(), bytes))
}

/// Writes all of it, also where somebody else has made it a descriptor that does not block.
fn write_all(out: BorrowedFd, mut bytes: &[u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(out, bytes) {
            Ok(0) => return Err(std::io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            // As long as any other write would take.
            Err(Errno::AGAIN) => match poll(&mut [PollFd::from_borrowed_fd(out, PollFlags::OUT)], None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            },
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Nobody reads our output any more.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads it")]
struct Unread;

/// Only of our own output: a pipe to somebody else that breaks is an error.
fn written(result: std::io::Result<()>) -> Result<()> {
    result.map_err(|e| {
        let error = Error::failed("cannot write the output");
        match e.kind() {
            std::io::ErrorKind::BrokenPipe => error.source(Unread),
            _ => error.source(e),
        }
    })
}

/// Whether it is only that nobody reads our output any more.
pub(super) fn is_unread(error: &Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<Unread>())
}

/// Clears the screen, for what is drawn again and again.
pub(super) const CLEAR: &str = "\x1b[H\x1b[2J";
