//! The command line: one file per command; only `view` prints, only `main` exits.

// Help texts are doc comments, and their [brackets] are not links.
#![allow(rustdoc::broken_intra_doc_links)]

mod audit;
mod bench;
mod bulk;
mod cancel;
mod cluster;
mod completions;
mod config;
mod context;
mod coordinator;
mod copy;
mod db;
mod dlq;
mod doctor;
mod enqueue;
mod entering;
mod events;
mod everywhere;
mod exit;
mod files;
mod follow;
mod host;
mod interrupt;
mod job_options;
mod later;
mod list;
mod log;
mod man;
mod metrics;
mod nodes;
mod policies;
mod printing;
mod process;
mod quarantine;
mod restore;
mod retention;
mod retry;
mod run;
mod run_workflow;
mod say;
mod schedule;
mod select;
mod spool;
mod stall;
mod status;
mod tail;
mod token;
mod ui;
mod view;
mod wait;
mod why;
mod worker;
mod workers;
mod workflow;

use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};

pub(crate) use self::context::Context;
use self::later::Later;
use crate::error::{Error, Kind, Result};

/// A durable job queue and orchestrator for the shell, systemd and CI.
#[derive(Parser)]
#[command(name = "orx", version, max_term_width = 100, disable_help_subcommand = true)]
#[command(after_help = "\
Examples:
  orx run -- make test              run a job now and exit with its code
  orx enqueue -- make test          store a job for a worker
  orx worker --slots 4              run jobs
  orx tail -f last                  follow the newest job's output

State is kept in a SQLite file; 'orx config show' says where.")]
pub struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

/// Options that every command takes.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Global options")]
struct Globals {
    /// Where the queue is: a path, sqlite:///path, postgres://…, http(s)://… of a coordinator, or memory: [env: ORX_STORE]
    #[arg(long, global = true, value_name = "URL")]
    store: Option<String>,

    /// The token for a coordinator; others of this machine see it here, not in ORX_TOKEN [env: ORX_TOKEN]
    #[arg(long, global = true, value_name = "TOKEN", hide_short_help = true)]
    token: Option<String>,

    /// How to print data
    #[arg(short, long, global = true, value_name = "FORMAT")]
    output: Option<OutputFormat>,

    /// Print each item through a minijinja template, such as '{{number}} {{state}}'
    #[arg(long, global = true, value_name = "TEMPLATE")]
    format: Option<String>,

    /// Say nothing but errors
    #[arg(short, long, global = true)]
    quiet: bool,

    /// Say more; twice for all
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,

    /// When to use colours (also NO_COLOR, CLICOLOR_FORCE)
    #[arg(long, global = true, value_name = "WHEN")]
    color: Option<ColorChoice>,

    /// The configuration file [env: ORX_CONFIG]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<std::path::PathBuf>,
}

/// How data is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
enum OutputFormat {
    /// For people
    #[default]
    Table,
    /// One JSON document
    Json,
    /// One JSON object a line
    Ndjson,
    /// Ids only, one a line
    Id,
    /// JUnit XML: 'orx workflow report' only
    #[value(hide = true)]
    Junit,
}

