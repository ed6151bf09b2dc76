//! Follows a job to its end, and prints what it writes.

use super::context::Context;
use super::printing::{Piece, Printer};
use super::stall::{Between, Stall};
use super::ui;
use crate::error::{Error, Result};
use crate::job::output::Chunk;
use crate::job::{Fence, Job, Number, State};
use crate::ops::jobs::GetJobs;
use crate::ops::output::{OutputReply, ReadOutput};
use crate::store::Topics;
use crate::worker::tee::Listener;

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
///
/// What this process runs is heard by the `listener`, every byte of it; the store keeps less (S28).
pub(super) async fn follow(
    context: &Context,
    number: Number,
    voice: Voice,
    listener: Option<&Listener>,
) -> Result<Job> {
    follow_from(context, Reader::new(number, Some(1)), Printer::deaf(), voice, listener).await
}

pub(super) async fn follow_from(
    context: &Context,
    mut reader: Reader,
    mut printer: Printer,
    mut voice: Voice,
    listener: Option<&Listener>,
) -> Result<Job> {
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
        if job.attempt >= current && !reader.heard {
            let reply = queue.call(reader.op()).await?;
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
            reader.turn_to(current + 1);
            continue;
        }
        if job.state.is_terminal() {
            return Ok(job);
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
