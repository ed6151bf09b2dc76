//! Schedules whose runs are those of workflows (S19 to S22).

use orx::error::Kind;
use orx::job::ids::RunName;
use orx::job::lanes::Offer;
use orx::job::plan::{CatchUp, Overlap};
use orx::job::schedule::Definition;
use orx::job::{RunId, RunState, ScheduleId, Target};
use orx::ops::enqueue::Enqueue;
use orx::ops::policies::{LimitChange, SetQueue};
use orx::ops::prune::PruneLedger;
use orx::ops::runs::cancel::CancelRun;
use orx::ops::runs::replay::ReplayRun;
use orx::ops::runs::view::{GetRun, RunView};
use orx::ops::schedules::change::{AddSchedule, Apply, UpdateSchedule};
use orx::ops::schedules::trigger::{Trigger, Triggered};
use orx::time::{Clock as _, Span};
use serde_json::{Value, json};
use uuid::Uuid;

use super::schedules::{definition, every, named};
use super::support::*;

const MINUTE: Span = Span::from_secs(60);

/// Each minute: `build`, then `test`; `tidy` in any case.
fn nightly() -> Value {
    json!({ "name": "nightly", "task": [
        { "name": "build", "command": ["true"] },
        { "name": "test", "needs": ["build"], "command": ["true"] },
        { "name": "tidy", "needs": ["test"], "always": true, "command": ["true"] },
    ]})
}

fn minutely(workflow: Value, overlap: Overlap) -> Definition {
    Definition { target: Target::Workflow(workflow.into()), overlap, ..every("1m") }
}

impl Fixture {
    /// The runs of a schedule, oldest first.
    async fn runs_of(&self, name: &str) -> Vec<RunView> {
        let mut runs = Vec::new();
        for id in self.ledger(name).await.iter().filter_map(|row| row.run_id) {
            runs.push(self.run(id).await);
        }
        runs
    }

    async fn run(&self, id: RunId) -> RunView {
        self.queue.call(GetRun { run: RunName::Id(id), options: true }).await.unwrap()
    }

    /// A minute passes, and the clock of schedules ticks.
    async fn minute(&self) -> (u64, u64) {
        self.clock.pass(MINUTE);
        self.tick().await
    }
}

/// The tasks of the jobs that may run now.
async fn work(w: &TestWorker<'_>, code: i32) -> Vec<String> {
    w.register(&[]).await; // minutes have passed
    let mut tasks = Vec::new();
    for job in w.lease(8).await {
        tasks.push(job.origin.task.clone().unwrap());
        w.exit(job.fence, code).await;
    }
    tasks
}

