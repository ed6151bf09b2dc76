//! `orx run --workflow` and `orx workflow wait`: follow all tasks, with a line for each.

use std::collections::{HashMap, HashSet};
use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::context::Context;
use super::host::{Host, KILL, Signals, unanswered};
use super::stall::Stall;
use super::view::words::{ending, one_line, safe, took};
use super::{ui, view, workflow};
use crate::error::{Error, Kind, Result};
use crate::job::ids::RunName;
use crate::job::run::is_on_complete;
use crate::job::workflow::ON_COMPLETE;
use crate::job::{Number, RunId, RunState, State};
use crate::ops::lease::Only;
use crate::ops::runs::cancel::CancelRun;
use crate::ops::runs::view::{GetRun, RunTask, RunView};
use crate::store::{CancelRequest, Topics};
use crate::time::{Clock, Span};

/// How often all tasks are looked at, at most.
const LOOK: Duration = Duration::from_millis(100);
/// How often they are looked at though nothing was told.
const SLOW_LOOK: Duration = Duration::from_secs(2);
/// Something of it failed.
const FAILED: u8 = 1;
/// Somebody cancelled it.
const CANCELLED: u8 = 130;
/// Ended by SIGHUP, as a shell says it: the run goes on.
const DETACHED: u8 = 128 + 1;

/// Submits the workflow in `file` and follows it to its end.
pub(super) async fn run(context: &Context, file: &str) -> Result<ExitCode> {
    let (given, workflow) = workflow::read(file)?;
    context.queue()?; // as in `orx run`
    let mut signals = Signals::new()?;
    let id = signals.outlast(workflow::submit(context, given)).await?.id;
    let specs = workflow.tasks.iter().map(|task| &task.spec);
    let specs = specs.chain(&workflow.on_start).chain(&workflow.on_complete);
    let slots = std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1));
    let stored = |e: Error| e.context(format_args!("stored as run {id}"));
    let mut host = Host::new(context, Only::Run(id), slots, specs).map_err(stored)?;
    let foreign = workflow.jobs().filter(|(_, spec)| !host.carries(spec)).map(|(task, _)| task.to_owned()).collect();
    let ended = accompany(context, &mut host, signals, id, Waits::of_run(foreign)).await;
    host.stop(ended.is_err()).await;
    let Some(run) = ended.map_err(stored)? else { return Ok(ExitCode::from(DETACHED)) };
    let view = context.view()?;
    if !view.is_for_people() {
        view.one(&run, |_| Ok(()))?;
    }
    Ok(conclude(context, &run))
}

/// Stays with the run to its end; gives none where a signal says to leave it to others.
async fn accompany(
    context: &Context,
    host: &mut Host,
    mut signals: Signals,
    id: RunId,
    waits: Waits,
) -> Result<Option<RunView>> {
    let mut followed = std::pin::pin!(follow(context, id, None, waits));
    let (mut asked, mut cancelling) = (0, JoinSet::new());
    loop {
        tokio::select! {
            ended = &mut followed => return ended.map(Some),
            result = host.look_after(context) => result?,
            Some(told) = cancelling.join_next() => told.map_err(|e| Error::failed("a task failed").source(e))??,
            hung_up = signals.next() => {
                if hung_up && !host.is_own() {
                    ui::say(context, &format!("run {id} goes on"));
                    return Ok(None);
                }
                asked += 1;
                if asked > KILL + 1 && !cancelling.is_empty() {
                    return Err(unanswered());
                }
                cancelling.spawn(cancel(context, host, id, asked));
            }
        }
    }
}

/// Follows a run that others work on to its end, `timeout` long at most.
pub(super) async fn wait(context: &Context, run: RunName, timeout: Option<Span>) -> Result<ExitCode> {
    let deadline = timeout.map(|span| Instant::now() + span.duration());
    let id = context.queue()?.call(GetRun { run, options: false }).await?.id;
    Ok(conclude(context, &follow(context, id, deadline, Waits::default()).await?))
}

