//! What README and guides show is what a person sees: their console blocks are run, on a terminal of 80 columns.
//!
//! A block is run if its fence says `console run`. All such blocks of a document share one shell in an empty home. A block
//! with `file=NAME` is written as that file first. `...` on a line of its own stands for any lines.

use std::fs::File;
use std::io::{Read, Write as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use regex::Regex;

use super::*;

/// No document may take longer.
const LIMIT: Duration = Duration::from_secs(120);
/// Printed before each command; never part of what a program prints here.
const MARK: &str = "\u{1}step";

/// A command and what should come of it.
struct Step {
    at: usize,
    command: String,
    expected: Vec<String>,
}

fn steps(block: &Block) -> Vec<Step> {
    let mut found: Vec<Step> = Vec::new();
    let mut typing = false;
    for (n, line) in block.lines.iter().enumerate() {
        if let Some(command) = line.strip_prefix("$ ") {
            found.push(Step { at: block.at + n, command: command.to_owned(), expected: Vec::new() });
            typing = true;
            continue;
        }
        let step = found.last_mut().unwrap_or_else(|| panic!("line {}: a block begins with a command", block.at));
        match line.strip_prefix("> ").filter(|_| typing) {
            Some(more) => step.command.push_str(&format!("\n{more}")),
            None => {
                typing = false;
                step.expected.push(line.clone());
            }
        }
    }
    found
}

/// A shell script that does what the document says, and the steps in it.
fn script(text: &str) -> (String, Vec<Step>) {
    let (mut script, mut all) = (String::new(), Vec::new());
    for block in blocks(text) {
        if let Some(name) = block.info.split_whitespace().find_map(|word| word.strip_prefix("file=")) {
            script.push_str(&format!("cat > {name} <<'END OF FILE'\n{}\nEND OF FILE\n", block.lines.join("\n")));
            script.push_str(&format!("chmod 755 {name}\n"));
        }
        if block.info == "console run" {
            for step in steps(&block) {
                script.push_str(&format!("printf '{MARK} %s\\n' {}\n{}\n", all.len(), step.command));
                all.push(step);
            }
        }
    }
    script.push_str(&format!("printf '{MARK} end\\n'\n"));
    (script, all)
}

/// Both ends of a terminal of 80 columns.
fn terminal() -> (File, OwnedFd) {
    let (mut ours, mut theirs) = (-1, -1);
    let size = libc::winsize { ws_row: 40, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the pointers are valid or null, as openpty(3) allows; on success both descriptors are ours alone.
    unsafe {
        let done = libc::openpty(
            &raw mut ours,
            &raw mut theirs,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            &raw const size as *mut _,
        );
        assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
        (File::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs))
    }
}

/// A shell and what it started, ended when dropped.
struct Shell(Child);

impl Drop for Shell {
    fn drop(&mut self) {
        // SAFETY: kill(2) takes numbers only; the child leads a group of its own and is not reaped before.
        unsafe { libc::kill(-(self.0.id() as i32), libc::SIGKILL) };
        let _ = self.0.wait();
    }
}

fn start(home: &Path, script: &Path, theirs: OwnedFd) -> Shell {
    let bin = home.join("bin");
    let mut shell = Command::new("bash");
    shell.arg("--norc").arg(script).env_clear().current_dir(home.join("work"));
    shell.env("HOME", home).env("USER", "ana").env("TERM", "xterm").env("LANG", "C.UTF-8").env("NO_COLOR", "1");
    shell.env("TZ", "UTC").env("PATH", format!("{}:{}", bin.display(), std::env::var("PATH").unwrap()));
    shell.stdin(Stdio::null()).stdout(theirs.try_clone().unwrap()).stderr(theirs);
    // SAFETY: setsid and ioctl are safe between fork and exec; descriptor 1 is the terminal.
    unsafe {
        shell.pre_exec(|| {
            libc::setsid();
            libc::ioctl(1, libc::TIOCSCTTY, 0);
            Ok(())
        });
    }
    Shell(shell.spawn().unwrap())
}

/// All that appears on the terminal until the script has ended.
fn watch(mut ours: File) -> String {
    let until = Instant::now() + LIMIT;
    let mut said = Vec::new();
    let end = format!("{MARK} end");
    loop {
        let left = until.saturating_duration_since(Instant::now()).as_millis() as i32;
        let mut fds = [libc::pollfd { fd: ours.as_raw_fd(), events: libc::POLLIN, revents: 0 }];
        // SAFETY: the pointer and the count are those of the array.
        let ready = unsafe { libc::poll(fds.as_mut_ptr(), 1, left) };
        let mut piece = [0; 4096];
        let count = if ready > 0 { ours.read(&mut piece).unwrap_or(0) } else { 0 };
        said.extend_from_slice(&piece[..count]);
        let text = String::from_utf8_lossy(&said);
        if count == 0 || text.contains(&end) {
            return text.lines().map(shown).collect::<Vec<_>>().join("\n");
        }
    }
}

/// What is left of a line to look at: what a progress bar drew is gone once the line was erased or written over.
fn shown(line: &str) -> &str {
    let line = line.trim_end_matches('\r');
    let line = line.rsplit("\u{1b}[2K").next().unwrap_or(line);
    line.rsplit('\r').next().unwrap_or(line)
}

/// What differs from run to run becomes the same on both sides.
fn same(line: &str) -> String {
    static FILTERS: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
        let filters = [
            (r"\x1b\[[0-9;?]*[a-zA-Z]", ""),
            (r"\b(Mon|Tue|Wed|Thu|Fri|Sat|Sun) \d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d\d:\d\d", "TIME"),
            (r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "ID"),
            (r"\b[0-9a-f]{8}(-[0-9a-f]{0,4})?(…|\.\.\.)", "ID"),
            (r"\b[0-9a-f]{32}\b", "TRACE"),
            (r"\b\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)", "TIME"),
            (r"\b(\d+(\.\d+)?(ms|us|s|m|h|d))+( ago)?\b|\bnow\b", "AGE"),
            (r#"("pid":)\d+"#, "${1}PID"),
            (r"[ \t]+", " "),
            (r"\bAGE AGE\b", "AGE"),
            (r"\b\d+ AGE (\d+\.\d+\.\d+)", "PID AGE ${1}"),
        ];
        filters.into_iter().map(|(pattern, with)| (Regex::new(pattern).unwrap(), with)).collect()
    });
    let filtered = FILTERS.iter().fold(line.to_owned(), |line, (from, to)| from.replace_all(&line, *to).into_owned());
    filtered.trim().to_owned()
}