on_every_store! {
    async fn s20_an_occurrence_makes_one_run_with_all_its_tasks(f: Fixture) {
        let added = f.schedule("flow", minutely(nightly(), Overlap::Skip)).await;
        assert_eq!(added.task.value(), json!({ "workflow": nightly() }));
        assert_eq!((f.minute().await, f.tick().await), ((1, 0), (0, 0)));
        let row = f.ledger("flow").await.remove(0);
        let run = f.runs_of("flow").await.remove(0);
        assert_eq!((run.id, run.state, run.schedule_id), (row.run_id.unwrap(), RunState::Running, Some(added.id)));
        assert_eq!((run.occurrence_id, run.scheduled_for), (Some(row.id), Some(row.due_at)));
        for task in &run.tasks {
            assert_eq!(f.job(task.job.unwrap()).await.labels["schedule"], "flow");
        }
        let w = f.worker("w", Offer::default()).await;
        for task in ["build", "test", "tidy"] {
            assert_eq!(work(&w, 0).await, [task]);
        }
        assert_eq!(f.runs_of("flow").await[0].state, RunState::Done);
    }

    async fn s20_ten_that_tick_at_once_make_one_run(f: Fixture) {
        f.schedule("flow", minutely(nightly(), Overlap::Allow)).await;
        f.clock.pass(MINUTE);
        let queues: Vec<_> = (0..10).map(|_| f.another()).collect();
        let ticks: Vec<_> = queues
            .iter()
            .map(|queue| {
                let queue = queue.clone();
                tokio::spawn(async move { queue.call(orx::ops::schedules::tick::Tick::default()).await.map(|_| ()) })
            })
            .collect();
        for tick in ticks {
            tick.await.unwrap().unwrap();
        }
        assert_eq!((f.lines("flow").await, f.runs_of("flow").await.len()), (vec!["60 fired".to_owned()], 1));
        assert_eq!(f.worker("w", Offer::default()).await.lease(8).await.len(), 1);
    }

    async fn s22_skip_asks_whether_the_run_before_has_ended(f: Fixture) {
        f.schedule("flow", minutely(nightly(), Overlap::Skip)).await;
        let w = f.worker("w", Offer::default()).await;
        assert_eq!(f.minute().await, (1, 0));
        assert_eq!(work(&w, 0).await, ["build"]);
        assert_eq!(f.minute().await, (0, 1));
        // It failed, but its clean-up has not ended.
        assert_eq!(work(&w, 1).await, ["test"]);
        assert_eq!(f.minute().await, (0, 1));
        assert_eq!(work(&w, 0).await, ["tidy"]);
        assert_eq!(f.minute().await, (1, 0));
        assert_eq!(f.lines("flow").await, ["60 fired", "120-180 overlap x2", "240 fired"]);
    }

    async fn s22_queue_runs_one_after_the_other_in_due_order(f: Fixture) {
        f.schedule("flow", minutely(nightly(), Overlap::Queue)).await;
        let w = f.worker("w", Offer::default()).await;
        for _ in 0..3 {
            assert_eq!(f.minute().await, (1, 0));
        }
        let runs = f.runs_of("flow").await;
        assert_eq!(runs.iter().map(|r| r.waiting).collect::<Vec<_>>(), [false, true, true]);
        // One that waits is cancelled: who waits for it waits for the one before.
        let op = CancelRun { run: RunName::Id(runs[1].id), reason: None, how: Default::default() };
        assert_eq!(f.queue.call(op).await.unwrap().state, RunState::Cancelled);
        for _ in 0..2 {
            for task in ["build", "test", "tidy"] {
                assert_eq!(work(&w, 0).await, [task]);
            }
        }
        let states: Vec<_> = f.runs_of("flow").await.iter().map(|r| r.state).collect();
        assert_eq!(states, [RunState::Done, RunState::Cancelled, RunState::Done]);
    }

    async fn s22_a_run_waits_for_all_that_run_before_it(f: Fixture) {
        f.schedule("flow", minutely(nightly(), Overlap::Queue)).await;
        let w = f.worker("w", Offer::default()).await;
        f.minute().await;
        let beside = RunId(Uuid::now_v7());
        let op = Trigger { schedule: named("flow"), run: beside, overlap: Some(Overlap::Allow) };
        f.queue.call(op).await.unwrap();
        assert_eq!(f.minute().await, (1, 0));
        w.register(&[]).await;
        // Both of those that run begin; the newer one ends first.
        let [older, newer] = [w.lease(1).await.remove(0), w.lease(1).await.remove(0)];
        assert_eq!(newer.origin.run_id, Some(beside));
        w.exit(newer.fence, 0).await;
        for task in ["test", "tidy"] {
            assert_eq!(work(&w, 0).await, [task]);
        }
        assert_eq!((f.run(beside).await.state, work(&w, 0).await.len()), (RunState::Done, 0), "the older one runs");
        w.exit(older.fence, 0).await;
        for task in ["test", "tidy", "build"] {
            assert_eq!(work(&w, 0).await, [task]);
        }
    }

    async fn s22_no_more_than_a_hundred_runs_wait(f: Fixture) {
        let one = json!({ "name": "one", "task": [{ "name": "main", "command": ["true"] }] });
        f.schedule("flow", minutely(one, Overlap::Queue)).await;
        for _ in 0..103 {
            f.minute().await;
        }
        let rows = f.lines("flow").await;
        assert_eq!((rows.len(), rows.last().unwrap().as_str()), (102, "6120-6180 overlap x2"));
    }

    async fn s22_cancel_ends_the_run_before_but_not_its_clean_up(f: Fixture) {
        f.schedule("flow", minutely(nightly(), Overlap::Cancel)).await;
        let w = f.worker("w", Offer::default()).await;
        f.minute().await;
        let build = w.take().await;
        assert_eq!(f.minute().await, (1, 0));
        assert_eq!(f.job(build.number).await.state.as_str(), "running");
        w.end(build, orx::job::state::Cause::Cancel, None).await;
        w.register(&[]).await;
        let tidy = w.lease(8).await.remove(0);
        assert_eq!(tidy.origin.task.as_deref(), Some("tidy"));
        // Another instant neither ends the clean-up nor lets the one that waits begin.
        assert_eq!(f.minute().await, (1, 0));
        let runs = f.runs_of("flow").await;
        assert_eq!((runs[0].state, runs[1].state), (RunState::Running, RunState::Cancelled));
        w.exit(tidy.fence, 0).await;
        assert_eq!(work(&w, 0).await, ["build"]);
        assert_eq!(f.runs_of("flow").await[2].state, RunState::Running);
    }

    async fn s22_a_job_waits_for_the_run_of_a_workflow_and_the_other_way_round(f: Fixture) {
        let added = f.schedule("flow", minutely(nightly(), Overlap::Queue)).await;
        let w = f.worker("w", Offer::default()).await;
        f.minute().await;
        let change = |version: u32, definition: Definition| UpdateSchedule {
            schedule: named("flow"),
            version,
            definition,
            apply: Apply::Now,
        };
        let job = Definition { overlap: Overlap::Queue, ..every("1m") };
        f.queue.call(change(added.version, job)).await.unwrap();
        assert_eq!(f.minute().await, (1, 0));
        for tasks in [["build"], ["test"], ["tidy"], ["main"]] {
            assert_eq!(work(&w, 0).await, tasks);
        }
        assert_eq!(f.minute().await, (1, 0));
        f.queue.call(change(2, minutely(nightly(), Overlap::Queue))).await.unwrap();
        assert_eq!(f.minute().await, (1, 0));
        for tasks in [["main"], ["build"], ["test"], ["tidy"]] {
            assert_eq!(work(&w, 0).await, tasks);
        }
    }

    async fn s20_runs_are_made_up_for_oldest_first_and_flagged(f: Fixture) {
        let all = Definition { catch_up: CatchUp::Count(3), ..minutely(nightly(), Overlap::Queue) };
        f.schedule("flow", all).await;
        f.clock.pass(Span::from_secs(3600));
        assert_eq!(f.tick().await, (5, 55));
        let recovered = ["60-3300 missed x55", "3360 fired recovered", "3420 fired recovered", "3480 fired recovered"];
        assert_eq!(f.lines("flow").await, [&recovered[..], &["3540 fired", "3600 fired"]].concat());
        assert_eq!(f.runs_of("flow").await.iter().filter(|run| run.waiting).count(), 4);
    }

    async fn s20_large_workflows_are_made_up_for_in_more_than_one_transaction(f: Fixture) {
        let task = |n: u32| json!({ "name": format!("t{n}"), "command": ["true"] });
        let large = json!({ "name": "large", "task": (0..3000).map(task).collect::<Vec<_>>() });
        let all = Definition { catch_up: CatchUp::All, ..minutely(large, Overlap::Allow) };
        f.schedule("flow", all).await;
        f.clock.pass(Span::from_secs(300));
        let op = orx::ops::schedules::tick::Tick::default;
        let mut ticks = 0;
        while f.lines("flow").await.len() < 5 {
            f.queue.call(op()).await.unwrap();
            ticks += 1;
        }
        let instants: Vec<String> = f.ledger("flow").await.iter().map(|row| row.due_at.to_string()).collect();
        let expected: Vec<String> = (1..=5).map(|n| format!("2026-01-01T00:0{n}:00.000Z")).collect();
        assert_eq!((instants, ticks), (expected, 2));
        assert_eq!(f.tick().await, (0, 0));
    }

    async fn s22_a_recovery_in_more_than_one_transaction_is_one(f: Fixture) {
        let task = |n: u32| json!({ "name": format!("t{n}"), "command": ["true"] });
        let large = json!({ "name": "large", "task": (0..4000).map(task).collect::<Vec<_>>() });
        let all = Definition { catch_up: CatchUp::All, ..minutely(large, Overlap::Skip) };
        f.schedule("flow", all).await;
        f.clock.pass(Span::from_secs(240));
        let op = orx::ops::schedules::tick::Tick::default;
        f.queue.call(op()).await.unwrap();
        assert_eq!(f.lines("flow").await.len(), 3, "as many as have room in one");
        assert_eq!(f.tick().await, (1, 0));
        assert_eq!(f.lines("flow").await, ["60 fired recovered", "120 fired recovered", "180 fired", "240 fired"]);
        let waiting: Vec<bool> = f.runs_of("flow").await.iter().map(|run| run.waiting).collect();
        assert_eq!(waiting, [false, true, true, true]);
        assert_eq!(f.minute().await, (0, 1));
    }

    async fn s15_a_run_that_finds_no_room_is_skipped_whole(f: Fixture) {
        let change = LimitChange { max_queued: Some(4), ..Default::default() };
        f.queue.call(SetQueue { queue: "default".into(), change }).await.unwrap();
        f.schedule("flow", minutely(nightly(), Overlap::Allow)).await;
        assert_eq!((f.minute().await, f.minute().await), ((1, 0), (0, 1)));
        assert_eq!(f.lines("flow").await, ["60 fired", "120 limit x1"]);
        let op = Trigger { schedule: named("flow"), run: RunId(Uuid::now_v7()), overlap: None };
        assert_eq!(f.queue.call(op).await.unwrap_err().kind(), Kind::Limit);
        f.add("").await; // there is room for one yet
    }

    async fn s22_runs_that_are_cancelled_for_others_leave_room_for_the_next(f: Fixture) {
        let change = LimitChange { max_queued: Some(7), ..Default::default() };
        f.queue.call(SetQueue { queue: "default".into(), change }).await.unwrap();
        let rule = Definition { catch_up: CatchUp::All, ..minutely(nightly(), Overlap::Cancel) };
        f.schedule("flow", rule).await;
        f.clock.pass(Span::from_secs(240)); // the clean-up of the first stays, and there is room for two runs beside it
        assert_eq!(f.tick().await, (4, 0));
    }

    async fn s15_jobs_of_queues_in_turn_find_no_more_room_than_there_is(f: Fixture) {
        let change = LimitChange { max_queued: Some(1), ..Default::default() };
        f.queue.call(SetQueue { queue: "a".into(), change }).await.unwrap();
        let jobs = ["a", "b", "a"].map(|q| submission(&command(&format!(r#""queue":"{q}""#)))).to_vec();
        assert_eq!(f.queue.call(Enqueue { jobs }).await.unwrap_err().kind(), Kind::Limit);
        for (name, queue) in [("s1", "a"), ("s2", "b"), ("s3", "a")] {
            f.schedule(name, definition("every", "1m", &format!(r#""queue":"{queue}""#))).await;
        }
        assert_eq!(f.minute().await, (2, 1));
    }

    async fn s21_trigger_backfill_and_replay_make_runs(f: Fixture) {
        f.schedule("flow", minutely(nightly(), Overlap::Skip)).await;
        let op = Trigger { schedule: named("flow"), run: RunId(Uuid::now_v7()), overlap: None };
        let Triggered::Run(made) = f.queue.call(op.clone()).await.unwrap() else { panic!("a run") };
        assert_eq!((made.id, made.jobs, made.existing), (op.run, 3, false));
        let Triggered::Run(again) = f.queue.call(op).await.unwrap() else { panic!("a run") };
        assert_eq!((again.id, again.existing), (made.id, true));
        assert_eq!((f.minute().await, f.minute().await), ((0, 1), (0, 1)));
        let done = f.backfill("flow", (60, 120), None, false).await;
        assert_eq!((done.fired.len(), done.left.len()), (2, 0));
        let runs = f.runs_of("flow").await;
        assert_eq!(runs.iter().map(|run| run.waiting).collect::<Vec<_>>(), [true, true], "behind the one triggered");
        let w = f.worker("w", Offer::default()).await;
        for _ in 0..3 {
            for task in ["build", "test", "tidy"] {
                assert_eq!(work(&w, 0).await, [task]);
            }
        }
        let again = f.backfill("flow", (60, 60), None, true).await.again.remove(0);
        let replay = ReplayRun {
            id: RunId(Uuid::now_v7()),
            run: RunName::Id(runs[1].id),
            from: None,
            failed: false,
            reason: None,
        };
        let replay = f.queue.call(replay).await.unwrap();
        assert!(f.run(replay.id).await.waiting && !f.run(again.run_id.unwrap()).await.waiting);
    }

    async fn a_run_starts_late_by_the_jitter_and_its_timeout_with_it(f: Fixture) {
        let mut flow = nightly();
        flow["timeout"] = json!("1m");
        let definition = Definition { jitter: Span::from_secs(3600), ..minutely(flow, Overlap::Skip) };
        f.schedule("flow", definition).await;
        f.minute().await;
        let run = f.runs_of("flow").await.remove(0);
        let job = f.job(run.tasks[0].job.unwrap()).await;
        let due = job.due_at.expect("it waits");
        assert_eq!((job.state.as_str(), run.timeout_at), ("scheduled", None));
        f.clock.pass(due.since(f.clock.now()));
        assert_eq!(f.worker("w", Offer::default()).await.lease(8).await.len(), 1);
        assert_eq!(f.run(run.id).await.timeout_at, Some(due.plus(MINUTE)));
    }

    async fn s20_old_rows_are_forgotten_and_nothing_fires_again(f: Fixture) {
        f.schedule("flow", minutely(nightly(), Overlap::Queue)).await;
        f.schedule("job", Definition { overlap: Overlap::Allow, ..every("1m") }).await;
        let w = f.worker("w", Offer::default()).await;
        for _ in 0..3 {
            assert_eq!(f.minute().await, (2, 0));
        }
        let prune = || async { f.queue.call(PruneLedger { before: f.clock.now(), epoch: None }).await.unwrap() };
        assert_eq!(prune().await, 0, "nothing has ended");
        while !work(&w, 0).await.is_empty() {}
        f.clock.pass(Span::from_secs(1));
        assert_eq!((prune().await, prune().await), (4, 0));
        assert_eq!((f.lines("flow").await, f.lines("job").await), (vec!["180 fired".into()], vec!["180 fired".into()]));
        f.clock.jump(-150_000);
        assert_eq!(f.tick().await, (0, 0), "a clock that was set back");
        f.clock.jump(150_000);
        assert_eq!(f.backfill("flow", (0, 180), None, false).await.fired.len(), 0);
        assert_eq!(f.minute().await, (2, 0));
    }

    async fn what_makes_no_sense_is_refused(f: Fixture) {
        let add = |workflow: Value| AddSchedule {
            id: ScheduleId(Uuid::now_v7()),
            name: "flow".into(),
            definition: minutely(workflow, Overlap::Skip),
        };
        let mut circle = nightly();
        circle["task"][0]["needs"] = json!(["test"]);
        let mut at = nightly();
        at["task"][1]["at"] = json!("2027-01-01T00:00:00Z");
        let mut after = nightly();
        after["defaults"] = json!({ "after": ["1"] });
        for (workflow, message) in [(circle, "circle"), (at, "test: at has no place"), (after, "build: after has no")] {
            let error = f.queue.call(add(workflow)).await.unwrap_err();
            assert!(error.kind() == Kind::Usage && error.to_string().contains(message), "{error}");
        }
    }
}
