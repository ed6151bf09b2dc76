//! kill -9 of a worker with eight long jobs: they run again in time, and nothing of them is left.

use std::time::{Duration, Instant};

use super::table::Table;
use super::verdict::{Copies, Told, judge, wait_all_ended};
use super::witness::{Line, Mark};
use super::world::{LIMIT, Process, World, eventually, full, is_alive, now, seed};

const JOBS: usize = 8;
const LEASE: i64 = 3_000;
/// What a restarted worker may take on a busy machine; its lease is an hour, so that only S8 can be the reason.
const AT_ONCE: i64 = 2_000;

#[test]
fn eight_jobs_of_a_killed_worker_run_again_in_time() {
    for round in 0..if full() { 5 } else { 1 } {
        run(round);
    }
}

/// Nobody runs it again, so nobody looks for its processes but the successor of its worker (I12, S8).
#[test]
fn eight_what_is_left_of_a_job_that_must_not_run_again_ends_when_the_name_is_back() {
    let world = World::new();
    let mut table = Table::new("kill -9 of a worker whose job must not run again, taken back by another worker");
    let mut first = world.ready_worker("a", &["-q", "--slots", "1", "--lease", "1s"]);
    let id = world.add(&["--max-losses", "0"], &["t300000"]);
    let lines = |mark: Mark| world.lines().into_iter().filter(|l| l.mark == mark).collect::<Vec<_>>();
    eventually("the daemon", LIMIT, || !lines(Mark::Start).is_empty() && !lines(Mark::Daemon).is_empty());
    let leader = world.ready_worker("b", &["-q", "--slots", "1", "--lease", "1h"]);
    first.kill();
    eventually("b to give it up", LIMIT, || world.count(&["failed"]) == 1 && world.workers().len() == 1);
    table.none("processes of the dead worker itself", &alive(&lines(Mark::Start), Mark::Start));
    table.fact("daemons left until the same name is back", alive(&lines(Mark::Daemon), Mark::Daemon).len());
    let back = world.ready_worker("a", &["-q", "--slots", "1"]);
    table.none("daemons left when the same name is back", &alive(&lines(Mark::Daemon), Mark::Daemon));
    table.fact("the job", world.ok(&["status", &id, "--format", "{{state}} {{reason}}"]).trim());
    [leader, back].into_iter().for_each(Process::stop);
    table.none("job processes left", &world.job_processes());
    table.finish();
}

fn run(round: usize) {
    let begun = Instant::now();
    let world = World::new();
    let title = "kill -9 of a worker with 8 long jobs, then of its heir, which is started again";
    let mut table = Table::new(format!("{title}, {}, round {}, seed {}", world.kind(), round + 1, seed()));
    let mut first = world.ready_worker("a", &["-q", "--slots", "8", "--lease", "3s"]);
    // Each leaves a daemon behind: a grandchild in a session of its own.
    let ids: Vec<String> = (0..JOBS).map(|_| world.add(&[], &["t300000", "t300000", "50"])).collect();
    let old = wait_all(&world, 1);
    let heir = ["-q", "--slots", "8", "--lease", "1h"];
    let mut second = world.ready_worker("b", &heir);

    let killed = now();
    first.kill();
    let again = wait_all(&world, 2);
    table.times("running again on another worker", times(&again, killed));
    table.at_most("the last one, in milliseconds", last(&again, killed), LEASE + 2_000);
    table.none("old processes alive then", &alive(&old, Mark::Start));
    // Daemons of a dead worker are for its successor to find (I12).
    table.fact("daemons left until the same name is back", alive(&old, Mark::Daemon).len());
    let back = world.ready_worker("a", &["-q", "--slots", "1", "--queues", "other"]);
    table.none("daemons left when the same name is back", &alive(&old, Mark::Daemon));

    let killed = now();
    second.kill();
    let restarted = world.worker("b", &heir);
    let done = wait_all(&world, 3);
    table.times("running again on the same worker restarted", times(&done, killed));
    table.at_most("the last one, in milliseconds", last(&done, killed), AT_ONCE);
    table.none("old processes alive then", &alive(&again, Mark::Start));
    table.none("old daemons alive then", &alive(&again, Mark::Daemon));
    wait_all_ended(&world, LIMIT);
    restarted.stop();
    back.stop();
    table.fact("wall time", format!("{:.1} s", begun.elapsed().as_secs_f64()));
    judge(&world, &Told::of(ids), Copies::Never, &mut table);
    table.finish();
}

/// Waits until all jobs run in their n-th attempt, daemons included where there are any.
fn wait_all(world: &World, attempt: u64) -> Vec<Line> {
    let lines = || world.lines().into_iter().filter(|l| l.attempt == attempt).collect::<Vec<_>>();
    let all = |mark: Mark| lines().iter().filter(|l| l.mark == mark).count() == JOBS;
    eventually(&format!("attempt {attempt} of all jobs"), Duration::from_secs(30), || {
        all(Mark::Start) && (attempt > 2 || all(Mark::Daemon))
    });
    lines()
}

fn times(lines: &[Line], since: i64) -> Vec<i64> {
    lines.iter().filter(|l| l.mark == Mark::Start).map(|l| l.at - since).collect()
}

fn last(lines: &[Line], since: i64) -> i64 {
    times(lines, since).into_iter().max().unwrap_or(i64::MAX)
}

fn alive(lines: &[Line], mark: Mark) -> Vec<i32> {
    let pids = lines.iter().filter(|l| l.mark == mark).map(|l| l.pid);
    pids.filter(|pid| is_alive(*pid)).collect()
}
