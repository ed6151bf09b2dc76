//! Relative links and their anchors lead somewhere.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// The targets of inline links in a line: `[text](target)`, code left out.
fn targets(line: &str) -> Vec<String> {
    let plain: String = line.split('`').step_by(2).collect::<Vec<_>>().join(" ");
    plain.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target.to_owned()).collect()
}

/// The anchor that GitHub gives a heading: lower case, white space as dashes, other signs left out.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn anchors(text: &str) -> BTreeSet<String> {
    let mut seen = BTreeMap::new();
    let headings = prose(text).into_iter().map(|(_, line)| line).filter(|line| line.starts_with('#'));
    let numbered = headings.map(|heading| {
        let name = anchor(heading);
        let count = seen.entry(name.clone()).and_modify(|n| *n += 1).or_insert(0);
        if *count == 0 { name } else { format!("{name}-{count}") }
    });
    numbered.collect()
}

/// A relative path from one document to another place, without `..`.
fn resolve(from: &str, target: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." | "" => {}
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn breach(from: &str, target: &str) -> Option<String> {
    let (path, wanted) = target.split_once('#').unwrap_or((target, ""));
    let place = if path.is_empty() { from.to_owned() } else { resolve(from, path) };
    if !root().join(&place).exists() {
        return Some(format!("there is no {place}"));
    }
    let missing = !wanted.is_empty() && !anchors(&read(&place)).contains(wanted);
    missing.then(|| format!("{place} has no heading for #{wanted}"))
}

#[test]
fn every_relative_link_leads_somewhere() {
    let (mut breaches, mut count) = (Vec::new(), 0);
    for document in documents() {
        let text = read(&document);
        for (n, line) in prose(&text) {
            for target in targets(line).into_iter().filter(|target| !target.contains("://")) {
                count += 1;
                breaches.extend(breach(&document, &target).map(|why| format!("{document}:{n}: {target}: {why}")));
            }
        }
    }
    assert!(count > 50, "only {count} links were found");
    expect_none(breaches);
}

#[test]
fn every_document_is_on_the_map() {
    let map: BTreeSet<String> = prose(&read("docs/README.md"))
        .into_iter()
        .flat_map(|(_, line)| targets(line))
        .map(|target| resolve("docs/README.md", target.split('#').next().unwrap()))
        .collect();
    let all = files("docs", ".md").into_iter().filter(|name| name != "docs/README.md");
    expect_none(all.filter(|name| !map.contains(name)).map(|name| format!("docs/README.md lacks {name}")).collect());
}

#[test]
fn anchors_are_those_of_github() {
    assert_eq!(anchor("### S8. A worker that dies"), "s8-a-worker-that-dies");
    assert_eq!(anchor("## `orx db check`: what it does"), "orx-db-check-what-it-does");
    assert_eq!(targets("see [a](b.md#c) and `[x](y)` [d](#e)"), ["b.md#c", "#e"]);
    assert_eq!(resolve("docs/guide/ci.md", "../reference/http.md"), "docs/reference/http.md");
}
