//! `orx schedule add` and `update`

use std::sync::Arc;

use clap::{Args, ValueEnum};
use serde_json::value::to_raw_value;

use super::rule::{FiringOptions, RuleOptions};
use crate::cli::context::Context;
use crate::cli::job_options::{JobOptions, captured};
use crate::cli::view::words::relative;
use crate::cli::workflow::read_scheduled;
use crate::cli::{entering, ui};
use crate::error::{Error, Result};
use crate::job::json_text::{Members, members, read_members};
use crate::job::plan::{CatchUp, Overlap};
use crate::job::{Captured, Definition, JobSpec, JsonText, ScheduleId, Target};
use crate::ops::schedules::Named;
use crate::ops::schedules::change::{AddSchedule, Apply, UpdateSchedule};
use crate::ops::schedules::look::{ScheduleView, ShowSchedule};
use crate::time::Span;

/// Add a schedule that stores a job, or a run of a workflow, each time it is due
///
/// Prints its id. The jobs carry the label schedule=NAME and find ORX_SCHEDULED_FOR in their environment. With --workflow the
/// options of jobs belong into the file; only --env NAME takes a variable from here for all of them.
#[derive(Args)]
#[command(
    override_usage = "orx schedule add NAME --cron EXPR [OPTIONS] -- CMD [ARG]...\n       orx schedule add NAME --every DURATION [OPTIONS] -- CMD [ARG]...\n       orx schedule add NAME --at TIME [OPTIONS] -- CMD [ARG]...\n       orx schedule add NAME --iso INTERVAL [OPTIONS] -- CMD [ARG]...\n       orx schedule add NAME RULE --workflow FILE",
    after_help = "\
Examples:
  orx schedule add nightly --cron '0 2 * * *' --tz Europe/Berlin --max-attempts 3 -- ./backup.sh
  orx schedule add poll --every 5m --catch-up none -- ./poll.sh
  orx schedule add launch --at '2037-03-02 09:00' --tz America/New_York -- ./launch.sh
  orx schedule add payroll --iso R12/2026-01-31T18:00/P1M -- ./payroll.sh
  orx schedule add build --cron '30 1 * * *' --overlap cancel --workflow nightly.toml"
)]
pub(super) struct Add {
    /// What it is called: letters, digits and - _ . : / @ +
    #[arg(value_name = "NAME")]
    schedule: String,

    #[command(flatten)]
    rule: RuleOptions,

    #[command(flatten)]
    firing: FiringOptions,

    /// Run this workflow (TOML or JSON; - for standard input) instead of a command
    #[arg(long, value_name = "FILE", conflicts_with = "command")]
    workflow: Option<String>,

    #[command(flatten)]
    options: JobOptions,

    /// The program and its arguments, after --
    #[arg(value_name = "CMD", last = true, help_heading = "Arguments")]
    command: Vec<String>,
}

impl Add {
    pub(super) async fn run(self, context: &Context) -> Result<()> {
        let around = self.options.captured(context)?;
        let target = match &self.workflow {
            Some(file) => {
                refuse_options(&self.options.spec(Vec::new())?)?;
                Target::Workflow(read_scheduled(file)?.0)
            }
            None => Target::Job(Box::new(self.options.spec(self.command)?)),
        };
        let mut definition = Definition {
            rule: self.rule.rule(context)?,
            overlap: Overlap::default(),
            catch_up: CatchUp::default(),
            jitter: Span::ZERO,
            target,
            captured: Arc::new(around),
        };
        self.firing.change(&mut definition);
        definition.check()?; // before a store is made for it
        let own = match &definition.target {
            Target::Job(spec) => spec.cwd.clone(),
            Target::Workflow(_) => None,
        };
        let dir = own.or_else(|| definition.captured.cwd.clone());
        let mut chance = [0; 10];
        chance.copy_from_slice(&uuid::Uuid::new_v4().as_bytes()[..10]);
        let id = ScheduleId::new(context.clock.now(), chance);
        let added = context.queue()?.call(AddSchedule { id, name: self.schedule, definition }).await?;
        say(context, "added", &added);
        entering::warn(context, None, dir.as_deref()).await;
        context.view()?.one(&added, |view| view.ids([added.id]))
    }
}

/// From when on the new version holds.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum ApplyWord {
    /// From now on
    #[default]
    Now,
    /// After the instant that is due next, which stays as it was
    Next,
}

/// Change a schedule: what is not named stays as it is
///
/// Runs that were made stay as they are. The job's options are changed one by one; --env, --label and --require add.
#[derive(Args)]
#[command(
    override_usage = "orx schedule update SCHEDULE [OPTIONS] [-- CMD [ARG]...]\n       orx schedule update SCHEDULE [OPTIONS] --workflow FILE",
    after_help = "\
Examples:
  orx schedule update nightly --cron '30 3 * * *'
  orx schedule update build --workflow nightly.toml
  orx schedule update nightly --if-version 2 --apply next --timeout 1h -- ./backup.sh --full"
)]
pub(super) struct Update {
    /// The schedule's name or id
    #[arg(value_name = "SCHEDULE", add = crate::cli::select::schedule_candidates())]
    schedule: String,

    /// Only if this is its version; another is a conflict
    #[arg(long, value_name = "N")]
    if_version: Option<u32>,

    /// From when on the new version holds
    #[arg(long, value_name = "WHEN", value_enum, default_value_t)]
    apply: ApplyWord,

