//! The numbered rules of `docs/semantics.md`: what the sources quote exists, and each has a test of its name.

use std::collections::BTreeSet;

use super::*;

const RULES: &str = "docs/semantics.md";

/// The numbers of `### S7. Title`, in the order of the document.
fn written() -> Vec<u32> {
    let text = read(RULES);
    let headings = text.lines().filter_map(|line| line.strip_prefix("### S")?.split_once(". ")?.0.parse().ok());
    headings.collect()
}

/// What follows each `mark` in a text as a number, where the mark begins a word and the number ends one.
fn numbers<'a>(text: &'a str, mark: &'a str, end: fn(char) -> bool) -> impl Iterator<Item = u32> + 'a {
    text.match_indices(mark).filter_map(move |(at, _)| {
        let before = text[..at].chars().next_back();
        let rest = &text[at + mark.len()..];
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let whole = !before.is_some_and(|c| c.is_alphanumeric() || c == '_');
        let ended = rest[digits..].chars().next().is_none_or(end);
        (whole && ended).then(|| rest[..digits].parse().ok()).flatten()
    })
}

fn sources() -> Vec<(String, String)> {
    let all = ["src", "tests", "benches"].into_iter().flat_map(|dir| files(dir, ""));
    let code = all.filter(|name| [".rs", ".sql"].iter().any(|ending| name.ends_with(ending)));
    code.map(|name| (name.clone(), read(&name))).collect()
}

#[test]
fn the_rules_are_numbered_without_a_gap() {
    let written = written();
    assert!(written.len() >= 35, "{written:?}");
    assert_eq!(written, (1..=written.len() as u32).collect::<Vec<_>>());
}

#[test]
fn every_rule_that_is_quoted_exists() {
    let written: BTreeSet<u32> = written().into_iter().collect();
    let mut quoted = 0;
    let mut breaches = Vec::new();
    for (file, text) in sources().into_iter().chain(documents().into_iter().map(|name| (name.clone(), read(&name)))) {
        for number in numbers(&text, "S", |c| !(c.is_alphanumeric() || c == '_')) {
            quoted += 1;
            if !written.contains(&number) {
                breaches.push(format!("{file} quotes S{number}, which {RULES} does not have"));
            }
        }
    }
    assert!(quoted > 100, "only {quoted} were found");
    expect_none(breaches);
}

#[test]
fn every_rule_has_a_test() {
    let tested: BTreeSet<u32> =
        sources().iter().flat_map(|(_, text)| numbers(text, "fn s", |c| c == '_').collect::<Vec<_>>()).collect();
    let bare = written().into_iter().filter(|number| !tested.contains(number));
    expect_none(bare.map(|number| format!("no test's name begins with s{number}_")).collect());
}