/// When colours are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
enum ColorChoice {
    /// On a terminal
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

#[derive(Subcommand)]
enum Command {
    /// Store a job for a worker to run
    ///
    /// Prints the job's id. The program is started as given, without a shell; use sh -c '…' where you want one.
    #[command(visible_alias = "add")]
    Enqueue(Later<enqueue::Enqueue>),
    /// Run a job now: store it, print its output, exit with its code
    ///
    /// Where no live worker serves the queue, the job runs in this process, with all its retries.
    /// Interrupt once to cancel it, twice to kill it.
    Run(Later<run::Run>),
    /// Show the whole at a glance, or all about some jobs
    Status(Later<status::Status>),
    /// List jobs, newest first
    #[command(visible_alias = "ls")]
    List(Later<list::List>),
    /// Print a job's output
    ///
    /// Its standard output goes to standard output, its standard error to standard error.
    #[command(visible_alias = "logs")]
    Tail(Later<tail::Tail>),
    /// Wait until jobs have ended
    Wait(Later<wait::Wait>),
    /// Say why a job does not run: every cause, and what would end it
    ///
    /// With --schedule: why a schedule does not fire.
    Why(Later<why::Why>),
    /// Cancel jobs
    ///
    /// One that waits is cancelled at once. One that runs is sent a signal, and SIGKILL after its grace;
    /// it is cancelled when it and all its processes have ended.
    Cancel(Later<cancel::Cancel>),
    /// Run failed or cancelled jobs again
    ///
    /// Their attempts are counted anew and the history is kept. Jobs that were skipped because of them come back too.
    /// With --all the failed ones: whoever cancelled a job meant it, so it is named, if only by a range or a label.
    Retry(Later<retry::Retry>),
    /// The dead letters: jobs whose attempts are used up
    Dlq(Later<dlq::Dlq>),
    /// Run jobs until told to stop
    ///
    /// The first SIGTERM or SIGINT drains: no more jobs are taken, running ones may end within the drain
    /// timeout and are then given back without counting against their attempts. The second gives them back at once. SIGHUP
    /// drains too.
    ///
    /// Where a coordinator of its store gossips with peers and takes their jobs (--share), so does the worker, for slots that its
    /// own store has no use for; not with --burst or --idle-timeout.
    Worker(Later<worker::Worker>),
    /// Show the workers: who runs what
    Workers(Later<workers::Workers>),
    /// Serve a store over HTTP, and keep its clock: take back jobs of dead workers, start what is due
    ///
    /// Clients and workers use it with --store http://HOST:7117 and a token ('orx token create').
    ///
    /// Of all coordinators and workers on one store one leads and does this; the others take over when it ends. A worker
    /// leads too where no coordinator runs, so a coordinator is needed only where no worker lives for long.
    Coordinator(Later<coordinator::Coordinator>),
    /// Show the coordinators, who leads, and the peers that they gossip with
    Nodes(Later<nodes::Nodes>),
    /// Make the keys by which coordinators that gossip know each other
    Cluster(Later<cluster::Cluster>),
    /// Run jobs again and again: at the times of a crontab line, at even distances, once
    Schedule(Later<schedule::Schedule>),
    /// Print the audit trail, one JSON object a line
    Events(Later<events::Events>),
    /// Show, pause and limit queues
    Queue(Later<policies::Queue>),
    /// Show and limit tenants
    Tenant(Later<policies::Tenant>),
    /// Show and change the limits that jobs share (--limit KEY=N)
    Limit(Later<policies::Limit>),
    /// Make, show and end tokens for a coordinator
    ///
    /// Who can open the store itself needs none: the first token is made there.
    Token(Later<token::Token>),
    /// Run many tasks that need each other
    ///
    /// A workflow is a TOML or JSON file; the store is its engine, so whoever submitted it may go.
    Workflow(Later<workflow::WorkflowCommand>),
    /// Check from the audit trail what must always hold
    ///
    /// No job twice at a time, no attempt counted by a worker that had lost it, no limit exceeded, nothing after an end…
    /// Exit code 1 and a line for each breach.
    Audit(Later<audit::Audit>),
    /// Look after the store
    Db(Later<db::Db>),
    /// Measure this machine: how fast jobs are stored, started and run
    ///
    /// It makes a store of its own beside the one in use, with the same durability, runs a worker as 'orx worker' does, and
    /// removes all of it. The jobs are 'true', so it shows what orx itself costs. Nothing else should run meanwhile.
    Bench(Later<bench::Bench>),
    /// Print figures about the whole as Prometheus reads them, without a server
    Metrics(Later<metrics::Metrics>),
    /// Look for what commonly goes wrong: the disk, the store, workers, the upkeep
    ///
    /// Exit code 1 when something is wrong; a warning alone is no error.
    Doctor(Later<doctor::Doctor>),
    /// Say how far this job is (from inside a job)
    Progress(Later<say::Progress>),
    /// Say that this job lives (from inside a job with --heartbeat-timeout)
    Heartbeat(Later<say::Heartbeat>),
    /// Hand over what this job made (from inside a job): JSON, or else text
    Result(Later<say::JobResult>),
    /// Show the settings in force
    Config(Later<config::ConfigCommand>),
    /// Print the completion script of a shell
    ///
    /// The script asks orx itself, so it knows the jobs, queues and labels of your store.
    Completions(Later<completions::Completions>),
    /// Print the manual page, or write all pages to a directory
    Man(Later<man::Man>),
}

impl Command {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        match self {
            Command::Enqueue(c) => c.0.run(context).await,
            Command::Run(c) => c.0.run(context).await,
            Command::Status(c) => c.0.run(context).await,
            Command::List(c) => c.0.run(context).await,
            Command::Tail(c) => c.0.run(context).await,
            Command::Wait(c) => c.0.run(context).await,
            Command::Why(c) => c.0.run(context).await,
            Command::Cancel(c) => c.0.run(context).await,
            Command::Retry(c) => c.0.run(context).await,
            Command::Dlq(c) => c.0.run(context).await,
            Command::Worker(c) => c.0.run(context).await,
            Command::Workers(c) => c.0.run(context).await,
            Command::Coordinator(c) => c.0.run(context).await,
            Command::Nodes(c) => c.0.run(context).await,
            Command::Cluster(c) => c.0.run(context),
            Command::Schedule(c) => c.0.run(context).await,
            Command::Events(c) => c.0.run(context).await,
            Command::Queue(c) => c.0.run(context).await,
            Command::Tenant(c) => c.0.run(context).await,
            Command::Limit(c) => c.0.run(context).await,
            Command::Token(c) => c.0.run(context).await,
            Command::Workflow(c) => c.0.run(context).await,
            Command::Audit(c) => c.0.run(context).await,
            Command::Db(c) => c.0.run(context).await,
            Command::Bench(c) => c.0.run(context).await,
            Command::Metrics(c) => c.0.run(context).await,
            Command::Doctor(c) => c.0.run(context).await,
            Command::Progress(c) => c.0.run(context),
            Command::Heartbeat(c) => c.0.run(context),
            Command::Result(c) => c.0.run(context),
            Command::Config(c) => c.0.run(context),
            Command::Completions(c) => c.0.run(context),
            Command::Man(c) => c.0.run(context),
        }
    }