    #[command(flatten)]
    rule: RuleOptions,

    #[command(flatten)]
    firing: FiringOptions,

    /// Run this workflow (TOML or JSON; - for standard input) instead of a command
    #[arg(long, value_name = "FILE", conflicts_with = "command")]
    workflow: Option<String>,

    #[command(flatten)]
    options: JobOptions,

    /// The program and its arguments, after --
    #[arg(value_name = "CMD", last = true, help_heading = "Arguments")]
    command: Vec<String>,
}

impl Update {
    pub(super) async fn run(self, context: &Context) -> Result<()> {
        let schedule = Named { tenant: self.options.tenant().map(str::to_owned), name: self.schedule };
        let before = context.queue()?.call(ShowSchedule { schedule: schedule.clone() }).await?;
        let mut definition = before.definition.clone();
        self.rule.change(context, &mut definition.rule)?;
        self.firing.change(&mut definition);
        let anew = self.workflow.is_some() || !self.command.is_empty();
        definition.captured = Arc::new(surroundings(context, &self.options, anew, &definition.captured)?);
        let given = self.options.spec(self.command)?;
        definition.target = target(&definition.target, self.workflow.as_deref(), given)?;
        definition.check()?;
        if definition == before.definition && self.if_version.is_none_or(|n| n == before.view.version) {
            return Err(Error::usage("nothing to change").hint("name what is to be another: --cron, --timeout, -- CMD"));
        }
        let version = self.if_version.unwrap_or(before.view.version);
        let apply = match self.apply {
            ApplyWord::Now => Apply::Now,
            ApplyWord::Next => Apply::Next,
        };
        let op = UpdateSchedule { schedule, version, definition, apply };
        let updated = context.queue()?.call(op).await?;
        say(context, &format!("updated to version {}", updated.version), &updated);
        context.view()?.one(&updated, |_| Ok(()))
    }
}

/// What is to be run from then on.
fn target(before: &Target, workflow: Option<&str>, given: JobSpec) -> Result<Target> {
    let tenant = Some(before.tenant().to_owned()).filter(|tenant| tenant != "default");
    let given = JobSpec { tenant, ..given };
    match (workflow, before) {
        (Some(file), _) => {
            refuse_options(&JobSpec { tenant: None, ..given })?; // the tenant says whose schedule is meant
            Ok(Target::Workflow(read_scheduled(file)?.0))
        }
        (None, Target::Job(spec)) => Ok(Target::Job(Box::new(overlay(spec, &given)?))),
        (None, Target::Workflow(_)) if given.command.is_some() || given.handler.is_some() => {
            Ok(Target::Job(Box::new(given)))
        }
        (None, Target::Workflow(_)) => {
            refuse_options(&JobSpec { tenant: None, ..given })?;
            Ok(before.clone())
        }
    }
}

/// Options of a job beside a workflow would be those of nobody.
fn refuse_options(given: &JobSpec) -> Result<()> {
    let given = JsonText::of(given)?.members().unwrap_or_default();
    let Some(option) = given.keys().next() else { return Ok(()) };
    Err(Error::usage(format!("--{} is an option of jobs, and the schedule runs a workflow", option.replace('_', "-")))
        .hint("write it into the file: under defaults for all tasks, or beside one; --env NAME takes a variable from here"))
}

/// What surrounds the job: anew where its command is, else what was captured before and what --env takes from here.
fn surroundings(context: &Context, options: &JobOptions, anew: bool, before: &Captured) -> Result<Captured> {
    if anew {
        return options.captured(context);
    }
    let mut after = before.clone();
    let here = captured(context, options.named_env(), None)?;
    for name in options.named_env() {
        if let Some((name, value)) = here.env.get_key_value(name) {
            after.env.insert(name.clone(), value.clone());
        }
    }
    Ok(after)
}

/// The options of `before` with those of `given` over them.
fn overlay(before: &JobSpec, given: &JobSpec) -> Result<JobSpec> {
    let fields = |spec: &JobSpec| JsonText::of(spec).map(|text| text.members().unwrap_or_default());
    let mut all = fields(before)?;
    let gone: &[&str] = match (&given.command, &given.handler) {
        (Some(_), _) => &["handler", "payload"],
        (None, Some(_)) => &["command", "stdin", "payload"],
        (None, None) => &[],
    };
    all.retain(|field, _| !gone.contains(&field.as_str()));
    let changed = |e: serde_json::Error| Error::failed("cannot be changed").source(e);
    for (field, value) in fields(given)? {
        // A payload is one value, whatever its form.
        let old = all.get(&field).filter(|_| field != "payload").and_then(|old| members(old));
        let value = match old.zip(members(&value)) {
            Some((old, new)) => to_raw_value(&old.into_iter().chain(new).collect::<Members>()).map_err(changed)?,
            None => value,
        };
        all.insert(field, value);
    }
    let spec: JobSpec = read_members(&all).map_err(changed)?;
    Ok(JobSpec { tenant: before.tenant.clone(), ..spec })
}

/// Says what was done to a schedule, and when it is due.
pub(super) fn say(context: &Context, did: &str, schedule: &ScheduleView) {
    let next = match schedule.next_due_at {
        Some(at) => format!(", due {}: {}", relative(at, context.clock.now()), at.local(&schedule.tz)),
        None => String::new(),
    };
    ui::note(context, &format!("schedule {} {did}{next}", schedule.name));
}
