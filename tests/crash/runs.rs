//! Many `orx run` at once on one file: each gets its turn, and no job runs twice because its result had to wait.

use std::time::{Duration, Instant};

use super::table::Table;
use super::world::{LIMIT, Process, World, full, seed};

/// How long they may take in full size, on a release build and two cores.
const MOST: Duration = Duration::from_secs(20);

#[test]
fn runs_at_once_starve_none_and_double_no_job() {
    for round in 0..if full() { 3 } else { 1 } {
        let many = if full() { 300 } else { 60 };
        let world = World::on_file();
        let mut table = Table::new(format!("{many} orx run at once, round {}, seed {}", round + 1, seed()));
        let begun = Instant::now();
        let runs: Vec<Process> = (0..many).map(|_| world.spawn(&["run", "--", "true"])).collect();
        let mut wrong = Vec::new();
        for mut run in runs {
            let status = run.wait(LIMIT);
            if !status.success() {
                wrong.push(format!("{status}: {}", run.stderr()));
            }
        }
        let took = begun.elapsed().as_secs_f64();
        match full() {
            true => table.at_most("seconds until the last had ended", took, MOST.as_secs_f64()),
            false => table.fact("seconds until the last had ended", format!("{took:.1}")),
        }
        table.none("that did not end with 0", &wrong);
        let jobs = world.json(&["list", "--limit", "0"]);
        let jobs = jobs.as_array().unwrap();
        table.exactly("jobs", jobs.len(), many);
        let twice = jobs.iter().filter(|job| job["attempt"] != 1 || job["state"] != "done");
        table.none("jobs that ran twice, or did not end well", &twice.collect::<Vec<_>>());
        table.exactly("exit code of orx audit", world.run(&["audit"]).0.unwrap_or(-1), 0);
        table.finish();
    }
}
