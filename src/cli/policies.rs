//! `orx queue`, `orx tenant`, `orx limit`

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::context::Context;
use super::ui;
use crate::error::{Error, Result};
use crate::ops::policies::{LimitChange, ListPolicies, PauseQueue, SetLimit, SetQueue, SetTenant};
use crate::ops::sharing::ShareQueue;

#[derive(Args)]
#[command(after_help = "\
Examples:
  orx queue list
  orx queue pause build
  orx queue set build --max-running 4")]
pub(super) struct Queue {
    #[command(subcommand)]
    command: QueueSubcommand,
}

#[derive(Subcommand)]
enum QueueSubcommand {
    /// List the queues with their limits and what they hold
    #[command(visible_alias = "ls", after_help = "Example:\n  orx queue list -o json")]
    List,
    /// Hand out no more jobs of a queue; running ones go on
    #[command(after_help = "Example:\n  orx queue pause build")]
    Pause {
        /// The queue
        #[arg(add = super::select::queue_candidates())]
        queue: String,
    },
    /// Hand out jobs of a queue again
    #[command(after_help = "Example:\n  orx queue resume build")]
    Resume {
        /// The queue
        #[arg(add = super::select::queue_candidates())]
        queue: String,
    },
    /// Change what a queue allows
    #[command(after_help = "\
Examples:
  orx queue set build --max-running 4 --max-queued none
  orx queue set build --share no            its jobs run on this coordinator's workers only")]
    Set {
        /// The queue
        #[arg(add = super::select::queue_candidates())]
        queue: String,
        #[command(flatten)]
        limits: Limits,
        /// Whether other nodes of a cluster may run its jobs
        #[arg(long, value_name = "YES|NO", value_parser = yes_or_no)]
        share: Option<bool>,
    },
}

#[derive(Args)]
#[command(after_help = "Example:\n  orx tenant set acme --max-running 10 --max-queued 1000")]
pub(super) struct Tenant {
    #[command(subcommand)]
    command: TenantSubcommand,
}

#[derive(Subcommand)]
enum TenantSubcommand {
    /// List the tenants with their limits and what they have
    #[command(visible_alias = "ls", after_help = "Example:\n  orx tenant list")]
    List,
    /// Change what a tenant may
    #[command(after_help = "\
Examples:
  orx tenant set acme --max-running 10 --per-minute 600
  orx tenant set '*' --max-queued 1000      what tenants may that are new")]
    Set {
        /// The tenant; '*' for those that are new
        tenant: String,
        #[command(flatten)]
        limits: Limits,
    },
}

#[derive(Args)]
#[command(after_help = "Example:\n  orx limit set db --max-running 2")]
pub(super) struct Limit {
    #[command(subcommand)]
    command: LimitSubcommand,
}

#[derive(Subcommand)]
enum LimitSubcommand {
    /// List the named limits and how much of them is used
    #[command(visible_alias = "ls", after_help = "Example:\n  orx limit list")]
    List,
    /// Change how many running jobs may share a key
    #[command(after_help = "Example:\n  orx limit set db --max-running 2")]
    Set {
        /// The key
        key: String,
        /// Jobs at once
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        max_running: u32,
        /// Whose limit
        #[arg(long, default_value = "default")]
        tenant: String,
    },
}

#[derive(Args)]
struct Limits {
    /// Jobs at once; none: as many as there are slots
    #[arg(long, value_name = "N", value_parser = number)]
    max_running: Option<u32>,

    /// Unfinished jobs; more are refused with exit code 8; none: any number
    #[arg(long, value_name = "N", value_parser = number)]
    max_queued: Option<u32>,

    /// Jobs submitted in any minute; more are refused with exit code 8; none: any number
    #[arg(long, value_name = "N", value_parser = number)]
    per_minute: Option<u32>,

    /// Size of a payload or standard input, such as 64k or 1M; none: what orx takes
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_payload: Option<u32>,
}

/// Bytes from 1, with k, M or G for powers of 1,024, or `none`, which is 0 inside.
fn size(text: &str) -> Result<u32, String> {
    u32::try_from(bytes(text)?).map_err(|_| format!("{text} is more than any payload may have"))
}