/// Says what became of a run, also as an exit code.
fn conclude(context: &Context, run: &RunView) -> ExitCode {
    let why = run.reason.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
    ui::say(context, &format!("run {} of {} is {}{why}", run.id, run.name, run.state));
    match run.state {
        RunState::Done => ExitCode::SUCCESS,
        RunState::Cancelled => ExitCode::from(CANCELLED),
        RunState::Failed | RunState::Running => ExitCode::from(FAILED),
    }
}

/// First `always` tasks run still, then nothing, then nothing is asked twice.
fn cancel(context: &Context, host: &Host, id: RunId, asked: u32) -> impl Future<Output = Result<()>> + use<> {
    let (word, how) = match asked {
        1 => ("cancelling; again to end clean-up tasks too", CancelRequest::default()),
        2 => ("cancelling everything; again to kill", CancelRequest::default()),
        _ => ("killing", CancelRequest { signal: Some(libc::SIGKILL), grace: Some(Span::ZERO) }),
    };
    ui::say(context, word);
    let op = CancelRun { run: RunName::Id(id), reason: Some("interrupted".into()), how: how.clone() };
    host.cancel(op, (asked > 1).then_some(how)) // the first leaves `always` tasks alone, which only the store knows
}

/// Shows what becomes of the tasks, until all have ended.
///
/// # Errors
/// `TimedOut` when the deadline passes before.
async fn follow(context: &Context, id: RunId, deadline: Option<Instant>, mut waits: Waits) -> Result<RunView> {
    let queue = context.queue()?;
    let mut changes = queue.subscribe(Topics::JOBS)?;
    let mut lines = Lines::new(context);
    loop {
        let looked = Instant::now();
        let mut run = queue.call(GetRun { run: RunName::Id(id), options: false }).await?;
        let late = deadline.is_some_and(|at| at <= looked);
        let why = waits.look(context, &run).await?;
        (lines, run) = lines.show(run, why, late).await?;
        if run.state.is_terminal() {
            return Ok(run);
        }
        if late {
            return Err(Error::new(Kind::TimedOut, format!("run {id} is {} still", run.state)));
        }
        let until = |at: Instant| deadline.map_or(at, |deadline| deadline.min(at));
        let next = waits.stall.at().into_iter().chain([looked + SLOW_LOOK]).min();
        changes.changed(next.map(until)).await;
        tokio::time::sleep_until(until(looked + LOOK)).await;
    }
}

/// What a run waits for, which is said once for each task that it is.
struct Waits {
    /// The tasks that need another worker than this process; none where this process runs no tasks.
    foreign: Option<HashSet<String>>,
    /// The job that waits.
    number: Option<Number>,
    stall: Stall,
}

impl Default for Waits {
    fn default() -> Self {
        Self { foreign: None, number: None, stall: Stall::of_watcher() }
    }
}

impl Waits {
    fn of_run(foreign: HashSet<String>) -> Self {
        Self { foreign: Some(foreign), ..Self::default() }
    }

    /// Whether this process has to leave the task to others.
    fn is_foreign(&self, task: &RunTask) -> bool {
        let name = if is_on_complete(&task.task) { ON_COMPLETE } else { &task.task };
        self.foreign.as_ref().is_some_and(|foreign| foreign.contains(name))
    }

    /// Looks what the run waits for, and gives why where that is to be said.
    async fn look(&mut self, context: &Context, run: &RunView) -> Result<Option<String>> {
        let open = run.tasks.iter().filter(|task| !task.inherited && !task.state.is_terminal());
        let (running, waiting): (Vec<&RunTask>, Vec<&RunTask>) = open.partition(|task| task.state == State::Running);
        // What this process cannot run waits also while it runs others.
        let foreign = waiting.iter().find(|task| task.state == State::Pending && self.is_foreign(task));
        let any = || waiting.iter().find(|task| task.state != State::Blocked).or(waiting.first());
        let first = if running.is_empty() { foreign.or_else(any) } else { foreign };
        let number = first.and_then(|task| task.job);
        if self.number != number {
            let own = self.foreign.is_some() && first.is_some_and(|task| !self.is_foreign(task));
            (self.number, self.stall) = (number, if own { Stall::of_run() } else { Stall::of_watcher() });
        }
        self.stall.wait(context, number, waiting.len().saturating_sub(1)).await
    }
}

