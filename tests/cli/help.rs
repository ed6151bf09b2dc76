//! Help: complete, with an example everywhere.

use super::support::*;

/// The words that lead to each command.
fn commands(command: &clap::Command, words: &[String], all: &mut Vec<Vec<String>>) {
    all.push(words.to_vec());
    for sub in command.get_subcommands().filter(|c| c.get_name() != "help") {
        commands(sub, &[words, &[sub.get_name().to_owned()]].concat(), all);
    }
}

#[test]
fn the_help_of_every_command_has_an_example() {
    let orx = Orx::file();
    let mut all = Vec::new();
    commands(&orx::cli::command(), &[], &mut all);
    assert!(all.len() > 14, "{all:?}");
    let mut bare = Vec::new();
    for words in all {
        let args: Vec<&str> = words.iter().map(String::as_str).chain(["--help"]).collect();
        let help = orx.ok(&args);
        let example = help.split_once("Example").map(|(_, rest)| rest).unwrap_or_default();
        if !example.contains("orx ") {
            bare.push(words.join(" "));
        }
        assert!(help.lines().all(|line| line.chars().count() <= 120), "orx {args:?} is too wide\n{help}");
    }
    assert!(bare.is_empty(), "no example: {bare:?}");
    assert!(!orx.store().exists());
}

#[test]
fn help_of_a_command_is_asked_for_in_either_order() {
    let orx = Orx::new();
    for words in [&[][..], &["enqueue"], &["workflow", "submit"]] {
        assert_eq!(orx.ok(&[&["help"], words].concat()), orx.ok(&[words, &["--help"]].concat()));
    }
    orx.run(&["help", "nothing"]).expect(2, &["nothing"]);
}

#[test]
fn the_version_is_printed() {
    let orx = Orx::new();
    assert_eq!(orx.ok(&["--version"]), format!("orx {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn nothing_and_nonsense_are_usage_errors() {
    let orx = Orx::new();
    orx.run(&[]).expect(2, &["Usage: orx"]);
    orx.run(&["enqeue"]).expect(2, &["enqueue"]);
    for (elsewhere, here) in [
        ("ps", "'list'"),
        ("kill", "'cancel'"),
        ("inspect", "'status'"),
        ("submit", "'enqueue'"),
        ("clean", "'db prune'"),
        ("serve", "'coordinator'"),
        ("resume", "'queue resume'"),
    ] {
        orx.run(&[elsewhere]).expect(2, &[here]);
    }
    assert!(!orx.run(&["clean"]).stderr().contains("cancel"), "another verb than was meant");
    orx.run(&["completions", "tcsh"]).expect(2, &["bash, zsh, fish, elvish, powershell"]);
    orx.run(&["list", "-o", "xml"]).expect(2, &["table, json, ndjson, id"]);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let orx = Orx::new();
    orx.call(&["enqueue", "--from", "-"]).stdin("{\"command\":[\"true\"]}\n".repeat(3000)).run().expect(0, &[]);
    let line = format!("{} list --limit 0 -o ndjson; echo $? > code", env!("CARGO_BIN_EXE_orx"));
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &format!("{{ {line}; }} | head -n 1")]).env("HOME", orx.path("")).current_dir(orx.path(""));
    let out = shell.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&out.stderr), "");
    assert_eq!(orx.wait_line("code"), "0");
}

#[test]
fn man_prints_the_manual_page() {
    let orx = Orx::new();
    assert!(orx.ok(&["man"]).contains(".TH orx 1"));
    orx.run(&["man", "pages"]).expect(0, &["pages in pages"]);
    assert!(orx.read("pages/orx-enqueue.1").contains("idempotency"));
    orx.run(&["man", "/dev/null/x"]).expect(1, &["cannot write to /dev/null/x"]);
}
