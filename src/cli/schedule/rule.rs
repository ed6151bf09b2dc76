//! The options that say when a schedule is due.

use clap::Args;

use crate::cli::context::Context;
use crate::error::{Error, Result};
use crate::job::plan::{CatchUp, Overlap};
use crate::job::{Definition, Rule, RuleKind};
use crate::time::{Span, Timestamp, system_zone};

/// When a schedule is due: one of the first four, and what narrows it down.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "When it is due")]
pub(in crate::cli) struct RuleOptions {
    /// A crontab line: minute hour day month weekday (with seconds in front where there are six), or @daily and the like
    #[arg(long, value_name = "EXPR", group = "rule")]
    cron: Option<String>,

    /// At even distances of real time (90s, 1h30m, 2d)
    #[arg(long, value_name = "DURATION", group = "rule")]
    every: Option<String>,

    /// Once (RFC 3339, or a local time)
    #[arg(long, value_name = "TIME", group = "rule")]
    at: Option<String>,

    /// A repeating interval of ISO 8601: R5/2026-01-01T00:00:00Z/P1D
    #[arg(long, value_name = "INTERVAL", group = "rule")]
    iso: Option<String>,

    /// The time zone it speaks of, such as Europe/Berlin [default: this machine's]
    #[arg(long, value_name = "ZONE")]
    tz: Option<String>,

    /// Nothing is due before; --every counts from here
    #[arg(long, value_name = "TIME")]
    start: Option<String>,

    /// Nothing is due after
    #[arg(long, value_name = "TIME")]
    end: Option<String>,
}

impl RuleOptions {
    fn kind(&self) -> Option<(RuleKind, &str)> {
        let given = [
            (RuleKind::Cron, &self.cron),
            (RuleKind::Every, &self.every),
            (RuleKind::At, &self.at),
            (RuleKind::Iso, &self.iso),
        ];
        given.into_iter().find_map(|(kind, text)| Some((kind, text.as_deref()?)))
    }

    /// The rule of a new schedule.
    ///
    /// # Errors
    /// `Usage` where none is given.
    pub(in crate::cli) fn rule(&self, context: &Context) -> Result<Rule> {
        let Some((kind, expression)) = self.kind() else {
            return Err(Error::usage("nothing says when it is due")
                .hint("use --cron '0 2 * * *', --every 5m, --at TIME or --iso R5/2026-01-01T00:00:00Z/P1D"));
        };
        let mut rule = Rule {
            kind,
            expression: expression.to_owned(),
            tz: self.tz.clone().unwrap_or_else(system_zone),
            start: None,
            end: None,
            created_at: context.clock.now(),
        };
        self.narrow(context, &mut rule)?;
        Ok(rule)
    }

    /// Changes what is given of `rule`.
    ///
    /// # Errors
    /// `Usage` where a time is not understood.
    pub(in crate::cli) fn change(&self, context: &Context, rule: &mut Rule) -> Result<()> {
        if let Some((kind, expression)) = self.kind() {
            (rule.kind, rule.expression) = (kind, expression.to_owned());
        }
        if let Some(tz) = &self.tz {
            rule.tz.clone_from(tz);
        }
        self.narrow(context, rule)
    }

    fn narrow(&self, context: &Context, rule: &mut Rule) -> Result<()> {
        let (now, tz) = (context.clock.now(), rule.tz.clone());
        let time = |text: &String| Timestamp::parse(text, Some(&tz), now).map(Some).map_err(Error::usage);
        if let Some(start) = &self.start {
            rule.start = time(start)?;
        }
        if let Some(end) = &self.end {
            rule.end = time(end)?;
        }
        Ok(())
    }
}

/// How a schedule fires.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "How it fires")]
pub(in crate::cli) struct FiringOptions {
    /// What becomes of an occurrence whose predecessor is not finished: skip, queue, allow or cancel [default: skip]
    #[arg(long, value_name = "WHAT")]
    overlap: Option<Overlap>,

    /// What is made up for after downtime: all, last (the newest due), none, the last N, or those of the last DURATION [default: last]
    #[arg(long, value_name = "WHAT")]
    catch_up: Option<CatchUp>,

    /// Start each run up to this much later, by chance
    #[arg(long, value_name = "DURATION")]
    jitter: Option<Span>,
}

impl FiringOptions {
    /// Changes what is given of `definition`.
    pub(in crate::cli) fn change(&self, definition: &mut Definition) {
        definition.overlap = self.overlap.unwrap_or(definition.overlap);
        definition.catch_up = self.catch_up.unwrap_or(definition.catch_up);
        definition.jitter = self.jitter.unwrap_or(definition.jitter);
    }
}
