//! `orx tail`, and following a job to its end.

use std::collections::VecDeque;
use std::process::ExitCode;

use clap::Args;

use super::context::Context;
use super::everywhere::Everywhere;
use super::select::Jobs;
use super::stall::{Between, Stall};
use super::ui;
use super::view::{is_unread, raw, raw_err};
use crate::error::{Error, Result};
use crate::job::output::{Chunk, Stream};
use crate::job::{Job, Number, State};
use crate::ops::jobs::GetJobs;
use crate::ops::output::{OutputReply, ReadOutput};
use crate::store::Topics;
use crate::time::Timestamp;

#[derive(Args)]
#[command(after_help = "\
Examples:
  orx tail last
  orx tail -f 42            until it ends; attaches before it starts
  orx tail -n 20 --stderr 42
  orx tail 5-8              one after the other")]
pub(super) struct Tail {
    #[command(flatten)]
    job: Jobs,

    #[command(flatten)]
    everywhere: Everywhere,

    /// Go on until the job ends, through all its attempts; of several jobs one after the other
    #[arg(short, long)]
    follow: bool,

    /// The last N lines only
    #[arg(short = 'n', long, value_name = "N")]
    lines: Option<usize>,

    /// This attempt [default: the last]
    #[arg(long, value_name = "N", conflicts_with = "follow")]
    attempt: Option<u32>,

    /// Its standard output only
    #[arg(long, conflicts_with = "stderr")]
    stdout: bool,

    /// Its standard error only
    #[arg(long)]
    stderr: bool,

    /// Put before each line when it was written
    #[arg(short, long)]
    timestamps: bool,
}

impl Tail {
    pub(super) async fn run(self, context: &Context) -> Result<ExitCode> {
        let home = self.everywhere.home(context, &self.job).await?;
        let context = home.as_ref().unwrap_or(context);
        let jobs = self.job.find(context).await?;
        for job in &jobs {
            if jobs.len() > 1 && !context.quiet() {
                let gap = if job.number == jobs[0].number { "" } else { "\n" };
                raw(format!("{gap}==> job {} <==\n", job.number).as_bytes())?;
            }
            self.show(context, job.number).await?;
        }
        Ok(ExitCode::SUCCESS)
    }

    /// What there is of one job, and with --follow what comes.
    async fn show(&self, context: &Context, number: Number) -> Result<()> {
        let only = match (self.stdout, self.stderr) {
            (true, _) => Some(Stream::Stdout),
            (_, true) => Some(Stream::Stderr),
            _ => None,
        };
        let mut printer = Printer { only, timestamps: self.timestamps, ..Printer::default() };
        let mut reader = Reader { number, attempt: self.attempt, after: None };
        let mut last = match self.lines {
            Some(n) => LastLines::new(n),
            None => LastLines::all(),
        };
        // What there is so far.
        let state = loop {
            let reply = context.queue()?.call(reader.op()).await?;
            let empty = reply.chunks.is_empty();
            reader.seen(&reply);
            for chunk in reply.chunks {
                if printer.wants(&chunk) {
                    last.push(chunk, &mut printer)?;
                }
            }
            if empty {
                break reply.state;
            }
        };
        last.flush(&mut printer)?;
        if self.follow && !state.is_terminal() {
            follow_from(context, reader, &mut printer, Voice::watcher()).await?;
        }
        Ok(())
    }
}

/// What is said beside the output of a job that is followed.
pub(super) struct Voice {
    stall: Stall,
    /// What happens between two attempts.
    between: Option<Between>,
}

impl Voice {
    pub(super) fn watcher() -> Self {
        Self { stall: Stall::of_watcher(), between: None }
    }

    /// That of `orx run`, which can run the job itself or has to leave it to others.
    pub(super) fn run(can: bool) -> Self {
        let stall = if can { Stall::of_run() } else { Stall::of_watcher() };
        Self { stall, between: Some(Between::default()) }
    }

    /// `attempt` has ended, and there is one more.
    async fn ended(&mut self, context: &Context, job: &Job, attempt: u32) -> Result<()> {
        match &mut self.between {
            Some(between) => between.tell(context, job, attempt).await,
            None => Ok(()),
        }
    }

    /// The job waits.
    async fn waits(&mut self, context: &Context, job: Job) -> Result<()> {
        // Whoever was told of its last attempt knows why it waits.
        let told = self.between.is_some() && job.attempt > 0 && job.state == State::Scheduled;
        let left = if told { &[][..] } else { std::slice::from_ref(&job) };
        self.stall.look(context, left).await
    }
}

/// Prints the output of a job from its start until it has ended for good, through all its attempts.
pub(super) async fn follow(context: &Context, number: Number, voice: Voice) -> Result<Job> {
    let mut printer = Printer { deaf: true, ..Printer::default() };
    follow_from(context, Reader { number, attempt: Some(1), after: None }, &mut printer, voice).await
}