/// The same of more.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let (digits, unit) = match text.to_ascii_lowercase().trim_end_matches('b') {
        "none" => return Ok(0),
        other => match other.find(|c: char| !c.is_ascii_digit()) {
            Some(at) => (other[..at].to_owned(), other[at..].to_owned()),
            None => (other.to_owned(), String::new()),
        },
    };
    let shift = match unit.as_str() {
        "" => 0,
        "k" | "ki" => 10,
        "m" | "mi" => 20,
        "g" | "gi" => 30,
        _ => 64,
    };
    let bytes = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(1u64.checked_shl(shift)?));
    match bytes {
        Some(n @ 1..) => Ok(n),
        _ => Err("use a size from 1 byte, such as 4096, 64k or 1M, or none".into()),
    }
}

fn yes_or_no(text: &str) -> Result<bool, String> {
    match text {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err("use yes or no".into()),
    }
}

/// A number from 1, or `none`, which is 0 inside.
fn number(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(n @ 1..) => Ok(n),
        _ if text == "none" => Ok(0),
        _ => Err("use a number from 1, or none".into()),
    }
}

impl Limits {
    fn is_given(&self) -> bool {
        [self.max_running, self.max_queued, self.per_minute, self.max_payload].iter().any(Option::is_some)
    }

    fn change(self) -> Result<LimitChange> {
        let Self { max_running, max_queued, per_minute, max_payload } = self;
        let change = LimitChange { max_running, max_queued, per_minute, max_payload };
        match change == LimitChange::default() {
            true => Err(Error::usage("nothing to change")
                .hint("use --max-running, --max-queued, --per-minute or --max-payload")),
            false => Ok(change),
        }
    }
}

impl Queue {
    pub(super) fn makes_store(&self) -> bool {
        matches!(self.command, QueueSubcommand::Pause { .. } | QueueSubcommand::Set { .. })
    }

    pub(super) async fn run(self, context: &Context) -> Result<ExitCode> {
        let queue = context.queue()?;
        match self.command {
            QueueSubcommand::List => {
                let view = context.view()?;
                let queues = queue.call(ListPolicies {}).await?.queues;
                match view.is_for_people() {
                    true => view.dense_table(&queues, &["QUEUE", "PENDING", "RUNNING", "DONE", "FAILED"])?,
                    false => view.rows(&queues)?,
                }
            }
            QueueSubcommand::Pause { queue } => pause(context, queue, true).await?,
            QueueSubcommand::Resume { queue } => pause(context, queue, false).await?,
            QueueSubcommand::Set { queue: name, limits, share } => {
                if let Some(shared) = share {
                    queue.call(ShareQueue { queue: name.clone(), shared }).await?;
                }
                if share.is_none() || limits.is_given() {
                    queue.call(SetQueue { queue: name, change: limits.change()? }).await?;
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Pauses or resumes, and says so: a name that nobody uses may be a slip.
async fn pause(context: &Context, name: String, paused: bool) -> Result<()> {
    let queue = context.queue()?;
    let known = queue.call(ListPolicies {}).await.map(|all| all.queues.iter().any(|queue| queue.name == name));
    queue.call(PauseQueue { queue: name.clone(), paused }).await?;
    let done = if paused { "paused" } else { "resumed" };
    // Who may pause may perhaps not read.
    let unused = if known.unwrap_or(true) { "" } else { "; no job has used it yet" };
    ui::say(context, &format!("queue {name} {done}{unused}"));
    Ok(())
}

impl Tenant {
    pub(super) fn makes_store(&self) -> bool {
        matches!(self.command, TenantSubcommand::Set { .. })
    }

    pub(super) async fn run(self, context: &Context) -> Result<ExitCode> {
        let queue = context.queue()?;
        match self.command {
            TenantSubcommand::List => context.view()?.rows(&queue.call(ListPolicies {}).await?.tenants)?,
            TenantSubcommand::Set { tenant, limits } => {
                queue.call(SetTenant { tenant, change: limits.change()? }).await?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Limit {
    pub(super) fn makes_store(&self) -> bool {
        matches!(self.command, LimitSubcommand::Set { .. })
    }

    pub(super) async fn run(self, context: &Context) -> Result<ExitCode> {
        let queue = context.queue()?;
        match self.command {
            LimitSubcommand::List => context.view()?.rows(&queue.call(ListPolicies {}).await?.limits)?,
            LimitSubcommand::Set { key, max_running, tenant } => {
                queue.call(SetLimit { tenant, key, max_running }).await?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
