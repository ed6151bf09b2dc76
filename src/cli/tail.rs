//! `orx tail`

use std::process::ExitCode;

use clap::Args;

use super::context::Context;
use super::everywhere::Everywhere;
use super::follow::{Reader, Voice, follow_from};
use super::printing::{LastLines, Printer};
use super::select::Jobs;
use super::view::raw;
use crate::error::Result;
use crate::job::Number;
use crate::job::output::Stream;

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
        let mut printer = Printer::new(only, self.timestamps);
        let mut reader = Reader::new(number, self.attempt);
        let mut last = LastLines::new(self.lines);
        // What there is so far.
        let (state, lost) = loop {
            let reply = context.queue()?.call(reader.op()).await?;
            let (state, lost) = (reply.state, reply.lost);
            let pieces = reader.pieces(reply);
            if pieces.is_empty() {
                break (state, lost);
            }
            pieces.into_iter().try_for_each(|piece| last.push(piece, &mut printer))?;
        };
        last.flush(&mut printer)?;
        if lost {
            reader.marked = true;
            printer.lost()?;
        }
        if self.follow && !state.is_terminal() {
            follow_from(context, reader, printer, Voice::watcher(), None).await?;
        }
        Ok(())
    }
}
