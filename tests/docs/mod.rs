//! The documents tell the truth: what they quote exists, what they show is what the program prints.

mod console;
mod links;
mod reference;
mod rooms;
mod rules;

use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// Files below a folder of the project whose names end so, as paths from the top, sorted.
fn files(dir: &str, ending: &str) -> Vec<String> {
    let (mut found, mut dirs) = (Vec::new(), vec![PathBuf::from(dir)]);
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(root().join(&dir)).unwrap() {
            let entry = entry.unwrap();
            let path = dir.join(entry.file_name());
            match entry.file_type().unwrap().is_dir() {
                true => dirs.push(path),
                false if path.to_string_lossy().ends_with(ending) => found.push(path.to_string_lossy().into_owned()),
                false => {}
            }
        }
    }
    found.sort();
    found
}

/// The documents that people read: README, CHANGELOG and all of `docs/`.
fn documents() -> Vec<String> {
    let mut all = vec!["README.md".to_owned(), "CHANGELOG.md".to_owned()];
    all.extend(files("docs", ".md"));
    assert!(all.len() > 20, "{all:?}");
    all
}

/// A fenced block of a document: its info string, its lines, and the number of its first line.
struct Block {
    info: String,
    lines: Vec<String>,
    at: usize,
}

fn blocks(text: &str) -> Vec<Block> {
    let mut found: Vec<Block> = Vec::new();
    let mut open = false;
    for (n, line) in text.lines().enumerate() {
        match (open, line.strip_prefix("```")) {
            (false, Some(info)) => {
                found.push(Block { info: info.to_owned(), lines: Vec::new(), at: n + 2 });
                open = true;
            }
            (true, Some("")) => open = false,
            (true, _) => found.last_mut().unwrap().lines.push(line.to_owned()),
            (false, None) => {}
        }
    }
    assert!(!open, "a fenced block has no end: {:?}", found.last().map(|block| block.at));
    found
}

/// The text without its fenced blocks, line by line.
fn prose(text: &str) -> Vec<(usize, &str)> {
    let mut open = false;
    let lines = text.lines().enumerate().filter(|(_, line)| {
        let fence = line.starts_with("```");
        open ^= fence;
        !open && !fence
    });
    lines.map(|(n, line)| (n + 1, line)).collect()
}

/// Fails with one line for each breach.
fn expect_none(breaches: Vec<String>) {
    assert!(breaches.is_empty(), "\n{}", breaches.join("\n"));
}
