//! A worker that runs, leads and forgets stays as small as it was: its memory, its file, its log.

use std::path::Path;

use super::table::Table;
use super::world::{LIMIT, Process, World, eventually, full};

/// What one wave brings.
struct Size {
    waves: usize,
    jobs: usize,
}

const CI: Size = Size { waves: 2, jobs: 100 };
const FULL: Size = Size { waves: 10, jobs: 20_000 };
/// One of so many jobs writes more than goes with an outcome.
const CHATTY: usize = 50;
const KIB: u64 = 1024;

/// Kibibytes that a process and its store take.
#[derive(Clone, Copy, Default)]
struct Taken {
    memory: u64,
    anonymous: u64,
    file: u64,
    log: u64,
}

impl Taken {
    fn by(worker: &Process, store: &Path) -> Self {
        let status = std::fs::read_to_string(format!("/proc/{}/status", worker.pid())).unwrap();
        let field = |name: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().trim_end_matches(" kB").parse().unwrap()
        };
        let size = |ending: &str| {
            let path = format!("{}{ending}", store.display());
            std::fs::metadata(path).map_or(0, |meta| meta.len()) / KIB
        };
        Self {
            memory: field("VmRSS:"),
            anonymous: field("RssAnon:"),
            file: size("") + size("-output"),
            log: size("-wal") + size("-output-wal"),
        }
    }

    fn most(self, other: Self) -> Self {
        Self {
            memory: self.memory.max(other.memory),
            anonymous: self.anonymous.max(other.anonymous),
            file: self.file.max(other.file),
            log: self.log.max(other.log),
        }
    }
}

#[test]
fn soak_memory_file_and_log_stay_as_they_were() {
    let Size { waves, jobs } = if full() { FULL } else { CI };
    let world = World::on_file();
    let mut table = Table::new(format!("Soak, {waves} waves of {jobs} jobs, each forgotten before the next"));
    world.ok(&["db", "retention", "--done-older-than", "1s"]);
    let batch: String = (0..jobs)
        .map(|n| match n % CHATTY {
            0 => "{\"command\":[\"head\",\"-c\",\"100000\",\"/dev/zero\"]}\n",
            _ => "{\"command\":[\"true\"],\"label\":{\"a\":\"b\"}}\n",
        })
        .collect();
    let file = world.path("batch");
    std::fs::write(&file, batch).unwrap();
    let store = world.path("orx.db");
    let worker = world.ready_worker("soaked", &["-q", "--slots", "2"]);
    let mut after = Vec::new();
    for wave in 1..=waves {
        world.ok(&["-q", "enqueue", "--from", file.to_str().unwrap()]);
        let mut most = Taken::default();
        // What was not run cannot be forgotten.
        eventually("all jobs to be forgotten", LIMIT * 5, || {
            most = most.most(Taken::by(&worker, &store));
            world.count_jobs() == 0
        });
        let Taken { memory, anonymous, file, log } = most;
        let at_most = format!("{memory} ({anonymous} anonymous), file {file}, log {log}");
        table.fact(&format!("at most in wave {wave}, in KiB: memory"), at_most);
        after.push(most);
    }
    // What the first waves taught it, it keeps: statements, pages, buffers.
    let warm = after[(waves - 1) / 2];
    let last = after[waves - 1];
    table.at_most("memory of the last wave", last.memory, warm.memory + warm.memory / 10 + KIB);
    table.at_most("anonymous memory of the last wave", last.anonymous, warm.anonymous + warm.anonymous / 5 + KIB);
    table.at_most("file of the last wave", last.file, warm.file + warm.file / 2 + KIB);
    table.at_most("log of the last wave", last.log, 64 * KIB + KIB);
    worker.stop();
    table.exactly("exit code of orx audit", world.run(&["audit"]).0.unwrap_or(-1), 0);
    table.exactly("exit code of orx db check", world.run(&["db", "check"]).0.unwrap_or(-1), 0);
    table.finish();
}
