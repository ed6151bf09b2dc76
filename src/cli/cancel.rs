//! `orx cancel`

use std::process::ExitCode;

use clap::Args;

use super::context::Context;
use super::everywhere::Everywhere;
use super::select::JobsOrAll;
use crate::error::{Error, Kind, Result};
use crate::job::State;
use crate::ops::cancel::{self, Did};
use crate::store::CancelRequest;
use crate::time::Span;

#[derive(Args)]
#[command(after_help = "\
Examples:
  orx cancel 42 --reason 'wrong branch'
  orx cancel 5-8 last
  orx cancel @team=web --signal INT --grace 1m --yes
  orx cancel --all --queue build --yes

Exit code: 5 when a job that was named had ended before.")]
pub(super) struct Cancel {
    #[command(flatten)]
    jobs: JobsOrAll,

    #[command(flatten)]
    everywhere: Everywhere,

    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,

    /// The first signal for one that runs [default: TERM]
    #[arg(long, value_name = "SIG", value_parser = signal)]
    signal: Option<i32>,

    /// Time until SIGKILL [default: the job's own]
    #[arg(long, value_name = "DURATION")]
    grace: Option<Span>,
}

/// The signals that have a name on every Linux.
const SIGNALS: [(&str, i32); 31] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// `TERM`, `SIGTERM`, `term` or `15`.
fn signal(text: &str) -> Result<i32, String> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let number = text.parse().ok();
    let found = SIGNALS.iter().find(|(n, value)| *n == name || Some(*value) == number);
    found.map(|(_, value)| *value).ok_or_else(|| "there is no such signal".into())
}

/// `SIGTERM` for 15.
pub(super) fn signal_name(signal: i32) -> String {
    match SIGNALS.iter().find(|(_, value)| *value == signal) {
        Some((name, _)) => format!("SIG{name}"),
        None => format!("signal {signal}"),
    }
}

impl Cancel {
    pub(super) async fn run(self, context: &Context) -> Result<ExitCode> {
        let home = match self.everywhere.is_asked() {
            true => self.everywhere.home(context, self.jobs.named_ones()?).await?,
            false => None,
        };
        let context = home.as_ref().unwrap_or(context);
        let unfinished = [State::Blocked, State::Scheduled, State::Pending, State::Running];
        let found = self.jobs.find(context, "Cancel", &unfinished, &unfinished).await?;
        // Who is chosen among others may end meanwhile: that is what was wanted of it.
        let named = self.jobs.one_by_one(context).await?;
        let op = cancel::Cancel {
            numbers: found.iter().map(|job| job.number).collect(),
            reason: self.reason,
            how: CancelRequest { signal: self.signal, grace: self.grace },
        };
        let replies = context.queue()?.call(op).await?;
        let view = context.view()?;
        if !(view.is_for_people() && (context.quiet() || replies.is_empty())) {
            view.rows(&replies)?;
        }
        let late = replies.iter().filter(|r| r.did == Did::TooLate && r.state != State::Cancelled);
        let late: Vec<_> = late.filter(|r| named.contains(&r.number)).collect();
        match late.as_slice() {
            [] => Ok(ExitCode::SUCCESS),
            [one] => Err(Error::new(Kind::Conflict, format!("job {} is {} already", one.number, one.state))),
            many => Err(Error::new(Kind::Conflict, format!("{} jobs had ended already", many.len()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_by_name_and_number() {
        for text in ["TERM", "SIGTERM", "sigterm", "15"] {
            assert_eq!(signal(text), Ok(15));
        }
        for bad in ["", "SIG", "TERMX", "0", "99", "-9"] {
            assert!(signal(bad).is_err(), "{bad}");
        }
        assert_eq!((signal_name(9), signal_name(40)), ("SIGKILL".into(), "signal 40".into()));
    }
}
