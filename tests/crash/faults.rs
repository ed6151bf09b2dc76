//! C4: the n-th fsync or write of the store's files fails, for n = 1… until none is hit. What fails, and how often it did.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};

use super::chance::Chance;
use super::table::Table;
use super::world::{World, full, seed};

/// How many runs go on beside each other: they mostly wait.
const THREADS: usize = 8;
/// The store of a world that is hurt, in a folder that holds nothing else.
pub const STORE: &str = "q/orx.db";

/// Which calls are counted: those of one sort on one file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Class {
    /// `sync` or `write`.
    ops: &'static str,
    /// The name of the file in the store's folder.
    file: String,
}

/// What happens to the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Harm {
    /// As `fail.c` knows it.
    kind: &'static str,
    /// Whether the calls after it fail too.
    lasting: bool,
}

const fn once(kind: &'static str) -> Harm {
    Harm { kind, lasting: false }
}

const fn lasting(kind: &'static str) -> Harm {
    Harm { kind, lasting: true }
}

const SYNC: [Harm; 4] = [once("eio"), lasting("eio"), once("before"), once("after")];
const WRITE: [Harm; 7] =
    [once("eio"), once("enospc"), lasting("enospc"), once("short"), once("torn"), once("before"), once("after")];

impl Class {
    fn harms(&self) -> &'static [Harm] {
        if self.ops == "sync" { &SYNC } else { &WRITE }
    }
}

impl Harm {
    /// Whether the process dies of it.
    pub fn kills(self) -> bool {
        matches!(self.kind, "torn" | "before" | "after")
    }

    fn says(self, ops: &str) -> String {
        match (self.kind, self.lasting) {
            ("torn", _) => format!("kill -9 in the middle of a {ops}"),
            ("before" | "after", _) => format!("kill -9 {} a {ops}", self.kind),
            ("short", _) => format!("{ops} does half"),
            (kind, false) => format!("{ops} fails, {kind}"),
            (kind, true) => format!("{ops} fails for a while, {kind}"),
        }
    }
}

/// One fault in one run.
pub struct Fault {
    class: Option<Class>,
    pub harm: Harm,
    ops: &'static str,
    at: u64,
    times: u64,
}

impl Fault {
    /// Hits nothing, and writes down what could be hit.
    fn none(ops: &'static str) -> Self {
        Self { class: None, harm: once(""), ops, at: 0, times: 0 }
    }

    /// The environment in which orx is hurt.
    pub fn environment(&self, world: &World) -> Vec<(&'static str, String)> {
        let text = |path: PathBuf| path.to_str().unwrap().to_owned();
        let count = world.path("count");
        if !count.exists() {
            std::fs::write(&count, [0; 8]).unwrap();
        }
        let mut all = vec![
            ("LD_PRELOAD", shim().to_owned()),
            ("ORX_FAIL_UNDER", text(world.path(STORE).parent().unwrap().to_owned())),
            ("ORX_FAIL_OPS", self.ops.into()),
            ("ORX_FAIL_KIND", self.harm.kind.into()),
            ("ORX_FAIL_AT", self.at.to_string()),
            ("ORX_FAIL_TIMES", self.times.to_string()),
            ("ORX_FAIL_COUNT", text(count)),
            ("ORX_FAIL_LOG", text(world.path("hits"))),
        ];
        all.extend(self.class.iter().map(|c| ("ORX_FAIL_FILE", c.file.clone())));
        all
    }

    /// How often it hit.
    pub fn hits(&self, world: &World) -> usize {
        let hits = std::fs::read_to_string(world.path("hits")).unwrap_or_default();
        if self.at == 0 { 0 } else { hits.lines().count() }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let file = self.class.as_ref().map_or("", |c| &c.file);
        write!(f, "{} at number {} on {file}", self.harm.says(self.ops), self.at)
    }
}

fn world() -> World {
    let world = World::on_file();
    let store = world.path(STORE);
    world.with_store(store)
}

/// What a run found.
pub struct Found {
    /// Whether anything was hit.
    pub hit: bool,
    /// Promises that were broken.
    pub broken: Vec<String>,
}

/// A scenario that is run again and again, each time with another fault.
pub trait Scenario: Sync {
    /// How many calls fail where it lasts.
    const LASTING: u64;

    fn run(&self, world: &mut World, fault: &Fault) -> Found;
}

/// How often each failpoint was hit.
type Hits = BTreeMap<(Harm, Class), usize>;

/// What all runs found.
#[derive(Default)]
struct Tally {
    runs: AtomicUsize,
    hits: Mutex<Hits>,
    broken: Mutex<Vec<String>>,
}

