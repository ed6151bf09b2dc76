//! Talk: what goes to standard error, prompts, progress bars, colours.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use super::config::Config;
use super::view::words::{safe, safe_json};
use super::{ColorChoice, Context, Globals, OutputFormat, exit};
use crate::error::{Error, Kind, Result};

/// How errors are printed.
#[derive(Clone, Copy, Default)]
pub(super) struct Manner {
    json: bool,
    pub(super) color: ColorChoice,
}

impl Manner {
    /// What the command line says of it, or else the configuration.
    pub(super) fn of(globals: &Globals, config: Option<&Config>) -> Self {
        let output = globals.output.or(config.and_then(|config| config.output));
        let color = globals.color.or(config.and_then(|config| config.color));
        Self { json: output == Some(OutputFormat::Json), color: color.unwrap_or_default() }
    }
}

/// Says what clap says: help and version on standard output with 0, errors on standard error with 2 (125 for `run` and `wait`).
pub(super) fn usage_error(mut error: clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        let _ = error.print(); // a closed pipe is nobody's error
        return ExitCode::SUCCESS;
    }
    let args: Vec<String> = std::env::args_os().skip(1).map(|a| a.to_string_lossy().into_owned()).collect();
    if error.kind() == ErrorKind::InvalidSubcommand
        && let Some(meant) = command_word(&args).and_then(meant)
    {
        error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(vec![meant.into()]));
    }
    if error.kind() == ErrorKind::UnknownArgument
        && let Some(ContextValue::String(given)) = error.get(ContextKind::InvalidArg)
        && let Some(meant) = meant_option(command_word(&args).unwrap_or_default(), given)
    {
        error.remove(ContextKind::Suggested); // how to write it as an argument of a program
        error.insert(ContextKind::SuggestedArg, ContextValue::String(meant.into()));
    }
    let json = wants_json(&args);
    if !json && error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print(); // nothing was asked, so nothing is wrong
    } else {
        print_error(&as_ours(&error.render().to_string(), command_word(&args)), Manner { json, ..Manner::default() });
    }
    let of_job = command_word(&args).is_some_and(|word| ["run", "wait"].contains(&word));
    ExitCode::from(if of_job { exit::own_error(Kind::Usage) } else { Kind::Usage.exit_code() })
}

/// What clap says of a command line, as an error of orx: its first paragraph, its tips, and where the help is.
fn as_ours(said: &str, word: Option<&str>) -> Error {
    let mut lines = said.lines();
    let message: Vec<&str> = lines.by_ref().take_while(|line| !line.is_empty()).map(str::trim).collect();
    let message = message.join(" ");
    let rest: Vec<&str> = lines.map(str::trim).collect();
    let mut hints: Vec<&str> = rest.iter().filter_map(|line| line.strip_prefix("tip: ")).collect();
    let usage = rest.iter().find_map(|line| line.strip_prefix("Usage: "));
    let command: Vec<&str> = match usage {
        Some(usage) => usage.split(' ').take_while(|word| word.starts_with(|c: char| c.is_ascii_lowercase())).collect(),
        None => std::iter::once("orx").chain(word).collect(),
    };
    let help = format!("see {} --help", command.join(" "));
    hints.push(&help);
    Error::usage(message.strip_prefix("error: ").unwrap_or(&message)).hint(hints.join("; "))
}

/// The command that goes by another name elsewhere.
fn meant(word: &str) -> Option<&'static str> {
    Some(match word {
        "ps" | "jobs" => "list",
        "rm" | "remove" | "delete" | "kill" | "stop" | "abort" => "cancel",
        "show" | "inspect" | "info" | "top" => "status",
        "submit" | "push" => "enqueue",
        "clean" | "clear" | "purge" | "gc" | "vacuum" => "db prune",
        "backup" => "db backup",
        "restore" => "db restore",
        "requeue" => "dlq requeue",
        "rerun" | "restart" => "retry",
        "pause" => "queue pause",
        "resume" | "unpause" => "queue resume",
        "serve" | "server" | "daemon" => "coordinator",
        "work" | "start" => "worker",
        "cron" | "at" => "schedule add",
        "log" | "output" => "tail",
        "history" | "trail" => "events",
        _ => return None,
    })
}

/// The option of `command` that goes by another name elsewhere.
fn meant_option(command: &str, given: &str) -> Option<&'static str> {
    Some(match (command, given.trim_start_matches('-')) {
        ("worker" | "coordinator", "j" | "jobs" | "parallel" | "concurrency" | "workers" | "threads" | "n") => {
            "--slots"
        }
        ("queue" | "limit" | "tenant", "parallel" | "concurrency" | "max" | "slots") => "--max-running",
        ("run" | "enqueue" | "schedule", "retry" | "retries" | "attempts" | "max-retries") => "--max-attempts",
        ("run" | "enqueue" | "schedule", "expires" | "expire" | "ttl") => "--deadline",
        ("schedule", "timezone" | "time-zone") => "--tz",
        ("schedule", "daily" | "hourly" | "weekly") => "--cron",
        ("tail", "tail") => "--lines",
        (_, "json" | "yaml") => "--output",
        _ => return None,
    })
}

