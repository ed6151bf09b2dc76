//! The log of a worker or coordinator, on standard error: best effort, because no line of it is worth a job.
//!
//! Where that is systemd's journal, which has a time and a priority for each line, it is written for that.
//!
//! A thread of its own writes it. A pipe that nobody reads, a terminal that was stopped or closed and a full disk cost lines,
//! and never a lease.

use std::fmt::Result as FmtResult;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use clap::ValueEnum;
use rustix::io::Errno;
use tracing::{Event, Level, Subscriber, warn};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter, layer};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::Context;
use crate::worker::JOBS_LOG;

/// Lines that wait to be written, at most; more are missed.
const WAITING: usize = 4096;
/// What is written at once, in bytes, apart from the last line.
const BATCH: usize = 16 << 10;
/// How long a process that ends waits for what was said last.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How long after standard error took nothing it is tried again, where it does not block by itself.
const PAUSE: Duration = Duration::from_millis(20);

/// Lines that were missed since that was last said.
static MISSED: AtomicU64 = AtomicU64::new(0);

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

/// Logs to standard error from now on. RUST_LOG says more than -v.
pub(super) fn start(context: &Context, format: LogFormat) -> LastWords {
    let level = match (context.quiet(), context.globals.verbose) {
        (true, _) => "error",
        (_, 0) => "orx=info,chitchat=error,warn",
        (_, 1) => "orx=debug,chitchat=error,info",
        _ => "trace",
    };
    let wanted = std::env::var("RUST_LOG").ok().and_then(|text| text.parse().ok());
    let mut filter = wanted.clone().unwrap_or_else(|| level.parse::<Targets>().unwrap_or_default());
    let journal = is_journal();
    if journal && wanted.is_none() && !context.quiet() && context.globals.verbose == 0 {
        // Two lines for each job would be most of what the journal keeps, and the store has it all.
        filter = filter.with_target(JOBS_LOG, Level::WARN);
    }
    let aside = Aside::start();
    // It must not complain of what it cannot write: that panics where standard error cannot be written.
    let lines = layer().with_writer(aside.clone()).with_target(false).log_internal_errors(false);
    let log = tracing_subscriber::registry().with(filter);
    // A second subscriber is refused; the first one serves as well.
    let _ = match (format, journal) {
        (LogFormat::Json, false) => log.with(lines.json().flatten_event(true).with_span_list(false)).try_init(),
        (LogFormat::Json, true) => {
            let plain =
                tracing_subscriber::fmt::format().json().flatten_event(true).with_span_list(false).with_target(false);
            log.with(lines.json().event_format(Prioritized(plain))).try_init()
        }
        (LogFormat::Text, false) => log.with(lines.with_ansi(super::ui::stderr_colors(context))).try_init(),
        (LogFormat::Text, true) => {
            let plain = tracing_subscriber::fmt::format().without_time().with_level(false).with_target(false);
            log.with(lines.with_ansi(false).event_format(Prioritized(plain))).try_init()
        }
    };
    LastWords(aside)
}

/// Whether standard error is the journal: systemd says which file that is.
fn is_journal() -> bool {
    let Ok(said) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(file) = rustix::fs::fstat(std::io::stderr()) else { return false };
    said == format!("{}:{}", file.st_dev, file.st_ino)
}

/// Lines that begin with their priority, as sd-daemon(3) has it.
struct Prioritized<F>(F);

impl<S, N, F> FormatEvent<S, N> for Prioritized<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> FmtResult {
        let priority = match *event.metadata().level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            Level::DEBUG | Level::TRACE => 7,
        };
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        // Each line is a record of its own in the journal.
        line.lines().try_for_each(|line| writeln!(writer, "<{priority}>{line}"))
    }
}

/// What the thread that writes is sent.
enum Line {
    Text(Vec<u8>),
    /// Answer when all before is written.
    Flush(SyncSender<()>),
}

/// A way to standard error that never waits and never fails. Where there could be no thread, it is the direct one.
#[derive(Clone)]
struct Aside(Option<SyncSender<Line>>);

impl Aside {
    fn start() -> Self {
        let (sender, lines) = sync_channel(WAITING);
        let thread = std::thread::Builder::new().name("orx-log".into()).spawn(move || write_lines(&lines));
        Self(thread.is_ok().then_some(sender))
    }
}

impl Write for Aside {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match &self.0 {
            Some(lines) => {
                if let Err(TrySendError::Full(_)) = lines.try_send(Line::Text(bytes.to_vec())) {
                    MISSED.fetch_add(1, Ordering::Relaxed);
                }
            }
            None => put(bytes),
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Aside {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// Writes what comes, as much at once as waits.
fn write_lines(lines: &Receiver<Line>) {
    while let Ok(first) = lines.recv() {
        let (mut text, mut next) = (Vec::new(), Some(first));
        while let Some(Line::Text(line)) = &next {
            text.extend_from_slice(line);
            next = if text.len() < BATCH { lines.try_recv().ok() } else { None };
        }
        put(&text);
        let missed = MISSED.swap(0, Ordering::Relaxed);
        if missed > 0 {
            warn!(missed, "lines of the log are missing: standard error took no more");
        }
        if let Some(Line::Flush(done)) = next {
            let _ = done.send(()); // whoever asked may wait no longer
        }
    }
}

/// Writes to standard error what it takes. Past the lock of the standard library: who waits here must stop nobody else.
fn put(mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match rustix::io::write(std::io::stderr(), bytes) {
            Ok(0) => return,
            Ok(n) => bytes = bytes.get(n..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => std::thread::sleep(PAUSE), // somebody who shares it made it so
            Err(_) => return,                               // nobody is left to tell
        }
    }
}

/// Waits for the last lines when the process ends, but not for long.
pub(super) struct LastWords(Aside);

impl Drop for LastWords {
    fn drop(&mut self) {
        let (done, written) = sync_channel(1);
        if self.0.0.as_ref().is_some_and(|lines| lines.try_send(Line::Flush(done)).is_ok()) {
            let _ = written.recv_timeout(LAST_WORDS); // what is not written by then never will be
        }
    }
}
