//! C8: process trees that are hard to end are ended, whichever way their attempt ends.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::table::Table;
use super::tree::{ESCAPES, FIXTURES, Tree};
use super::world::{LIMIT, Process, World, eventually, full, now, seed};

const ARGS: [&str; 5] = ["--slots", "13", "--drain-timeout", "200ms", "--lease=1h"];
/// The kill grace of the jobs, in milliseconds.
const GRACE: i64 = 1_000;
/// What a busy machine may take beyond it, in milliseconds.
const SLACK: i64 = 4_000;
/// How long pipes are read after the last process has ended, in milliseconds.
const DRAIN: i64 = 2_000;
/// The timeout of the attempts that end by it, in milliseconds: time enough to start all.
const TIMEOUT: i64 = 5_000;
/// How long before its end a tree must have been seen alive, in milliseconds.
const JUST_BEFORE: i64 = 1_000;
/// How long a tree is looked at that will not end.
const PATIENCE: Duration = Duration::from_secs(20);
/// What a worker keeps of the output of an attempt, in bytes.
const CAP: u64 = 10 * 1024 * 1024;
/// What a worker may need at most beside its program, in MiB.
const MOST_MEMORY: u64 = 64;
/// The fork loop makes hundreds in a second.
const MOST_ZOMBIES: usize = 1000;
/// How long the looks at those without a name are repeated, on a busy machine.
const LAGGARD: Duration = Duration::from_secs(10);

/// How attempts end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Itself,
    Cancel,
    Timeout,
    Drain,
    Kill,
}

impl End {
    const ALL: [Self; 5] = [Self::Itself, Self::Cancel, Self::Timeout, Self::Drain, Self::Kill];

    fn outcome(self) -> &'static str {
        match self {
            Self::Itself => "done",
            Self::Cancel => "cancelled",
            Self::Timeout => "timed_out",
            Self::Drain => "interrupted",
            Self::Kill => "lost",
        }
    }
}

/// What became of one fixture over all its ends.
#[derive(Default)]
struct Row {
    trees: usize,
    alive: usize,
    processes: usize,
    absent: usize,
    worst: i64,
    worst_settled: i64,
}

#[test]
fn c8_no_process_of_any_tree_outlives_its_attempt() {
    run("C8 process trees", &FIXTURES, &End::ALL, None);
}

#[test]
fn c8_in_a_delegated_cgroup_not_even_an_escape_outlives_its_attempt() {
    let cgroup = match Delegated::make() {
        Ok(cgroup) => cgroup,
        Err(why) => return println!("skipped: C8 needs a cgroup of version 2 that it may delegate: {why}"),
    };
    let fixtures = [&FIXTURES[..], &[ESCAPES]].concat();
    let few = ["ignores-term", "fork-loop", "held-pipe", "outlives", ESCAPES];
    let (fixtures, ends) = match full() {
        true => (&fixtures[..], &End::ALL[..]),
        false => (&few[..], &[End::Itself, End::Cancel, End::Kill][..]),
    };
    run("C8 process trees in a delegated cgroup", fixtures, ends, Some(&cgroup.0));
    let left: Vec<String> = cgroup.children();
    assert!(left.is_empty(), "cgroups are left: {left:?}");
}

