//! Follows a job to its end, and prints what it writes.

use std::io::IsTerminal as _;

use super::context::Context;
use super::printing::{Piece, Printer};
use super::stall::{Between, Stall};
use super::{exit, ui};
use crate::error::{Error, Result};
use crate::job::output::Chunk;
use crate::job::{Fence, Job, Number, State};
use crate::ops::jobs::GetJobs;
use crate::ops::output::{OutputReply, ReadOutput};
use crate::store::Topics;
use crate::worker::tee::Listener;

/// How a job is followed: what is said beside its output, and of which attempts that is printed.
pub(super) struct Voice {
    last_only: bool,
    stall: Stall,
    /// What happens between two attempts.
    between: Option<Between>,
}

impl Voice {
    pub(super) fn watcher() -> Self {
        Self { last_only: false, stall: Stall::of_watcher(), between: None }
    }

    /// That of `orx run`, which can run the job itself or has to leave it to others, and prints the output of all attempts
    /// or of the last alone.
    pub(super) fn run(can: bool, last_only: bool) -> Self {
        let stall = if can { Stall::of_run() } else { Stall::of_watcher() };
        Self { last_only, stall, between: Some(Between::default()) }
    }

    /// `attempt` of the job has begun: what comes is of that.
    fn begins(&mut self, context: &Context, job: &Job, attempt: u32) {
        if let Some(between) = &mut self.between {
            between.begins(context, job, attempt);
        }
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

/// A job that was followed to its end.
pub(super) struct Followed {
    job: Job,
    /// What is lacking of its output, if anything is.
    lack: Option<String>,
}

impl Followed {
    /// One whose output nobody was to print.
    pub(super) fn unheard(job: Job) -> Self {
        Self { job, lack: None }
    }

    /// Says what nobody else says, and gives the exit code: 125 for a job that is done, where a program was to get all of
    /// its output and did not.
    pub(super) fn conclude(&self, context: &Context) -> u8 {
        if let Some(why) = exit::explain(&self.job) {
            ui::say(context, &why);
        }
        let code = exit::exit_code(&self.job);
        let Some(lack) = &self.lack else { return code };
        let text = format!("job {}: {lack}", self.job.number);
        if code != 0 || !is_for_programs() {
            ui::say(context, &format!("orx: {text}"));
            return code;
        }
        let hint = format!("orx status {} tells how it ended, orx tail what is kept", self.job.number);
        let error = Error::failed(text).hint(hint);
        ui::print_error(&error, context.manner());
        exit::own_error(error.kind())
    }
}

/// Whether standard output goes to a file or a program: to no terminal, and not to nowhere.
fn is_for_programs() -> bool {
    let out = std::io::stdout();
    let is_null = rustix::fs::fstat(&out).is_ok_and(|out| {
        let null = rustix::fs::stat("/dev/null");
        null.is_ok_and(|null| (out.st_rdev, out.st_mode) == (null.st_rdev, null.st_mode))
    });
    !(is_null || out.is_terminal())
}

/// Prints the output of a job from its start until it has ended for good, through all its attempts; or that of the last
/// alone, at the end, where the voice says so.
///
/// What this process runs is heard by the `listener`, every byte of it; the store keeps less (S28).
pub(super) async fn follow(
    context: &Context,
    number: Number,
    voice: Voice,
    listener: Option<&Listener>,
) -> Result<Followed> {
    let printer = Printer::deaf(voice.last_only);
    let (job, printer) = follow_from(context, Reader::new(number, Some(1)), printer, voice, listener).await?;
    let printer = say_lost(context, number, printer.aside(Printer::release).await?);
    Ok(Followed { job, lack: printer.lack() })
}

pub(super) async fn follow_from(
    context: &Context,
    mut reader: Reader,
    mut printer: Printer,
    mut voice: Voice,
    listener: Option<&Listener>,
) -> Result<(Job, Printer)> {
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
        let mut next = current + 1;
        if job.attempt >= current && !reader.heard {
            voice.begins(context, &job, current);
            let reply = queue.call(reader.op()).await?;
            next = reply.next.unwrap_or(next);
            // One that this process runs is heard before anything of it is stored, so nothing of it was printed yet.
            let fence = Fence { number: job.number, attempt: current };
            if let Some(listener) = listener.filter(|listener| listener.hears(fence)) {
                while let Some(said) = listener.next(fence).await {
                    let pieces: Vec<Piece> = said.into_iter().map(Piece::from).collect();
                    let printed = printer.aside(move |printer| printer.print_all(&pieces)).await?;
                    printer = say_lost(context, job.number, printed);
                }
                listener.forget(fence);
                reader.heard = true;
                continue; // how it ended may be known by now
            }
            let lost = reply.lost && !std::mem::replace(&mut reader.marked, reply.lost);
            let pieces = reader.pieces(reply);
            if !pieces.is_empty() {
                let printed = printer.aside(move |printer| printer.print_all(&pieces)).await?;
                printer = say_lost(context, job.number, printed);
                continue;
            }
            if lost {
                printer = say_lost(context, job.number, printer.aside(Printer::lost).await?);
            }
        }
        let has_ended = job.attempt > current || (job.attempt == current && job.state != State::Running);
        if has_ended && (job.attempt > current || !job.state.is_terminal()) {
            voice.ended(context, &job, current).await?;
        }
        if job.attempt > current {
            reader.turn_to(next);
            printer.restart();
            continue;
        }
        if job.state.is_terminal() {
            return Ok((job, printer));
        }
        voice.waits(context, job).await?;
        tokio::select! {
            _ = changes.changed(voice.stall.at()) => {}
            () = begun(listener) => {}
        }
    }
}

/// Waits until something begins that this process runs.
async fn begun(listener: Option<&Listener>) {
    match listener {
        Some(listener) => listener.begun().await,
        None => std::future::pending().await,
    }
}

/// Says that output cannot be printed, if it is so.
fn say_lost(context: &Context, number: Number, (printer, lost): (Printer, Option<Error>)) -> Printer {
    if let Some(error) = lost {
        ui::say(context, &format!("orx: {error}; job {number} goes on"));
    }
    printer
}

/// Where in a job's output we are.
pub(super) struct Reader {
    number: Number,
    attempt: Option<u32>,
    after: Option<u32>,
    /// How many bytes there were before what comes.
    place: u64,
    /// All of the attempt was heard, and nothing of it is to be read.
    heard: bool,
    /// It was said that it is lost.
    pub(super) marked: bool,
}

impl Reader {
    /// At the beginning of an attempt; none: of the last.
    pub(super) fn new(number: Number, attempt: Option<u32>) -> Self {
        Self { number, attempt, after: None, place: 0, heard: false, marked: false }
    }

    pub(super) fn op(&self) -> ReadOutput {
        ReadOutput { number: self.number, attempt: self.attempt, after: self.after }
    }

    /// What was read, to be printed, and goes behind it.
    pub(super) fn pieces(&mut self, reply: OutputReply) -> Vec<Piece> {
        if reply.attempt > 0 {
            self.attempt = Some(reply.attempt); // stay with it though a retry begins
        }
        let piece = |chunk: Chunk| {
            let place = std::mem::replace(&mut self.place, chunk.end());
            self.after = Some(chunk.seq);
            Piece::after(place, chunk)
        };
        reply.chunks.into_iter().map(piece).collect()
    }

    fn turn_to(&mut self, attempt: u32) {
        *self = Self::new(self.number, Some(attempt));
    }
}