async fn follow_from(context: &Context, mut reader: Reader, printer: &mut Printer, mut voice: Voice) -> Result<Job> {
    let queue = context.queue()?;
    let mut changes = queue.subscribe(Topics::OUTPUT | Topics::JOBS)?;
    loop {
        let jobs = queue.call(GetJobs { numbers: vec![reader.number], detail: false }).await?;
        let Some(job) = jobs.into_iter().next() else {
            return Err(Error::not_found(format!("job {} was pruned", reader.number)));
        };
        // The state was read first: whatever was written before the end is there when we look now.
        let current = reader.attempt.unwrap_or(job.attempt).max(1);
        reader.attempt = Some(current);
        if job.attempt >= current {
            let reply = queue.call(reader.op()).await?;
            let more = !reply.chunks.is_empty();
            reader.seen(&reply);
            let lost;
            (*printer, lost) = print_aside(std::mem::take(printer), reply.chunks).await?;
            if let Some(error) = lost {
                ui::say(context, &format!("orx: {error}; job {} goes on", reader.number));
            }
            if more {
                continue;
            }
            if reply.ended && job.attempt > current {
                voice.ended(context, &job, current).await?;
                reader.attempt = Some(current + 1);
                reader.after = None;
                continue;
            }
        }
        if job.state.is_terminal() {
            return Ok(job);
        }
        if job.attempt == current && job.state != State::Running {
            voice.ended(context, &job, current).await?;
        }
        voice.waits(context, job).await?;
        changes.changed(voice.stall.at()).await;
    }
}

/// Prints on another thread: a pager that stops reading must not stop a worker that lives in this process.
///
/// Gives the first error of one that is deaf, if a person should read of it.
async fn print_aside(mut printer: Printer, chunks: Vec<Chunk>) -> Result<(Printer, Option<Error>)> {
    let printing = tokio::task::spawn_blocking(move || {
        let mut lost = None;
        for chunk in &chunks {
            match printer.print(chunk) {
                Err(error) if printer.deaf => {
                    let news = !std::mem::replace(&mut printer.failed, true) && !is_unread(&error);
                    lost = lost.or(news.then_some(error));
                }
                printed => printed?,
            }
        }
        Ok((printer, lost))
    });
    printing.await.map_err(|e| Error::failed("printing failed").source(e))?
}

/// Where in a job's output we are.
struct Reader {
    number: Number,
    attempt: Option<u32>,
    after: Option<u32>,
}

impl Reader {
    fn op(&self) -> ReadOutput {
        ReadOutput { number: self.number, attempt: self.attempt, after: self.after }
    }

    fn seen(&mut self, reply: &OutputReply) {
        if reply.attempt > 0 {
            self.attempt = Some(reply.attempt); // stay with it though a retry begins
        }
        self.after = reply.chunks.last().map(|c| c.seq).or(self.after);
    }
}

/// Writes chunks where they belong.
#[derive(Default)]
struct Printer {
    only: Option<Stream>,
    timestamps: bool,
    /// Goes on though it cannot print: `run` wants the job's end, not its output.
    deaf: bool,
    /// Something could not be printed.
    failed: bool,
    inside_line: [bool; 2],
}

impl Printer {
    fn wants(&self, chunk: &Chunk) -> bool {
        self.only.is_none_or(|only| only == chunk.stream)
    }

    fn print(&mut self, chunk: &Chunk) -> Result<()> {
        if !self.wants(chunk) {
            return Ok(());
        }
        if chunk.gap > 0 {
            raw_err(format!("[orx: {} bytes cut]\n", chunk.gap).as_bytes())?;
        }
        self.write(chunk.stream, chunk.at, &chunk.bytes)
    }

    fn write(&mut self, stream: Stream, at: Timestamp, bytes: &[u8]) -> Result<()> {
        let stamped;
        let bytes = match self.timestamps {
            true => {
                stamped = self.stamp(stream, at, bytes);
                &stamped
            }
            false => bytes,
        };
        match stream {
            Stream::Stdout => raw(bytes),
            Stream::Stderr => raw_err(bytes),
        }
    }

    fn stamp(&mut self, stream: Stream, at: Timestamp, bytes: &[u8]) -> Vec<u8> {
        let inside = &mut self.inside_line[stream as usize];
        let mut out = Vec::with_capacity(bytes.len() + 32);
        for line in bytes.split_inclusive(|b| *b == b'\n') {
            if !*inside {
                out.extend_from_slice(format!("{at} ").as_bytes());
            }
            out.extend_from_slice(line);
            *inside = !line.ends_with(b"\n");
        }
        out
    }
}

/// Keeps the last lines of what it gets, or passes everything on.
struct LastLines {
    limit: Option<usize>,
    kept: VecDeque<Chunk>,
}

impl LastLines {
    fn all() -> Self {
        Self { limit: None, kept: VecDeque::new() }
    }

    fn new(lines: usize) -> Self {
        Self { limit: Some(lines), kept: VecDeque::new() }
    }

    fn push(&mut self, chunk: Chunk, printer: &mut Printer) -> Result<()> {
        let Some(limit) = self.limit else {
            return printer.print(&chunk);
        };
        let mut gap = chunk.gap; // before its first line
        for line in chunk.bytes.split_inclusive(|b| *b == b'\n') {
            match self.kept.back_mut() {
                Some(last) if gap == 0 && !last.bytes.ends_with(b"\n") && last.stream == chunk.stream => {
                    last.bytes.extend_from_slice(line);
                }
                _ => self.kept.push_back(Chunk { bytes: line.to_vec(), gap, ..chunk.clone() }),
            }
            gap = 0;
            if self.kept.len() > limit {
                self.kept.pop_front();
            }
        }
        Ok(())
    }

    fn flush(self, printer: &mut Printer) -> Result<()> {
        self.kept.iter().try_for_each(|line| printer.print(line))
    }
}