fn run(title: &str, fixtures: &[&'static str], ends: &[End], cgroup: Option<&Path>) {
    let rounds = if full() { 5 } else { 1 };
    let begun = Instant::now();
    let world = World::new();
    let (many, kinds) = (fixtures.len(), ends.len());
    let title = format!("{title}: {many} fixtures × {kinds} ends × {rounds}, kill grace {GRACE} ms, seed {}", seed());
    let mut run = Run {
        world: &world,
        fixtures,
        cgroup,
        table: Table::new(title),
        rows: BTreeMap::new(),
        memory: 0,
        zombies: 0,
        wrong: Vec::new(),
    };
    let mut worker = run.start();
    world.wait_ready(&worker);
    for round in 0..rounds {
        for end in ends {
            worker = run.end_all(worker, *end, &format!("{round}-{end:?}"));
        }
    }
    worker.stop();
    run.report();
    run.table.fact("wall time", format!("{:.1} s", begun.elapsed().as_secs_f64()));
    run.table.finish();
}

struct Run<'a> {
    world: &'a World,
    fixtures: &'a [&'static str],
    /// Where workers run, if they have a cgroup to delegate.
    cgroup: Option<&'a Path>,
    table: Table,
    rows: BTreeMap<&'static str, Row>,
    /// The most that a worker needed, in MiB.
    memory: u64,
    /// The most zombies that one tree left to the worker at a time.
    zombies: usize,
    wrong: Vec<String>,
}