/// Runs it with every fault there is, and puts what was hit and broken into the table. Each harm must be done at least
/// once to each of the `required` files.
pub fn hurt<S: Scenario>(scenario: &S, required: &[(&'static str, &[&str])], table: &mut Table) {
    let is_required =
        |class: &Class| required.iter().any(|(o, files)| *o == class.ops && files.contains(&&*class.file));
    let mut work = Vec::new();
    for (class, calls) in classes(scenario) {
        for harm in class.harms() {
            let chance = Chance::new(seed(), work.len() as u64);
            work.push((class.clone(), *harm, places(calls, is_required(&class), chance)));
        }
    }
    let (next, tally) = (AtomicUsize::new(0), Tally::default());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some((class, harm, places)) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
                    tally.hurt(scenario, class, *harm, places);
                }
            });
        }
    });
    table.fact("runs", tally.runs.into_inner());
    show(&tally.hits.into_inner().unwrap(), required, table);
    table.none("runs that broke a promise", &tally.broken.into_inner().unwrap());
}

/// At which of so many calls; in full at more than there are, so that it is seen that none is hit any more.
fn places(calls: u64, required: bool, mut chance: Chance) -> Vec<u64> {
    match (full(), required) {
        // A run makes not always as many.
        (true, _) => (1..=2 * calls + 10).collect(),
        // One of them; where this run made fewer calls, the first.
        (false, true) => vec![chance.between(1, calls), 1],
        (false, false) => Vec::new(),
    }
}

impl Tally {
    /// Does one harm at one place after the other: in full until none is hit, else until one is.
    fn hurt<S: Scenario>(&self, scenario: &S, class: &Class, harm: Harm, places: &[u64]) {
        for at in places {
            let times = if harm.lasting { S::LASTING } else { 1 };
            let fault = Fault { class: Some(class.clone()), harm, ops: class.ops, at: *at, times };
            let mut world = world();
            let found = scenario.run(&mut world, &fault);
            self.runs.fetch_add(1, Ordering::Relaxed);
            if !found.broken.is_empty() {
                let (why, kept) = (found.broken.join("; "), world.keep().display());
                self.broken.lock().unwrap().push(format!("{fault}: {why}\n      kept in {kept}"));
            }
            if found.hit {
                *self.hits.lock().unwrap().entry((harm, class.clone())).or_default() += 1;
            }
            if found.hit != full() {
                return;
            }
        }
        assert!(!full(), "{class:?}, {}: hit wherever it was tried", harm.says(class.ops));
    }
}

/// What can be hit: two runs without a fault tell.
fn classes<S: Scenario>(scenario: &S) -> BTreeMap<Class, u64> {
    let mut classes = BTreeMap::new();
    for ops in ["sync", "write"] {
        let mut world = world();
        let found = scenario.run(&mut world, &Fault::none(ops));
        assert!(found.broken.is_empty(), "without a fault: {:?}, kept in {}", found.broken, world.keep().display());
        for line in std::fs::read_to_string(world.path("hits")).unwrap().lines() {
            let file = line.rsplit(' ').next().unwrap().to_owned();
            *classes.entry(Class { ops, file }).or_default() += 1;
        }
    }
    classes
}

/// One row for each harm: the files on which it was done.
fn show(hits: &Hits, required: &[(&'static str, &[&str])], table: &mut Table) {
    for (ops, harms) in [("sync", &SYNC[..]), ("write", &WRITE[..])] {
        let must = required.iter().filter(|(o, _)| *o == ops).flat_map(|(_, files)| files.iter());
        for harm in harms {
            let mine = |class: &Class| class.ops == ops;
            let mut counts: BTreeMap<&str, usize> = must.clone().map(|file| (*file, 0)).collect();
            for ((_, class), n) in hits.iter().filter(|((h, class), _)| h == harm && mine(class)) {
                *counts.entry(class.file.as_str()).or_default() += n;
            }
            table.each(&harm.says(ops), counts);
        }
    }
}

/// The library that is preloaded, compiled once.
fn shim() -> &'static str {
    static SHIM: OnceLock<String> = OnceLock::new();
    SHIM.get_or_init(|| {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/crash/fail.c");
        let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fail.so");
        // Another test process may do the same: each makes its own and puts it in place.
        let mine = library.with_extension(std::process::id().to_string());
        let cc = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&mine).arg(source).output();
        let cc = cc.expect("a C compiler is needed (package gcc)");
        assert!(cc.status.success(), "cc cannot compile {source}: {}", String::from_utf8_lossy(&cc.stderr));
        std::fs::rename(&mine, &library).unwrap();
        library.to_str().unwrap().to_owned()
    })
}
