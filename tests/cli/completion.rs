//! Completion through a real bash.

use std::path::Path;
use std::process::Command;

use super::support::*;

/// What bash offers for a line whose last word is being typed.
fn offered(orx: &Orx, words: &[&str]) -> Vec<String> {
    let bin = Path::new(env!("CARGO_BIN_EXE_orx")).parent().unwrap();
    let script = r#"
        source <(orx completions bash) || exit 1
        [[ $(complete -p orx) =~ -F\ ([^ ]+) ]] || exit 2
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}; COMP_TYPE=9
        "${BASH_REMATCH[1]}" orx "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
        printf '%s\n' "${COMPREPLY[@]}""#;
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-c", script, "bash"]).args(words).env_clear().env("HOME", orx.path(""));
    bash.env("ORX_STORE", orx.url()).env("PATH", format!("{}:{}", bin.display(), std::env::var("PATH").unwrap()));
    if let Some(token) = orx.token() {
        bash.env("ORX_TOKEN", token);
    }
    let out = bash.output().unwrap();
    assert!(out.status.success(), "{words:?}: {}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8(out.stdout).unwrap();
    text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
}

#[test]
fn bash_completes_commands_and_options() {
    let orx = Orx::file();
    assert!(offered(&orx, &["orx", "en"]).contains(&"enqueue".to_owned()));
    assert!(offered(&orx, &["orx", "enqueue", "--idem"]).contains(&"--idempotency-key".to_owned()));
    assert!(!orx.store().exists(), "completion makes no store");
}

#[test]
fn bash_completes_jobs_queues_and_labels_of_the_store() {
    let orx = Orx::new();
    for _ in 0..11 {
        orx.add(&["--queue", "build", "--label", "team=web", "--", "true"]);
    }
    assert_eq!(offered(&orx, &["orx", "status", "1"]).len(), 3, "1, 10 and 11");
    assert!(offered(&orx, &["orx", "cancel", "11"]).contains(&"11".to_owned()));
    assert!(offered(&orx, &["orx", "tail", ""]).contains(&"7".to_owned()));
    assert_eq!(offered(&orx, &["orx", "list", "--queue", "b"]), ["build"]);
    assert_eq!(offered(&orx, &["orx", "list", "--label", "te"]), ["team=web"]);
}

#[test]
fn completion_asks_the_store_that_was_typed() {
    let orx = Orx::new();
    orx.ok(&["--store", "other.db", "enqueue", "--queue", "elsewhere", "--", "true"]);
    let store = orx.path("other.db");
    let words = ["orx", "--store", store.to_str().unwrap(), "list", "--queue", ""];
    assert_eq!(offered(&orx, &words), ["elsewhere"]);
}

#[test]
fn a_broken_store_is_no_noise_in_the_shell() {
    let orx = Orx::new();
    orx.write(".local/share/orx/orx.db", "this is no database, but long enough to look at ".repeat(200));
    assert_eq!(offered(&orx, &["orx", "list", "--queue", ""]), [""; 0]);
}
