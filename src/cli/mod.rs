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
mod events;
mod everywhere;
mod exit;
mod host;
mod job_options;
mod list;
mod man;
mod metrics;
mod nodes;
mod policies;
mod retention;
mod retry;
mod run;
mod run_workflow;
mod say;
mod schedule;
mod select;
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
    Enqueue(enqueue::Enqueue),
    Run(run::Run),
    Status(status::Status),
    List(list::List),
    Tail(tail::Tail),
    Wait(wait::Wait),
    Why(why::Why),
    Cancel(cancel::Cancel),
    Retry(retry::Retry),
    Dlq(dlq::Dlq),
    Worker(worker::Worker),
    Workers(workers::Workers),
    Coordinator(coordinator::Coordinator),
    Nodes(nodes::Nodes),
    Cluster(cluster::Cluster),
    Schedule(schedule::Schedule),
    Events(events::Events),
    Queue(policies::Queue),
    Tenant(policies::Tenant),
    Limit(policies::Limit),
    Token(token::Token),
    Workflow(workflow::WorkflowCommand),
    Audit(audit::Audit),
    Db(db::Db),
    Bench(bench::Bench),
    Metrics(metrics::Metrics),
    Doctor(doctor::Doctor),
    Progress(say::Progress),
    Heartbeat(say::Heartbeat),
    Result(say::JobResult),
    Config(config::ConfigCommand),
    Completions(completions::Completions),
    Man(man::Man),
}

impl Command {
    async fn run(self, context: &Context) -> Result<ExitCode> {
        match self {
            Command::Enqueue(c) => c.run(context).await,
            Command::Run(c) => c.run(context).await,
            Command::Status(c) => c.run(context).await,
            Command::List(c) => c.run(context).await,
            Command::Tail(c) => c.run(context).await,
            Command::Wait(c) => c.run(context).await,
            Command::Why(c) => c.run(context).await,
            Command::Cancel(c) => c.run(context).await,
            Command::Retry(c) => c.run(context).await,
            Command::Dlq(c) => c.run(context).await,
            Command::Worker(c) => c.run(context).await,
            Command::Workers(c) => c.run(context).await,
            Command::Coordinator(c) => c.run(context).await,
            Command::Nodes(c) => c.run(context).await,
            Command::Cluster(c) => c.run(context),
            Command::Schedule(c) => c.run(context).await,
            Command::Events(c) => c.run(context).await,
            Command::Queue(c) => c.run(context).await,
            Command::Tenant(c) => c.run(context).await,
            Command::Limit(c) => c.run(context).await,
            Command::Token(c) => c.run(context).await,
            Command::Workflow(c) => c.run(context).await,
            Command::Audit(c) => c.run(context).await,
            Command::Db(c) => c.run(context).await,
            Command::Bench(c) => c.run(context).await,
            Command::Metrics(c) => c.run(context).await,
            Command::Doctor(c) => c.run(context).await,
            Command::Progress(c) => c.run(context),
            Command::Heartbeat(c) => c.run(context),
            Command::Result(c) => c.run(context),
            Command::Config(c) => c.run(context),
            Command::Completions(c) => c.run(context),
            Command::Man(c) => c.run(context),
        }
    }

    fn prints_junit(&self) -> bool {
        matches!(self, Command::Workflow(c) if c.prints_junit())
    }

    /// The exit code of orx's own errors: `run` keeps the small numbers for its job (S33).
    fn own_error(&self) -> Option<u8> {
        matches!(self, Command::Run(_)).then_some(run::OWN_ERROR)
    }
}

/// The whole program: reads the command line, runs the command, says what went wrong.
pub fn run() -> ExitCode {
    completions::complete_and_exit();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return ui::usage_error(&error),
    };
    let own_error = cli.command.own_error();
    let json = cli.globals.output == Some(OutputFormat::Json);
    if cli.globals.output == Some(OutputFormat::Junit) && !cli.command.prints_junit() {
        ui::print_error(&Error::usage("-o junit is for 'orx workflow report' only"), false);
        return ExitCode::from(own_error.unwrap_or(Kind::Usage.exit_code()));
    }
    let result = Context::new(cli.globals).and_then(|context| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let result = runtime.block_on(cli.command.run(&context));
        // A blocked read of standard input must not keep the program from ending.
        runtime.shutdown_background();
        result
    });
    result.unwrap_or_else(|error| {
        if error.is_broken_pipe() {
            return ExitCode::SUCCESS; // whoever read has seen enough
        }
        ui::print_error(&error, json);
        ExitCode::from(own_error.unwrap_or(error.kind().exit_code()))
    })
}

/// The command line as clap sees it, for man pages and completions.
pub fn command() -> clap::Command {
    Cli::command()
}