/// The first word that is no option and no option's value: the command.
fn command_word(args: &[String]) -> Option<&str> {
    let command = super::command();
    let takes_value = |word: &str| {
        command.get_arguments().filter(|arg| arg.get_action().takes_values()).any(|arg| {
            arg.get_long().is_some_and(|long| word.strip_prefix("--") == Some(long))
                || arg.get_short().is_some_and(|short| word.strip_prefix('-') == Some(short.to_string().as_str()))
        })
    };
    let mut args = args.iter();
    while let Some(word) = args.next() {
        match word.as_str() {
            option if takes_value(option) => _ = args.next(),
            option if option.starts_with('-') => {}
            command => return Some(command),
        }
    }
    None
}

/// Whether errors are to be JSON, though the command line was not understood.
fn wants_json(args: &[String]) -> bool {
    match typed(args, &["--output", "-o"]) {
        Some(format) => format == "json",
        None => {
            let config = Config::load(typed(args, &["--config"]).map(Path::new));
            config.is_ok_and(|config| config.output == Some(OutputFormat::Json))
        }
    }
}

/// What was typed for an option, which has these names.
fn typed<'a>(args: &'a [String], names: &[&str]) -> Option<&'a str> {
    let mut mine = args.iter().take_while(|arg| *arg != "--");
    while let Some(arg) = mine.next() {
        for name in names {
            match arg.strip_prefix(name) {
                Some("") => return mine.next().map(String::as_str),
                Some(value) if !name.starts_with("--") => return Some(value.trim_start_matches('=')),
                Some(value) if value.starts_with('=') => return Some(&value[1..]),
                _ => {}
            }
        }
    }
    None
}

/// Says what went wrong, and what could be done about it.
pub(super) fn print_error(error: &Error, manner: Manner) {
    let again = error.retry_after_time().map(|after| format!("try again in {} s", after.as_secs()));
    let hints: Vec<&str> = error.hint_text().into_iter().chain(again.as_deref()).collect();
    let hint = (!hints.is_empty()).then(|| hints.join("; "));
    let mut err = std::io::stderr().lock();
    // Nobody is left to tell when standard error is closed.
    if manner.json {
        let body = json!({ "kind": error.kind().as_str(), "message": error.to_string(), "hint": hint });
        let _ = writeln!(err, "{}", safe_json(json!({ "error": body }).to_string()));
        return;
    }
    let (red, dim, plain) = match color_for(manner.color, err.is_terminal()) {
        true => ("\x1b[1;31m", "\x1b[2m", "\x1b[0m"),
        false => ("", "", ""),
    };
    let _ = writeln!(err, "{red}orx:{plain} {}", safe(&error.to_string()));
    if let Some(hint) = hint {
        let _ = writeln!(err, "{dim}hint: {}{plain}", safe(&hint));
    }
}

/// Says to a person at a terminal why nothing happens, while it is still tried.
pub(super) fn trouble(error: &Error) {
    let mut err = std::io::stderr().lock();
    if err.is_terminal() {
        let _ = writeln!(err, "orx: {}; trying again", safe(&error.to_string())); // nobody is left to tell
    }
}

/// Talk that a person at a terminal may want, and a script does not.
pub(super) fn note(context: &Context, text: &str) {
    if std::io::stderr().is_terminal() {
        say(context, text);
    }
}

/// Talk that is unwanted only with --quiet.
pub(super) fn say(context: &Context, text: &str) {
    if !context.quiet() {
        say_painted(&safe(text));
    }
}

/// The same of parts that [`super::view::paint`] has made.
pub(super) fn say_painted(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}"); // nobody is left to tell
}

/// Whether talk is coloured.
pub(super) fn stderr_colors(context: &Context) -> bool {
    color_for(context.color(), std::io::stderr().is_terminal())
}

/// Whether output is coloured: by wish, by the environment, else on a terminal.
pub(super) fn color_for(choice: ColorChoice, terminal: bool) -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|v| !v.is_empty() && v != "0");
    match choice {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto if set("CLICOLOR_FORCE") => true,
        ColorChoice::Auto => terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()),
    }
}

/// `1 job`, `2 jobs`.
pub(super) fn count(n: u64, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// Asks before something happens to many things; a script must say --yes.
///
/// # Errors
/// `Usage` when there is nobody to ask, or the answer is no.
pub(super) fn confirm(question: &str, yes: bool) -> Result<()> {
    if yes {
        return Ok(());
    }
    if !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
        return Err(Error::usage(format!("{question} Nobody can be asked here")).hint("say --yes"));
    }
    let _ = write!(std::io::stderr().lock(), "{} [y/N] ", safe(question));
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Error::usage("nothing was done")),
    }
}

/// A progress bar on a terminal, and nothing elsewhere.
pub(super) fn progress(context: &Context, total: u64, what: &'static str) -> ProgressBar {
    if context.quiet() || !std::io::stderr().is_terminal() {
        return ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden());
    }
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(10));
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {human_pos}/{human_len} {msg}  {elapsed}") {
        bar.set_style(style);
    }
    bar.with_message(what)
}
