//! The reference equals the program: commands and their options, exit codes, JSON, settings, variables, routes and Ops.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use clap::{ArgAction, Command};
use orx::error::Kind;
use orx::http::{Routes, openapi};
use orx::ops::catalog::{self, Visitor};
use orx::ops::{Access, Op};
use serde_json::Value;

use super::*;
use crate::cli::support::Orx;

const COMMANDS: &str = "docs/reference/commands.md";
const JOB_OPTIONS: &str = "docs/reference/job-options.md";
const EXIT_CODES: &str = "docs/reference/exit-codes.md";
const JSON: &str = "docs/reference/json.md";
const ENVIRONMENT: &str = "docs/reference/environment.md";
const HTTP: &str = "docs/reference/http.md";
const CONFIGURATION: &str = "docs/reference/configuration.md";
const WORKFLOW_FILE: &str = "docs/reference/workflow-file.md";

type Set = BTreeSet<String>;

/// A part of a document below one heading, to the next one.
struct Section<'a> {
    title: &'a str,
    lines: Vec<&'a str>,
}

fn sections(text: &str) -> Vec<Section<'_>> {
    let mut found: Vec<Section<'_>> = Vec::new();
    for (_, line) in prose(text) {
        match (line.strip_prefix('#'), found.last_mut()) {
            (Some(title), _) => {
                found.push(Section { title: title.trim_start_matches('#').trim(), lines: Vec::new() });
            }
            (None, Some(section)) => section.lines.push(line),
            (None, None) => {}
        }
    }
    found
}

impl Section<'_> {
    /// The cells of each row of its tables, without their heads.
    fn rows(&self) -> Vec<Vec<String>> {
        let is_row = |line: &str| line.starts_with('|');
        let cells = |line: &str| -> Vec<String> {
            let whole = line.replace("\\|", "\u{1}");
            let inner = whole.trim().trim_start_matches('|').trim_end_matches('|');
            inner.split('|').map(|cell| cell.trim().replace('\u{1}', "|")).collect()
        };
        let mut rows = Vec::new();
        for (n, line) in self.lines.iter().enumerate().filter(|(_, line)| is_row(line)) {
            let is_head = n == 0 || !is_row(self.lines[n - 1]);
            if !is_head && !line.starts_with("| ---") {
                rows.push(cells(line));
            }
        }
        rows
    }

    fn text(&self) -> String {
        self.lines.join("\n")
    }
}

fn section<'a>(document: &str, sections: &'a [Section<'a>], title: &str) -> &'a Section<'a> {
    sections.iter().find(|section| section.title == title).unwrap_or_else(|| panic!("{document} has no {title:?}"))
}