/// One line for each task: on a terminal one that moves while it runs, elsewhere one for each change.
struct Lines {
    quiet: bool,
    colors: bool,
    clock: Arc<dyn Clock>,
    seen: HashMap<String, (State, u32)>,
    terminal: Option<(MultiProgress, ProgressBar)>,
    running: HashMap<String, ProgressBar>,
}

impl Lines {
    fn new(context: &Context) -> Self {
        let terminal = (!context.quiet() && std::io::stderr().is_terminal()).then(|| {
            let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10));
            let sum = all.add(ProgressBar::new(0));
            if let Ok(style) = ProgressStyle::with_template("{bar:30} {human_pos}/{human_len} tasks  {elapsed}") {
                sum.set_style(style);
            }
            (all, sum)
        });
        let (quiet, colors) = (context.quiet(), ui::stderr_colors(context));
        let clock = Arc::clone(&context.clock);
        Self { quiet, colors, clock, seen: HashMap::new(), terminal, running: HashMap::new() }
    }

    /// Shows what is new, and why nothing is, on another thread: a terminal that was stopped must not stop a worker that
    /// lives in this process.
    async fn show(mut self, run: RunView, why: Option<String>, last: bool) -> Result<(Self, RunView)> {
        let showing = tokio::task::spawn_blocking(move || {
            self.update(&run);
            why.into_iter().for_each(|why| self.say(&why));
            if last || run.state.is_terminal() {
                self.end();
            }
            (self, run)
        });
        showing.await.map_err(|e| Error::failed("printing failed").source(e))
    }

    fn say(&self, text: &str) {
        match &self.terminal {
            Some((all, _)) => _ = all.println(safe(text)), // nobody is left to see it
            None if !self.quiet => ui::say_painted(&safe(text)),
            None => {}
        }
    }

    fn update(&mut self, run: &RunView) {
        for task in run.tasks.iter().filter(|task| !task.inherited) {
            let now = (task.state, task.attempt);
            if self.seen.insert(task.task.clone(), now) == Some(now) {
                continue;
            }
            match &self.terminal {
                Some((all, sum)) => {
                    if let Some(bar) = self.running.remove(&task.task) {
                        bar.finish_and_clear();
                    }
                    if task.state == State::Running {
                        let bar = all.insert_before(sum, ProgressBar::new_spinner());
                        bar.set_message(format!("{} running", one_line(&task.task)));
                        bar.enable_steady_tick(LOOK);
                        self.running.insert(task.task.clone(), bar);
                    } else if task.state.is_terminal() {
                        let _ = all.println(self.text(task)); // nobody is left to see it
                    }
                }
                None if !self.quiet && (task.state.is_terminal() || task.state == State::Running) => {
                    ui::say_painted(&self.text(task));
                }
                None => {}
            }
        }
        if let Some((_, sum)) = &self.terminal {
            sum.set_length(run.tasks.len() as u64);
            sum.set_position(run.tasks.iter().filter(|task| task.state.is_terminal()).count() as u64);
        }
    }

    /// `build  done in 2s`
    fn text(&self, task: &RunTask) -> String {
        let how = match task.state {
            State::Done => format!(" in {}", took(task.started_at, task.finished_at, self.clock.now())),
            State::Failed => {
                let how = ending(task.exit_code, task.signal);
                let job = task.job.map(|n| format!("; orx tail {n}")).unwrap_or_default();
                format!(": {how}{job}")
            }
            State::Running if task.attempt > 1 => format!(", attempt {}", task.attempt),
            State::Skipped | State::Cancelled => task.reason.as_ref().map(|r| format!(": {r}")).unwrap_or_default(),
            _ => String::new(),
        };
        let state = view::paint(view::Text::state(task.state), self.colors);
        format!("{}  {state}{}", one_line(&task.task), one_line(&how))
    }

    fn end(&self) {
        if let Some((all, sum)) = &self.terminal {
            sum.finish_and_clear();
            let _ = all.clear(); // nobody is left to see it
        }
    }
}