/// Whether lines are as expected, where `...` stands for any number of them.
fn matches(expected: &[String], said: &[String]) -> bool {
    match expected.split_first() {
        None => said.is_empty(),
        Some((first, rest)) if first == "..." => (0..=said.len()).any(|skip| matches(rest, &said[skip..])),
        Some((first, rest)) => said.first() == Some(first) && matches(rest, &said[1..]),
    }
}

fn lines<'a>(text: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut all: Vec<String> = text.map(same).collect();
    while all.last().is_some_and(String::is_empty) {
        all.pop();
    }
    all
}

fn run(document: &str) -> Vec<String> {
    let (script, steps) = script(&read(document));
    if steps.is_empty() {
        return Vec::new();
    }
    let home = tempfile::Builder::new().prefix("orx-docs-").tempdir().unwrap();
    for dir in ["bin", "work"] {
        std::fs::create_dir(home.path().join(dir)).unwrap();
    }
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_orx"), home.path().join("bin/orx")).unwrap();
    let file = home.path().join("bin/steps");
    File::create(&file).unwrap().write_all(script.as_bytes()).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o700)).unwrap();
    let (ours, theirs) = terminal();
    let shell = start(home.path(), &file, theirs);
    let said = watch(ours);
    drop(shell);
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let said = said.replace(home.path().to_str().unwrap(), "/home/ana").replace(&host, "vm");
    let parts: Vec<&str> = said.split(MARK).skip(1).collect();
    let check = |(n, step): (usize, &Step)| {
        let Some(part) = parts.get(n) else {
            return Some(format!("{document}:{}: $ {}: was not reached\n{said}", step.at, step.command));
        };
        let (expected, found) = (lines(step.expected.iter().map(String::as_str)), lines(part.lines().skip(1)));
        let raw: Vec<&str> = part.lines().skip(1).collect();
        (!matches(&expected, &found)).then(|| {
            format!(
                "{document}:{}: $ {}\n-- told:\n{}\n-- printed:\n{}",
                step.at,
                step.command,
                step.expected.join("\n"),
                raw.join("\n")
            )
        })
    };
    steps.iter().enumerate().filter_map(check).collect()
}

#[test]
fn console_blocks_print_what_they_show() {
    let documents: Vec<String> =
        documents().into_iter().filter(|name| name == "README.md" || name.starts_with("docs/")).collect();
    let breaches = std::thread::scope(|scope| {
        let runs: Vec<_> = documents.iter().map(|name| scope.spawn(move || run(name))).collect();
        runs.into_iter().flat_map(|run| run.join().unwrap()).collect::<Vec<_>>()
    });
    expect_none(breaches);
}

#[test]
fn the_readme_is_run() {
    let (_, steps) = script(&read("README.md"));
    assert!(steps.len() >= 10, "{}", steps.len());
}

#[test]
fn a_difference_is_seen_and_what_changes_from_run_to_run_is_not() {
    assert_eq!(same("done  2026-11-21T03:09:43.926Z (3s ago)"), same("done 2027-01-01T00:00:00.000Z (now)"));
    assert_ne!(same("job 1 pending"), same("job 2 pending"));
    let lines = |text: &[&str]| text.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
    assert!(matches(&lines(&["a", "...", "d"]), &lines(&["a", "b", "c", "d"])));
    assert!(!matches(&lines(&["a", "..."]), &lines(&["b"])));
}