/// What stands between backticks.
fn quoted(cell: &str) -> Set {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn set<S: Into<String>>(words: impl IntoIterator<Item = S>) -> Set {
    words.into_iter().map(Into::into).collect()
}

/// What one of two lists lacks of the other.
fn differences(document: &str, what: &str, told: &Set, there: &Set) -> Vec<String> {
    let lacks = there.difference(told).map(|word| format!("{document}: {what} lacks {word}"));
    let invents = told.difference(there).map(|word| format!("{document}: {what} has {word}, which does not exist"));
    lacks.chain(invents).collect()
}

/// Every command that people see, with its full name.
fn commands() -> BTreeMap<String, Command> {
    let mut root = orx::cli::command();
    root.build();
    let mut open = vec![root];
    let mut found = BTreeMap::new();
    while let Some(command) = open.pop() {
        let name = command.get_bin_name().unwrap_or_else(|| command.get_name()).to_owned();
        open.extend(command.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help").cloned());
        found.insert(name, command);
    }
    found.remove("orx");
    assert!(found.len() > 50, "{:?}", found.keys());
    found
}

/// An option as the reference writes it: `--long`, or `--long -l`.
fn written(arg: &clap::Arg) -> Option<String> {
    let long = arg.get_long()?;
    Some(arg.get_short().map_or_else(|| format!("--{long}"), |short| format!("--{long} -{short}")))
}

/// The options of a command, of its own or global, of which `wanted` are.
fn options(command: &Command, wanted: impl Fn(&clap::Arg) -> bool) -> Set {
    let shown = command.get_arguments().filter(|arg| !arg.is_hide_set() && wanted(arg));
    shown.filter_map(written).collect()
}

fn is_own(arg: &clap::Arg) -> bool {
    !arg.is_global_set() && !is_about(arg)
}

/// Help or version, which every command has.
fn is_about(arg: &clap::Arg) -> bool {
    let action = arg.get_action();
    matches!(action, ArgAction::Help | ArgAction::HelpShort | ArgAction::HelpLong | ArgAction::Version)
}

fn is_of_jobs(arg: &clap::Arg) -> bool {
    arg.get_help_heading() == Some("Job options")
}

/// The options that the first cells of a section's tables name.
fn told(section: &Section<'_>) -> Set {
    let option = |row: &Vec<String>| {
        let words: Vec<String> = quoted(&row[0]).into_iter().collect();
        let name = |dashes: &str| {
            let named = words.iter().filter(|w| w.starts_with(dashes) && !w[dashes.len()..].starts_with('-'));
            named.map(|w| w.split_whitespace().next().unwrap().to_owned()).next()
        };
        let long = name("--")?;
        Some(name("-").map_or(long.clone(), |short| format!("{long} {short}")))
    };
    section.rows().iter().filter_map(option).collect()
}

#[test]
fn every_command_has_a_section_and_every_section_is_a_command() {
    let text = read(COMMANDS);
    let titles: Set =
        sections(&text).iter().map(|s| s.title).filter(|t| t.starts_with("orx ")).map(Into::into).collect();
    expect_none(differences(COMMANDS, "the document", &titles, &commands().into_keys().collect()));
}

#[test]
fn the_options_of_every_command_are_those_of_the_program() {
    let (text, mut breaches) = (read(COMMANDS), Vec::new());
    let sections = sections(&text);
    for (name, command) in commands() {
        let section = section(COMMANDS, &sections, &name);
        let mut found = told(section);
        if section.text().contains("all [job options](job-options.md)") {
            let of_jobs = options(&command, is_of_jobs);
            assert!(!of_jobs.is_empty(), "{COMMANDS}: {name} takes no job options");
            found.extend(of_jobs);
        }
        breaches.extend(differences(COMMANDS, &name, &found, &options(&command, is_own)));
        for alias in command.get_visible_aliases() {
            let whole = format!("`{} {alias}`", name.rsplit_once(' ').unwrap().0);
            if !section.text().contains(&whole) {
                breaches.push(format!("{COMMANDS}: {name} lacks its alias {whole}"));
            }
        }
    }
    expect_none(breaches);
}

#[test]
fn the_global_options_are_those_of_the_program() {
    let text = read(COMMANDS);
    let sections = sections(&text);
    let mut root = orx::cli::command();
    root.build();
    let there = options(&root, |arg| arg.is_global_set() || is_about(arg));
    assert!(there.len() > 8, "{there:?}");
    expect_none(differences(
        COMMANDS,
        "the global options",
        &told(section(COMMANDS, &sections, "Global options")),
        &there,
    ));
}

#[test]
fn the_job_options_and_their_fields_are_those_of_the_program() {
    let text = read(JOB_OPTIONS);
    let sections = sections(&text);
    let found: Set = sections.iter().flat_map(told).collect();
    let there = options(&commands()["orx enqueue"], is_of_jobs);
    let mut breaches = differences(JOB_OPTIONS, "the document", &found, &there);
    let of_options = sections.iter().flat_map(Section::rows).filter(|row| row.len() == 3);
    let fields: Set = of_options.flat_map(|row| quoted(&row[1])).collect();
    breaches.extend(differences(JOB_OPTIONS, "the column of fields", &fields, &properties("JobSpec")));
    expect_none(breaches);
}

/// Words and numbers of `match` arms such as `Kind::A | Kind::B => 2,` in the body of a function of a source file.
fn arms(file: &str, function: &str) -> Vec<(Vec<String>, u8)> {
    let source = read(file);
    let body = source.split_once(&format!("fn {function}(")).unwrap_or_else(|| panic!("{file} has no {function}")).1;
    let body = body.split_once("\n    }").unwrap().0;
    let arm = |line: &str| {
        let (words, number) = line.trim().trim_end_matches(',').split_once(" => ")?;
        let names = words.split('|').filter_map(|word| word.trim().split("::").nth(1)).map(str::to_owned).collect();
        Some((names, number.parse().ok()?))
    };
    body.lines().filter_map(arm).collect()
}

/// `NotFound` as JSON writes it: `not_found`.
fn snake(name: &str) -> String {
    let parts = name.char_indices().map(|(at, c)| match c.is_uppercase() && at > 0 {
        true => format!("_{}", c.to_lowercase()),
        false => c.to_lowercase().to_string(),
    });
    parts.collect()
}

/// The numbers that the first cells of a table begin with, and what else they say.
fn codes(section: &Section<'_>) -> Set {
    let words = section.rows().into_iter().flat_map(|row| row[0].split(", ").map(str::to_owned).collect::<Vec<_>>());
    words.filter(|word| word.starts_with(|c: char| c.is_ascii_digit())).collect()
}

#[test]
fn the_exit_codes_are_those_of_the_program() {
    let text = read(EXIT_CODES);
    let sections = sections(&text);
    let of_orx = arms("src/error.rs", "exit_code");
    let numbers = |arms: &[(Vec<String>, u8)]| set(arms.iter().map(|(_, code)| code.to_string()));
    let general = section(EXIT_CODES, &sections, "All other commands");
    let there: Set = numbers(&of_orx).into_iter().chain(["0".to_owned()]).collect();
    let mut breaches = differences(EXIT_CODES, "the table of all other commands", &codes(general), &there);
    for row in general.rows() {
        for word in quoted(&row[1]) {
            let kind: Result<Kind, _> = serde_json::from_value(Value::String(word.clone()));
            match kind {
                Ok(kind) if kind.exit_code().to_string() == row[0] => {}
                Ok(kind) => breaches.push(format!("{EXIT_CODES}: {word} has {}, not {}", kind.exit_code(), row[0])),
                Err(_) => breaches.push(format!("{EXIT_CODES}: there is no kind {word}")),
            }
        }
    }
    let told: Set = general.rows().iter().flat_map(|row| quoted(&row[1])).collect();
    let kinds: Set = of_orx.iter().flat_map(|(names, _)| names.iter().map(|name| snake(name))).collect();
    breaches.extend(differences(EXIT_CODES, "the column of kinds", &told, &kinds));
    expect_none(breaches);
}

#[test]
fn the_exit_codes_of_run_and_wait_are_those_of_the_program() {
    let text = read(EXIT_CODES);
    let sections = sections(&text);
    let source = read("src/cli/exit.rs");
    let constants = source.lines().filter_map(|line| line.strip_prefix("const ")?.split_once(": u8 = "));
    let mut there: Set = constants.map(|(_, number)| number.trim_end_matches(';').to_owned()).collect();
    assert_eq!(there.len(), 3, "{there:?}");
    there.extend(["0".to_owned(), "128+N".to_owned(), Kind::TimedOut.exit_code().to_string()]);
    there.extend(arms("src/worker/spawn.rs", "exit_code").iter().map(|(_, code)| code.to_string()));
    let found = codes(&Section {
        title: "",
        lines: section(EXIT_CODES, &sections, "run and wait")
            .lines
            .split(|line| line.starts_with("`orx wait` with"))
            .next()
            .unwrap()
            .to_vec(),
    });
    expect_none(differences(EXIT_CODES, "the table of run and wait", &found, &there));
}

/// The description of the API, made without a server.
static DOCUMENT: LazyLock<Value> = LazyLock::new(|| openapi(&Routes::all()));

/// The fields of a type of the API.
fn properties(name: &str) -> Set {
    let schema = &DOCUMENT["components"]["schemas"][name];
    let fields = schema["properties"].as_object().unwrap_or_else(|| panic!("no schema {name}: {schema}"));
    fields.keys().cloned().collect()
}

/// The sections of the JSON reference whose objects the API describes too.
const NOUNS: [(&str, &str); 27] = [
    ("Attempt", "Attempt"),
    ("Cancelled job", "CancelReply"),
    ("Cancelled run", "RunCancelled"),
    ("Dead letter", "DeadLetter"),
    ("Event", "Event"),
    ("Explanation", "Explanation"),
    ("Group of dead letters", "LetterGroup"),
    ("Job", "Job"),
    ("Limit", "NamedLimit"),
    ("Metrics", "Measured"),
    ("Node", "NodeView"),
    ("Occurrence", "OccurrenceView"),
    ("Page", "Page"),
    ("Peer", "PeerNode"),
    ("Quarantine", "Quarantine"),
    ("Queue", "QueueTotals"),
    ("Retention", "Kept"),
    ("Retried job", "RetryReply"),
    ("Run", "RunView"),
    ("Run in a list", "RunLine"),
    ("Schedule", "ScheduleView"),
    ("Status", "StatusReply"),
    ("Stored job", "Enqueued"),
    ("Task", "RunTask"),
    ("Tenant", "Tenant"),
    ("Token", "TokenView"),
    ("Worker", "Worker"),
];

/// The fields that a section tells of, and those of them that may be absent.
fn fields(section: &Section<'_>) -> (Set, Set) {
    let mut in_fields = false;
    let mut lines = Vec::new();
    for line in &section.lines {
        in_fields |= line.starts_with("| field |");
        in_fields &= line.starts_with('|');
        if in_fields {
            lines.push(*line);
        }
    }
    let rows = Section { title: section.title, lines }.rows();
    let optional = rows.iter().filter(|row| row[1].starts_with("only ")).flat_map(|row| quoted(&row[0])).collect();
    (rows.iter().flat_map(|row| quoted(&row[0])).collect(), optional)
}

/// The examples of the JSON reference by the heading that they stand below.
fn examples(text: &str) -> BTreeMap<String, Value> {
    let (mut found, mut title, mut block) = (BTreeMap::new(), String::new(), None::<String>);
    for line in text.lines() {
        match (&mut block, line) {
            (None, "```json") => block = Some(String::new()),
            (Some(json), "```") => {
                let value = serde_json::from_str(json).unwrap_or_else(|e| panic!("{JSON}: {title}: {e}"));
                found.insert(title.clone(), value);
                block = None;
            }
            (Some(json), line) => json.push_str(line),
            (None, line) => title = line.strip_prefix("## ").map_or(title, str::to_owned),
        }
    }
    found
}

#[test]
fn the_fields_of_every_noun_are_those_of_the_program() {
    let text = read(JSON);
    let sections = sections(&text);
    let breaches = NOUNS.iter().flat_map(|(title, schema)| {
        let (told, _) = fields(section(JSON, &sections, title));
        differences(JSON, title, &told, &properties(schema))
    });
    expect_none(breaches.collect());
}

#[test]
fn the_examples_of_json_have_the_fields_that_are_told_of() {
    let text = read(JSON);
    let sections = sections(&text);
    let examples = examples(&text);
    let mut breaches = Vec::new();
    for (title, example) in &examples {
        let (told, optional) = fields(section(JSON, &sections, title));
        let shown: Set = example.as_object().unwrap_or_else(|| panic!("{JSON}: {title}")).keys().cloned().collect();
        let needed: Set = told.difference(&optional).filter(|field| !shown.contains(*field)).cloned().collect();
        breaches.extend(needed.iter().map(|field| format!("{JSON}: the example of {title} lacks {field}")));
        breaches.extend(shown.difference(&told).map(|field| format!("{JSON}: {title} lacks {field} of its example")));
    }
    assert!(examples.len() >= NOUNS.len(), "{:?}", examples.keys());
    expect_none(breaches);
}

#[test]
fn a_job_is_printed_with_the_fields_that_are_told_of() {
    let text = read(JSON);
    let sections = sections(&text);
    let (mut told, optional) = fields(section(JSON, &sections, "Job"));
    told.remove("unread"); // this one can be read
    told.remove("result_is_text"); // it has none
    let orx = Orx::file();
    orx.ok(&["run", "--", "true"]);
    let printed = |args: &[&str]| -> Set {
        let value: Value = serde_json::from_str(&orx.ok(args)).unwrap();
        value.get(0).unwrap_or(&value).as_object().unwrap().keys().cloned().collect()
    };
    let mut breaches = differences(JSON, "Job", &told, &printed(&["status", "last", "-o", "json"]));
    let always = told.difference(&optional).cloned().collect();
    breaches.extend(differences(JSON, "Job in a list", &always, &printed(&["list", "-o", "json"])));
    expect_none(breaches);
}

#[test]
fn every_setting_is_told_of() {
    let text = read(CONFIGURATION);
    let sections = sections(&text);
    let told: Set = section(CONFIGURATION, &sections, "Keys").rows().iter().flat_map(|row| quoted(&row[0])).collect();
    let orx = Orx::file();
    let schema = orx.write("any.json", "{}");
    orx.write("orx.toml", format!("[handlers.any]\ncommand = ['true']\nschema = '{schema}'\n"));
    let shown: Value =
        serde_json::from_str(&orx.ok(&["--config", "orx.toml", "config", "show", "-o", "json"])).unwrap();
    let names = shown.as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap().replace(".any.", ".NAME."));
    // These two are told of, and are no keys of the file.
    let there = names.filter(|name| !["token", "config"].contains(&name.as_str())).collect();
    expect_none(differences(CONFIGURATION, "the table of keys", &told, &there));
}

/// The source files of orx, each without its tests.
fn sources() -> Vec<String> {
    let is_test =
        |name: &String| name.ends_with("_tests.rs") || name.ends_with("/testing.rs") || name == "src/mutant.rs";
    let code = |name: String| read(&name).split("#[cfg(test)]\nmod tests {").next().unwrap().to_owned();
    files("src", ".rs").into_iter().filter(|name| !is_test(name)).map(code).collect()
}

/// The words in capitals between quotes after each `call` in a source.
fn capitals(source: &str, call: &str) -> Vec<String> {
    let is_capital = |c: char| c.is_ascii_uppercase() || c == '_';
    let word = |rest: &str| rest.strip_prefix('"')?.split('"').next().map(str::to_owned);
    source.split(call).skip(1).filter_map(word).filter(|word| word.chars().all(is_capital)).collect()
}

#[test]
fn every_variable_is_told_of() {
    let text = read(ENVIRONMENT);
    let sections = sections(&text);
    let told = |title: &str| -> Set {
        section(ENVIRONMENT, &sections, title).rows().iter().flat_map(|row| quoted(&row[0])).collect()
    };
    let program = read("src/worker/program.rs");
    let names = program.split('"').filter(|word| word.starts_with("ORX_") || *word == "TRACEPARENT");
    let mut given: Set = names.map(|word| word.split('=').next().unwrap().to_owned()).collect();
    given.insert("ORX_RESULT_<TASK>".to_owned());
    assert!(given.len() > 15, "{given:?}");
    let mut breaches = differences(ENVIRONMENT, "the table of a job's variables", &told("Of a job"), &given);
    let calls = ["env(", "var(", "var_os(", "set("];
    let asked = sources().into_iter().flat_map(|code| calls.map(|call| capitals(&code, call)).concat());
    let asked: Set = asked.filter(|name| !given.contains(name) || name == "TRACEPARENT").collect();
    assert!(asked.len() > 10, "{asked:?}");
    let lacking: Set = asked.difference(&told("That orx reads")).cloned().collect();
    breaches.extend(lacking.iter().map(|name| format!("{ENVIRONMENT}: what orx reads lacks {name}")));
    expect_none(breaches);
}

/// What the catalogue says of each Op: access, whether a bound token may, and the scopes that its example needs.
#[derive(Default)]
struct Ops(BTreeMap<String, (String, bool, Set)>);

impl Visitor for Ops {
    fn op<O: Op>(&mut self) {
        let access = match O::ACCESS {
            Access::Read => "read",
            Access::Write => "write",
            Access::Renewal => "renewal",
            Access::Output => "output",
        };
        let place = format!("/api/v1/ops/{}", O::NAME);
        let example = &DOCUMENT["paths"][&place]["post"]["requestBody"]["content"]["application/json"]["example"];
        let op: O = serde_json::from_value(example.clone()).unwrap_or_else(|e| panic!("{}: {e}: {example}", O::NAME));
        let scopes = set(op.scopes().names());
        self.0.insert(O::NAME.to_owned(), (access.to_owned(), !O::SHARED, scopes));
    }
}

#[test]
fn the_ops_are_those_of_the_catalogue() {
    let mut ops = Ops::default();
    catalog::each(&mut ops);
    let text = read(HTTP);
    let sections = sections(&text);
    let rows = section(HTTP, &sections, "Ops").rows();
    let told: Set = rows.iter().flat_map(|row| quoted(&row[0])).collect();
    let mut breaches = differences(HTTP, "the list of Ops", &told, &ops.0.keys().cloned().collect());
    for row in &rows {
        let name = row[0].trim_matches('`');
        let Some((access, bound, scopes)) = ops.0.get(name) else { continue };
        if row[1] != *access {
            breaches.push(format!("{HTTP}: the access of {name} is {access}, not {}", row[1]));
        }
        if (row[3] == "yes") != *bound {
            breaches.push(format!("{HTTP}: whether a bound token may {name} is {bound}, not {}", row[3]));
        }
        let named = quoted(&row[2]);
        // What a token gives away depends on the token.
        let needed = if name == "create_token" { set(["admin"]) } else { scopes.clone() };
        let varies = row[2].contains("also");
        let fits = if varies { needed.is_subset(&named) && !needed.is_empty() } else { needed == named };
        if !fits {
            breaches.push(format!("{HTTP}: {name} needs {needed:?}, not {named:?}"));
        }
    }
    expect_none(breaches);
}

#[test]
fn the_routes_are_those_that_are_served() {
    let text = read(HTTP);
    let sections = sections(&text);
    let told: Set = section(HTTP, &sections, "Routes").rows().iter().flat_map(|row| quoted(&row[0])).collect();
    let paths = DOCUMENT["paths"].as_object().unwrap();
    let routes = paths.iter().filter(|(path, _)| !path.starts_with("/api/v1/ops/"));
    let named = routes.flat_map(|(path, methods)| {
        let methods = methods.as_object().unwrap().keys();
        methods.map(move |method| format!("{} {path}", method.to_uppercase()))
    });
    let there: Set = named.chain(["POST /api/v1/ops/{NAME}".to_owned()]).collect();
    expect_none(differences(HTTP, "the list of routes", &told, &there));
}

#[test]
fn the_parameters_of_routes_are_those_that_are_served() {
    let text = read(HTTP);
    let sections = sections(&text);
    let mut breaches = Vec::new();
    for row in section(HTTP, &sections, "Routes").rows() {
        let Some((method, path)) = row[0].trim_matches('`').split_once(' ') else { continue };
        let operation = &DOCUMENT["paths"][path][method.to_lowercase()];
        let query = operation["parameters"].as_array().into_iter().flatten().filter(|p| p["in"] == "query");
        for name in query.map(|p| p["name"].as_str().unwrap()).filter(|_| row[2] != "the same") {
            if !row[2].contains(&format!("`{name}")) {
                breaches.push(format!("{HTTP}: {} lacks the parameter {name}", row[0]));
            }
        }
    }
    expect_none(breaches);
}

#[test]
fn the_statuses_are_those_that_are_served() {
    let text = read(HTTP);
    let sections = sections(&text);
    let told = codes(section(HTTP, &sections, "Errors"));
    let operations = DOCUMENT["paths"].as_object().unwrap().values().flat_map(|m| m.as_object().unwrap().values());
    let statuses = operations.flat_map(|o| o["responses"].as_object().unwrap().keys().cloned().collect::<Vec<_>>());
    // What the router says of a method that a route does not have stands beside no route.
    let there = statuses.filter(|s| s.as_str() >= "400").chain(["405".to_owned()]).collect();
    expect_none(differences(HTTP, "the list of statuses", &told, &there));
}

/// The keys of a workflow that its reader takes, besides those of a job.
#[test]
fn the_keys_of_a_workflow_are_those_that_are_read() {
    let text = read(WORKFLOW_FILE);
    let sections = sections(&text);
    let source = read("src/job/workflow.rs");
    let mut there: Set =
        source.split("(&mut map, \"").skip(1).filter_map(|rest| rest.split('"').next()).map(Into::into).collect();
    there.extend(["task", "on_start", "on_complete"].map(str::to_owned));
    assert!(there.len() > 8, "{there:?}");
    let rows = section(WORKFLOW_FILE, &sections, "Keys of the workflow").rows();
    let told: Set = rows.iter().flat_map(|row| quoted(&row[0])).collect();
    expect_none(differences(WORKFLOW_FILE, "the table of keys", &told, &there));
}
