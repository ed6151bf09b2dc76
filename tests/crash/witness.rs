//! What jobs say themselves: each appends a line when it starts and one when it ends.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

/// What a line tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    Start,
    End,
    /// A grandchild in a session of its own.
    Daemon,
}

/// A line of the witness file.
#[derive(Clone, Debug)]
pub struct Line {
    pub mark: Mark,
    pub job: String,
    pub attempt: u64,
    /// Milliseconds of the wall clock.
    pub at: i64,
    pub pid: i32,
}

pub fn parse(text: &str) -> Vec<Line> {
    text.split_inclusive('\n').filter(|line| line.ends_with('\n')).map(|line| parse_line(line.trim_end())).collect()
}

fn parse_line(line: &str) -> Line {
    let fields: Vec<&str> = line.split(',').collect();
    let [mark, job, attempt, at, pid] = fields[..] else { panic!("a torn line in the witness file: {line:?}") };
    let mark = match mark {
        "start" => Mark::Start,
        "end" => Mark::End,
        "daemon" => Mark::Daemon,
        _ => panic!("{line:?}"),
    };
    let number = |text: &str| text.parse::<i64>().unwrap_or_else(|_| panic!("{line:?}"));
    Line { mark, job: job.into(), attempt: number(attempt) as u64, at: number(at), pid: number(pid) as i32 }
}

/// The program of the jobs, compiled once; small and static, so that thousands of starts cost little.
pub fn helper() -> &'static str {
    static HELPER: OnceLock<String> = OnceLock::new();
    HELPER.get_or_init(|| compile("witness", &[&["-static"], &[]]))
}

/// Compiles the C file of that name, in the first of these ways that works here.
pub fn compile(name: &str, ways: &[&[&str]]) -> String {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/crash").join(name).with_extension("c");
    let product = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    // Another test process may do the same: each makes its own and puts it in place.
    let mine = product.with_extension(std::process::id().to_string());
    let compiled = ways.iter().any(|how| {
        let cc = Command::new("cc").args(*how).args(["-O1", "-o"]).arg(&mine).arg(&source).output();
        cc.expect("a C compiler is needed (package gcc)").status.success()
    });
    assert!(compiled, "cc cannot compile {}", source.display());
    std::fs::rename(&mine, &product).unwrap();
    product.to_str().unwrap().to_owned()
}