    /// Whether it runs jobs of the store, and was not told that others may choose them.
    fn needs_own_store(&self) -> bool {
        match self {
            Command::Run(c) => !c.0.allow_foreign_store,
            Command::Worker(c) => !c.0.allow_foreign_store,
            Command::Coordinator(c) => c.0.slots > 0 && !c.0.allow_foreign_store,
            _ => false,
        }
    }

    fn prints_junit(&self) -> bool {
        matches!(self, Command::Workflow(c) if c.0.prints_junit())
    }

    /// Whether it makes a store where there is none, because it leaves something there.
    fn makes_store(&self) -> bool {
        match self {
            Command::Enqueue(_) | Command::Run(_) | Command::Worker(_) | Command::Coordinator(_) => true,
            Command::Schedule(c) => c.0.makes_store(),
            Command::Queue(c) => c.0.makes_store(),
            Command::Tenant(c) => c.0.makes_store(),
            Command::Limit(c) => c.0.makes_store(),
            Command::Token(c) => c.0.makes_store(),
            Command::Workflow(c) => c.0.makes_store(),
            Command::Db(c) => c.0.makes_store(),
            _ => false,
        }
    }

    /// The exit code of orx's own errors: `run` and `wait` keep the small numbers for the job (S33).
    fn own_error(&self) -> fn(Kind) -> u8 {
        match self {
            Command::Run(_) | Command::Wait(_) => exit::own_error,
            _ => Kind::exit_code,
        }
    }
}

/// The whole program: reads the command line, runs the command, says what went wrong.
pub fn run() -> ExitCode {
    // SAFETY: the process has one thread, as it has just begun.
    unsafe { crate::hide::begin(context::is_secret) };
    completions::complete_and_exit();
    crate::daemon::signals::survive_large_files();
    let words = later::spelled(std::env::args_os().collect());
    // Help lists global options last only where they come last.
    let help = words.iter().any(|word| word == "-h" || word == "--help");
    let parse = || Cli::try_parse_from(words.clone());
    let parsed = if help { later::at_once(parse) } else { parse() };
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => return ui::usage_error(error),
    };
    let own_error = cli.command.own_error();
    let (globals, junit) = (cli.globals.clone(), cli.command.prints_junit());
    let context = Context::new(cli.globals);
    let manner = context.as_ref().map_or_else(|_| ui::Manner::of(&globals, None), Context::manner);
    let result = context.and_then(|mut context| match globals.output {
        Some(OutputFormat::Junit) if !junit => Err(Error::usage("-o junit is for 'orx workflow report' only")),
        _ => {
            context.makes_store = cli.command.makes_store();
            context.needs_own_store = cli.command.needs_own_store();
            complete(cli.command, &context)
        }
    });
    result.unwrap_or_else(|error| {
        if view::is_unread(&error) {
            return ExitCode::SUCCESS; // whoever read has seen enough
        }
        ui::print_error(&error, manner);
        ExitCode::from(own_error(error.kind()))
    })
}

/// Runs a command to its end.
fn complete(command: Command, context: &Context) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(command.run(context));
    // A blocked read of standard input must not keep the program from ending.
    runtime.shutdown_background();
    result
}

/// The command line as clap sees it, for man pages and completions.
pub fn command() -> clap::Command {
    later::at_once(Cli::command)
}