impl Run<'_> {
    fn start(&self) -> Process {
        self.world.worker_in(self.cgroup, "a", &ARGS)
    }

    /// Starts all trees side by side, ends them, and hands back the worker that lives then.
    fn end_all(&mut self, mut worker: Process, end: End, name: &str) -> Process {
        let mut trees = self.plant_all(end, name);
        eventually("all trees to be complete", LIMIT, || trees.iter_mut().all(Tree::is_ready));
        let held = trees.iter().find(|t| t.fixture == "held-pipe").map(Tree::hold_pipe);
        eventually("all trees to be alive", LIMIT, || {
            look(&mut trees, worker.pid());
            trees.iter().all(|tree| tree.alive_at > 0)
        });
        if let Some(cgroup) = self.cgroup {
            let attempts = format!("{}/orx.", cgroup.file_name().unwrap().to_str().unwrap());
            let outside = trees.iter().flat_map(|tree| tree.outside(&attempts));
            self.wrong.extend(outside.map(|process| format!("{name}: {process} is in no cgroup of an attempt")));
        }
        let ended_at = now();
        match end {
            End::Itself => trees.iter().for_each(Tree::let_go),
            End::Cancel => {
                let jobs = trees.iter().map(|t| &*t.job);
                self.world.ok(&["-q", "cancel"].into_iter().chain(jobs).collect::<Vec<_>>());
            }
            End::Timeout => {}
            End::Drain => worker.signal(Signal::TERM),
            End::Kill => {
                self.remember_memory(&worker);
                worker.kill();
            }
        }
        if end == End::Kill {
            worker = self.start(); // what the dead one left is for this one to find
        }
        self.wait_gone(&mut trees, &worker, name);
        if end == End::Drain {
            let status = worker.wait(LIMIT);
            assert!(status.success(), "{status}\n{}", worker.stderr());
            worker = self.start();
        }
        for tree in &trees {
            let attempt = self.settled(tree, end, name);
            let at = |what: &str| millis(&attempt[what]);
            let from = if end == End::Timeout { at("started_at") + TIMEOUT } else { ended_at };
            self.count(tree, from, at("finished_at"));
        }
        drop(held);
        self.left_nothing(name);
        self.runs_on(&worker, name);
        worker
    }

    fn plant_all(&self, end: End, name: &str) -> Vec<Tree> {
        let (grace, timeout) = (format!("{GRACE}ms"), format!("{TIMEOUT}ms"));
        let mut options = vec!["--kill-grace", &grace, "--max-losses", "0"];
        if end == End::Timeout {
            options.extend(["--timeout", &timeout]);
        }
        let plant = |fixture: &'static str| {
            let bytes = (end == End::Itself).then(|| flood(fixture));
            Tree::plant(self.world, fixture, name, &options, bytes)
        };
        self.fixtures.iter().map(|fixture| plant(fixture)).collect()
    }

    fn wait_gone(&mut self, trees: &mut [Tree], worker: &Process, name: &str) {
        let since = Instant::now();
        loop {
            let left = look(trees, worker.pid());
            if left.is_empty() {
                return;
            }
            if since.elapsed() > PATIENCE {
                self.wrong.push(format!("{name}: still there: {} like {}", left.len(), left[0]));
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for the record of an attempt, which must be right.
    fn settled(&mut self, tree: &Tree, end: End, name: &str) -> serde_json::Value {
        let mut attempt = serde_json::Value::Null;
        eventually("the attempt to be settled", LIMIT, || {
            attempt = tree.attempt(self.world);
            !attempt["outcome"].is_null()
        });
        if attempt["outcome"] != end.outcome() {
            self.wrong.push(format!("{name}: {} ended as {attempt}", tree.fixture));
        }
        let (code, said, talk) = self.world.run(&["tail", &tree.job]);
        let cut = cut(&talk);
        let kept = said.len() as u64;
        let wrong = match (tree.fixture, end) {
            _ if code != Some(0) || kept > CAP => true,
            // Of a killed worker only what it had stored is there (S28), which may be nothing yet.
            (_, End::Kill) => false,
            ("gigabyte" | "one-line", End::Itself) => {
                let whole = "begin\n".len() as u64 + flood(tree.fixture) + "\nend\n".len() as u64;
                kept + cut != whole || cut == 0 || !said.starts_with("begin\n") || !said.ends_with("\nend\n")
            }
            // Nor need one that is ended at once have written more than is kept.
            ("gigabyte" | "one-line", _) => !said.starts_with("begin\n") || (end == End::Timeout && cut == 0),
            ("held-pipe", _) => said != "held\n" || cut > 0,
            ("late-output", _) => !said.starts_with("before\n") || !said.ends_with("after\n") || cut > 0,
            _ => !said.is_empty() || cut > 0,
        };
        if wrong {
            let begin: String = said.chars().take(40).collect();
            self.wrong.push(format!("{name}: {} says {begin:?}…, {kept} bytes: {talk}", tree.fixture));
        }
        attempt
    }

    /// Nor is anybody left who could not write his name.
    fn left_nothing(&mut self, name: &str) {
        let begun = Instant::now();
        let mut left = self.world.job_processes();
        while !left.is_empty() && begun.elapsed() < LAGGARD {
            std::thread::sleep(Duration::from_millis(20));
            left = self.world.job_processes();
        }
        self.wrong.extend(left.iter().map(|pid| format!("{name}: {pid} carries a fence and is still there")));
    }

    fn count(&mut self, tree: &Tree, from: i64, finished: i64) {
        let row = self.rows.entry(tree.fixture).or_default();
        self.zombies = self.zombies.max(tree.zombies);
        row.trees += 1;
        row.alive += usize::from(tree.alive_at >= from - JUST_BEFORE);
        row.processes += tree.size();
        row.absent += usize::from(tree.gone_at.is_some());
        row.worst = row.worst.max(tree.gone_at.unwrap_or(i64::MAX) - from);
        row.worst_settled = row.worst_settled.max(finished - from);
    }

    /// The worker is of use afterwards.
    fn runs_on(&mut self, worker: &Process, name: &str) {
        let next = self.world.add(&[], &["1"]);
        self.world.ok(&["-q", "wait", "--timeout", "60s", &next]); // fails unless it is done
        if !worker.is_alive() {
            self.wrong.push(format!("{name}: the worker did not live on"));
        }
        self.remember_memory(worker);
    }

    /// What it ever had in memory, but for its own program, which is large where it was built for tests.
    fn remember_memory(&mut self, worker: &Process) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", worker.pid())).unwrap_or_default();
        let kib = |name: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().trim_end_matches(" kB").parse().unwrap()
        };
        self.memory = self.memory.max(kib("VmHWM:").saturating_sub(kib("RssFile:")) / 1024);
    }

    fn report(&mut self) {
        for fixture in self.fixtures {
            let row = &self.rows[fixture];
            let text = format!(
                "alive before {} of {}, absent after {} ({} processes), gone after {} ms at worst, settled after {} ms",
                row.alive, row.trees, row.absent, row.processes, row.worst, row.worst_settled
            );
            self.table.fact(fixture, text);
        }
        let all: Vec<&Row> = self.rows.values().collect();
        let sum = |of: fn(&Row) -> usize| all.iter().map(|row| of(row)).sum::<usize>();
        let trees = sum(|row| row.trees);
        self.table.at_least("trees seen alive just before", sum(|row| row.alive), trees);
        self.table.at_least("trees absent after", sum(|row| row.absent), trees);
        let worst = all.iter().map(|row| row.worst).max().unwrap_or_default();
        let settled = all.iter().map(|row| row.worst_settled).max().unwrap_or_default();
        self.table.at_most("milliseconds to gone at worst", worst, GRACE + SLACK);
        self.table.at_most("milliseconds to settled at worst", settled, GRACE + SLACK + DRAIN);
        self.table.at_most("zombies that one tree left to the worker at a time", self.zombies, MOST_ZOMBIES);
        self.table.at_most("MiB a worker needed at most beside its program", self.memory, MOST_MEMORY);
        let most = self.fixtures.iter().map(|fixture| flood(fixture)).max();
        self.table.fact("bytes through one pipe", most.unwrap_or_default());
        self.table.none("wrong", &std::mem::take(&mut self.wrong));
    }
}

