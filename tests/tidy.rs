//! The house rules, held by a test: who may import whom, sizes, who prints, who reads clocks.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The rooms from the bottom up; a room imports only from lines above its own. Rooms of one line do not import each other.
pub const RANKS: &[&[&str]] = &[
    &["mutant", "hex", "beat", "bounded", "private", "hide"],
    &["schema", "certs"],
    &["error", "time"],
    &["job", "gossip"],
    &["store"],
    &["ops"],
    &["hub", "outage"],
    &["engine", "remote"],
    &["queue"],
    &["client", "worker", "http"],
    &["daemon"],
    &["cli"],
];

/// What may lie at the top.
const TOP: &[&str] = &[
    ".ci",
    ".gitignore",
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "benches",
    "clippy.toml",
    "completions",
    "contrib",
    "deny.toml",
    "docs",
    "man",
    "rustfmt.toml",
    "src",
    "tests",
];

/// Lines of a file without its tests.
const MAX_LINES: usize = 400;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(dir: &str, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![root().join(dir)];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => dirs.push(path),
                false if path.to_string_lossy().ends_with(ending) => found.push(path),
                false => {}
            }
        }
    }
    found.sort();
    assert!(!found.is_empty());
    found
}

/// A source file: its path from `src/`, and its code without tests and comments.
fn sources() -> Vec<(String, Vec<String>)> {
    let is_test = |p: &PathBuf| {
        let name = p.file_stem().unwrap().to_string_lossy().into_owned();
        name.ends_with("_tests") || name == "testing"
    };
    let read = |path: PathBuf| {
        let name = path.strip_prefix(root().join("src")).unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        let lines = text.lines().take_while(|l| *l != "#[cfg(test)]" || name.ends_with("mod.rs"));
        let code = lines.map(|l| l.split("//").next().unwrap_or_default().to_owned()).collect();
        (name, code)
    };
    files("src", ".rs").into_iter().filter(|p| !is_test(p)).map(read).collect()
}

fn room(file: &str) -> &str {
    file.split('/').next().unwrap().trim_end_matches(".rs")
}

fn rank(room: &str) -> Option<usize> {
    RANKS.iter().position(|rank| rank.contains(&room))
}

/// Fails with one line for each breach.
fn expect_none(breaches: Vec<String>) {
    assert!(breaches.is_empty(), "\n{}", breaches.join("\n"));
}

#[test]
fn imports_go_one_way() {
    let mut breaches = Vec::new();
    for (file, code) in sources() {
        let Some(own) = rank(room(&file)) else {
            assert!(["lib.rs", "main.rs"].contains(&file.as_str()), "{file} belongs to no room");
            continue;
        };
        for (n, line) in code.iter().enumerate() {
            for part in line.split("crate::").skip(1) {
                let other: String = part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                let fine = match rank(&other) {
                    Some(rank) => rank < own || other == room(&file),
                    None => true,
                };
                if !fine {
                    breaches.push(format!("{file}:{}: {} must not know {other}", n + 1, room(&file)));
                }
            }
        }
    }
    expect_none(breaches);
}

#[test]
fn files_are_short_and_code_keeps_its_place() {
    let mut breaches = Vec::new();
    for (file, code) in sources() {
        if code.len() > MAX_LINES {
            breaches.push(format!("{file} has {} lines", code.len()));
        }
        let mut only = |what: &str, place: &dyn Fn(&str) -> bool| {
            for (n, line) in code.iter().enumerate().filter(|(_, l)| l.contains(what)) {
                if !place(&file) {
                    breaches.push(format!("{file}:{}: {what} does not belong here: {}", n + 1, line.trim()));
                }
            }
        };
        for printing in ["println!", "eprintln!", "print!(", "dbg!"] {
            only(printing, &|_| false); // they panic on a closed pipe; cli/view writes
        }
        only("stdout()", &|f| f.starts_with("cli/"));
        only("SystemTime", &|f| f == "time.rs");
        only("Timestamp::now", &|_| false);
        only("rusqlite", &|f| f.starts_with("store/sqlite/"));
        only("tokio", &|f| {
            f.starts_with("store/postgres/") || !["job", "store", "ops", "error", "time"].contains(&room(f))
        });
        only("process::exit", &|_| false);
        only("async fn", &|f| f.starts_with("store/postgres/") || !["job", "store", "ops"].contains(&room(f)));
        // Elsewhere the umask would decide who may read it; pages of the manual and control groups are for everybody.
        for making in ["DirBuilder", "create_dir", "File::create", "tempfile::Builder", ".tempdir", ".mode(0o"] {
            only(making, &|f| ["private.rs", "cli/man.rs", "worker/cgroup.rs"].contains(&f));
        }
        only("tokio_postgres", &|f| f.starts_with("store/postgres/"));
    }
    expect_none(breaches);
}

#[test]
fn each_statement_is_a_file_that_is_used() {
    let unused = ["sqlite", "postgres"].into_iter().flat_map(|backend| {
        let of_backend = sources().into_iter().filter(|(file, _)| file.starts_with(&format!("store/{backend}/")));
        let code: String = of_backend.flat_map(|(_, code)| code).collect();
        files(&format!("src/store/{backend}/sql"), ".sql").into_iter().filter_map(move |path| {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            (!code.contains(&format!("sql!(\"{name}\")"))).then(|| format!("{backend}/{name}.sql is not used"))
        })
    });
    expect_none(unused.collect());
}

#[test]
fn every_test_file_is_part_of_the_binary() {
    let all: String = files("tests", ".rs").iter().map(|p| std::fs::read_to_string(p).unwrap()).collect();
    let forgotten = files("tests", ".rs").into_iter().filter_map(|path| {
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        let name = match stem.as_str() {
            "mod" => path.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned(),
            "main" => return None,
            _ => stem,
        };
        (!all.contains(&format!("mod {name};"))).then(|| format!("{} is in no module", path.display()))
    });
    expect_none(forgotten.collect());
}

#[test]
fn the_top_level_is_a_closed_list() {
    let known: BTreeSet<&str> = TOP.iter().copied().chain([".git", "target", "mutants.out"]).collect();
    let here = std::fs::read_dir(root()).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned());
    expect_none(here.filter(|name| !known.contains(name.as_str())).map(|n| format!("{n} is new here")).collect());
}

/// A bug that nobody runs proves nothing.
#[test]
fn every_mutant_has_a_scenario() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).unwrap();
    let (mutants, runner) = (read("src/mutant.rs"), read("tests/mutants"));
    let body = mutants.split_once("enum Mutant {").unwrap().1.split_once('}').unwrap().0;
    let names = body.lines().filter_map(|line| line.trim().strip_suffix(',')).filter(|line| !line.starts_with("//"));
    let names: BTreeSet<&str> = names.collect();
    assert!(names.len() >= 10);
    let run = |name: &str| runner.lines().any(|line| line.split_whitespace().next() == Some(name));
    expect_none(
        names.iter().filter(|name| !run(name)).map(|name| format!("tests/mutants does not run {name}")).collect(),
    );
}