fn look(trees: &mut [Tree], worker: u32) -> Vec<String> {
    trees.iter_mut().flat_map(|tree| tree.look(worker)).collect()
}

/// How much a fixture writes before it ends by itself, in bytes.
fn flood(fixture: &str) -> u64 {
    match (fixture, full()) {
        ("gigabyte", true) => 1 << 30,
        ("gigabyte", false) => 128 << 20,
        ("one-line", _) => 32 << 20,
        _ => 0,
    }
}

/// The bytes that are marked as cut.
fn cut(talk: &str) -> u64 {
    let marked = talk.lines().filter_map(|line| line.strip_prefix("[orx: ")?.strip_suffix(" bytes cut]"));
    marked.map(|count| count.parse::<u64>().unwrap()).sum()
}

fn millis(time: &serde_json::Value) -> i64 {
    time.as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_millisecond()
}

/// A cgroup that looks as if systemd had delegated it; taken away in the end.
struct Delegated(PathBuf);

impl Delegated {
    fn make() -> Result<Self, String> {
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
        let mount = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>()).find(|f| f[2] == "cgroup2");
        let mount = mount.ok_or("no cgroup2 is mounted")?[1].to_owned();
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
        let own = own.lines().find_map(|line| line.strip_prefix("0::/")).ok_or("no cgroup of version 2")?;
        let dir = Path::new(&mount).join(own).join(format!("orx-test-{}", std::process::id()));
        std::fs::create_dir(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        let made = Self(dir);
        rustix::fs::setxattr(&made.0, "user.delegate", b"1", rustix::fs::XattrFlags::CREATE)
            .map_err(|e| format!("extended attributes: {e}"))?;
        match made.0.join("cgroup.kill").exists() {
            true => Ok(made),
            false => Err("this kernel has no cgroup.kill".into()),
        }
    }

    fn children(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).unwrap().flatten();
        entries.filter(|e| e.path().is_dir()).map(|e| e.file_name().to_str().unwrap().to_owned()).collect()
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        let _ = std::fs::write(self.0.join("cgroup.kill"), "1"); // what a failed run left behind
        let gone = |dir: &Path| std::fs::remove_dir(dir).is_ok();
        let started = Instant::now();
        while !gone(&self.0) && started.elapsed() < PATIENCE {
            for part in self.children().iter().map(|name| self.0.join(name)) {
                let inner = std::fs::read_dir(&part).into_iter().flatten().flatten();
                inner.filter(|e| e.path().is_dir()).for_each(|e| _ = gone(&e.path()));
                gone(&part);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
