use orx::error::Kind;
use orx::job::lanes::Offer;
use orx::job::plan::{CatchUp, Overlap, SkipReason};
use orx::job::schedule::Definition;
use orx::job::state::Cause;
use orx::job::{JobId, Number, RuleKind, ScheduleId, Selector, State, Target};
use orx::ops::enqueue::Enqueued;
use orx::ops::policies::{LimitChange, SetQueue};
use orx::ops::schedules::Named;
use orx::ops::schedules::backfill::{Backfill, Backfilled};
use orx::ops::schedules::change::{AddSchedule, Apply, UpdateSchedule};
use orx::ops::schedules::life::{PauseSchedule, RemoveSchedule};
use orx::ops::schedules::look::{History, ListSchedules, OccurrenceView, ScheduleState, ScheduleView, ShowSchedule};
use orx::ops::schedules::tick::{NextTick, Tick, Ticked};
use orx::ops::schedules::trigger::{Trigger, Triggered};
use orx::ops::select::Select;
use orx::store::ScheduleFilter;
use orx::time::{Span, Timestamp};
use uuid::Uuid;

use super::support::*;

const MINUTE: Span = Span::from_secs(60);
const HOUR: Span = Span::from_secs(3600);

pub fn definition(kind: &str, expression: &str, job: &str) -> Definition {
    let rule = serde_json::json!({
        "kind": kind, "expression": expression, "tz": "UTC", "created_at": "1970-01-01T00:00:00Z"
    });
    Definition {
        rule: serde_json::from_value(rule).unwrap(),
        overlap: Overlap::Skip,
        catch_up: CatchUp::Last,
        jitter: Span::ZERO,
        target: Target::Job(serde_json::from_str(&command(job)).unwrap()),
        captured: Default::default(),
    }
}

pub fn every(expression: &str) -> Definition {
    definition("every", expression, "")
}

pub fn named(name: &str) -> Named {
    Named { tenant: None, name: name.into() }
}

fn job_of(made: Triggered) -> Enqueued {
    match made {
        Triggered::Job(job) => job,
        Triggered::Run(run) => panic!("a run of tasks: {run:?}"),
    }
}

impl Fixture {
    pub async fn schedule(&self, name: &str, definition: Definition) -> ScheduleView {
        let op = AddSchedule { id: ScheduleId(Uuid::now_v7()), name: name.into(), definition };
        self.queue.call(op).await.unwrap()
    }

    /// Fires what is due; gives how many instants fired and how many were skipped.
    pub async fn tick(&self) -> (u64, u64) {
        let (mut all, mut none) = ((0, 0), false);
        while !none {
            match self.queue.call(Tick::default()).await.unwrap() {
                Ticked::Done { fired, skipped, next, unreadable } => {
                    assert_eq!(unreadable, []);
                    all = (all.0 + fired, all.1 + skipped);
                    none = next.is_none_or(|span| span > Span::ZERO);
                }
                Ticked::Deposed => panic!("nobody leads"),
            }
        }
        all
    }

    pub async fn show(&self, name: &str) -> ScheduleView {
        self.queue.call(ShowSchedule { schedule: named(name) }).await.unwrap().view
    }

    /// The ledger, oldest first.
    pub async fn ledger(&self, name: &str) -> Vec<OccurrenceView> {
        let op = History { schedule: named(name), to: None, limit: 1000, jobs: true };
        let mut rows = self.queue.call(op).await.unwrap();
        rows.reverse();
        rows
    }

    /// The ledger in one line: seconds since it all began, and what became of them.
    pub async fn lines(&self, name: &str) -> Vec<String> {
        let seconds = |t: Timestamp| (t.0 - 1_767_225_600_000) / 1000;
        let line = |row: &OccurrenceView| {
            let what = row.reason.map_or("fired".to_owned(), |r| format!("{r} x{}", row.count));
            let span = match row.until == row.due_at {
                true => seconds(row.due_at).to_string(),
                false => format!("{}-{}", seconds(row.due_at), seconds(row.until)),
            };
            [vec![span, what], row.flags.clone()].concat().join(" ")
        };
        self.ledger(name).await.iter().map(line).collect()
    }

    pub async fn jobs_of(&self, name: &str) -> Vec<Number> {
        self.ledger(name).await.iter().filter_map(|row| row.job).collect()
    }

    pub async fn backfill(&self, name: &str, seconds: (i64, i64), overlap: Option<Overlap>, again: bool) -> Backfilled {
        let at = |s: i64| Timestamp(1_767_225_600_000 + s * 1000);
        let (from, to) = (at(seconds.0), at(seconds.1));
        let op = Backfill { id: Uuid::now_v7(), schedule: named(name), from, to, overlap, again };
        self.queue.call(op).await.unwrap()
    }
}

on_every_store! {
    async fn s20_an_occurrence_makes_one_job_that_knows_where_it_comes_from(f: Fixture) {
        let added = f.schedule("minutely", every("1m")).await;
        assert_eq!(added.next_due_at.unwrap().to_string(), "2026-01-01T00:01:00.000Z");
        assert_eq!((f.tick().await, f.lines("minutely").await.len()), ((0, 0), 0));
        f.clock.pass(MINUTE);
        assert_eq!(f.tick().await, (1, 0));
        assert_eq!(f.tick().await, (0, 0));
        let row = f.ledger("minutely").await.remove(0);
        let job = f.job(row.job.unwrap()).await;
        assert_eq!(job.id, JobId::of_task(row.run_id.unwrap(), "main"));
        assert_eq!((job.run_id, job.schedule_id, job.occurrence_id), (row.run_id, Some(added.id), Some(row.id)));
        assert_eq!(job.labels["schedule"], "minutely");
        let w = f.worker("w", Offer::default()).await;
        let leased = w.lease(1).await.remove(0);
        assert_eq!(leased.origin.scheduled_for, Some(row.due_at));
        let view = f.show("minutely").await;
        assert_eq!((view.last_due_at, view.last_skip_reason), (Some(row.due_at), None));
        assert_eq!(view.next_due_at, Some(row.due_at.plus(MINUTE)));
    }

    async fn s20_ten_ticks_at_once_make_one_run(f: Fixture) {
        for n in 0..5 {
            f.schedule(&format!("s{n}"), Definition { overlap: Overlap::Allow, ..every("1s") }).await;
        }
        let queues: Vec<_> = (0..10).map(|_| f.another()).collect();
        for round in 1..=5 {
            f.clock.pass(Span::from_secs(1));
            let ticks = queues.iter().map(|queue| {
                let queue = queue.clone();
                tokio::spawn(async move { queue.call(Tick::default()).await.unwrap() })
            });
            let mut all = 0;
            for tick in ticks.collect::<Vec<_>>() {
                let Ticked::Done { fired, .. } = tick.await.unwrap() else { panic!("nobody leads") };
                all += fired;
            }
            assert_eq!(all, 5, "round {round}");
        }
        for n in 0..5 {
            let rows = f.ledger(&format!("s{n}")).await;
            assert_eq!(rows.len(), 5);
            assert!(rows.iter().all(|row| row.job.is_some()), "{rows:?}");
        }
        assert_eq!(f.queue.call(Select { selectors: vec![], all: Some(Default::default()) }).await.unwrap().len(), 25);
    }

    async fn s20_a_month_of_downtime_of_an_every_second_schedule_makes_a_handful_of_rows(f: Fixture) {
        for (name, catch_up) in [("last", CatchUp::Last), ("none", CatchUp::None), ("three", CatchUp::Count(3))] {
            f.schedule(name, Definition { catch_up, overlap: Overlap::Allow, ..every("1s") }).await;
        }
        f.clock.pass(Span::from_secs(30 * 86_400));
        let now = 30 * 86_400;
        f.tick().await;
        let in_time: Vec<String> = (now - 60..=now).map(|s| format!("{s} fired")).collect();
        let missed = |to: i64| format!("1-{to} missed x{to}");
        let recovered = |s: i64| format!("{s} fired recovered");
        assert_eq!(f.lines("none").await, [vec![missed(now - 61)], in_time.clone()].concat());
        assert_eq!(f.lines("last").await, [missed(now - 1), format!("{now} fired")]);
        let three = vec![missed(now - 64), recovered(now - 63), recovered(now - 62), recovered(now - 61)];
        assert_eq!(f.lines("three").await, [three, in_time].concat());
    }

    async fn s20_all_that_was_missed_is_made_up_for_up_to_a_thousand(f: Fixture) {
        f.schedule("all", Definition { catch_up: CatchUp::All, overlap: Overlap::Allow, ..every("1m") }).await;
        f.clock.pass(Span::from_secs(2000 * 60));
        assert_eq!(f.tick().await, (1002, 998));
        let rows = f.lines("all").await; // 1,000 of 1,003 rows, the oldest are left out
        assert_eq!(rows[rows.len() - 3..], ["119880 fired recovered", "119940 fired", "120000 fired"], "the newest are kept");
        assert_eq!(f.show("all").await.last_skip_reason, Some(SkipReason::CatchUpLimit));
        f.schedule("two", Definition { catch_up: CatchUp::Within(HOUR), overlap: Overlap::Allow, ..every("1s") }).await;
        f.clock.pass(Span::from_secs(2 * 3600));
        f.tick().await;
        let op = History { schedule: named("two"), to: None, limit: 1000, jobs: false };
        let oldest = f.queue.call(op).await.unwrap().pop().unwrap();
        assert_eq!((oldest.state.as_str(), &oldest.flags[..]), ("fired", &["recovered".to_owned()][..]));
    }

    async fn s20_a_clock_set_back_fires_nothing_twice(f: Fixture) {
        f.schedule("minutely", Definition { overlap: Overlap::Allow, ..every("1m") }).await;
        for _ in 0..3 {
            f.clock.pass(MINUTE);
            assert_eq!(f.tick().await, (1, 0));
        }
        f.clock.jump(-150_000);
        for _ in 0..3 {
            assert_eq!(f.tick().await, (0, 0));
            f.clock.pass(MINUTE);
        }
        f.clock.pass(MINUTE);
        assert_eq!(f.tick().await, (1, 0));
        assert_eq!(f.lines("minutely").await, ["60 fired", "120 fired", "180 fired", "240 fired"]);
    }

    async fn s22_skip_asks_the_store_and_says_so_in_one_row(f: Fixture) {
        f.schedule("minutely", every("1m")).await;
        let w = f.worker("w", Offer::default()).await;
        f.clock.pass(MINUTE);
        f.tick().await;
        let fence = w.take().await;
        for _ in 0..3 {
            f.clock.pass(MINUTE);
            assert_eq!(f.tick().await, (0, 1));
        }
        assert_eq!(f.lines("minutely").await, ["60 fired", "120-240 overlap x3"]);
        assert_eq!(f.show("minutely").await.last_skip_reason, Some(SkipReason::Overlap));
        w.exit(fence, 0).await;
        f.clock.pass(MINUTE);
        assert_eq!(f.tick().await, (1, 0));
        assert_eq!(f.lines("minutely").await, ["60 fired", "120-240 overlap x3", "300 fired"]);
    }

    async fn s22_queue_waits_for_the_end_of_all_runs_before(f: Fixture) {
        f.schedule("minutely", Definition { overlap: Overlap::Queue, ..every("1m") }).await;
        let w = f.worker("w", Offer::default()).await;
        for _ in 0..4 {
            f.clock.pass(MINUTE);
            assert_eq!(f.tick().await, (1, 0));
        }
        let jobs = f.jobs_of("minutely").await;
        let first = w.take().await;
        assert_eq!(f.states(&jobs).await, "running blocked blocked blocked");
        let cancel = orx::ops::cancel::Cancel { numbers: vec![jobs[1]], ..Default::default() };
        f.queue.call(cancel).await.unwrap();
        assert_eq!(f.states(&jobs).await, "running cancelled blocked blocked", "one that is gone lets nobody pass");
        w.exit(first, 1).await;
        assert_eq!(f.states(&jobs).await, "failed cancelled pending blocked");
    }

    async fn s22_at_most_a_hundred_wait(f: Fixture) {
        f.schedule("s", Definition { overlap: Overlap::Queue, catch_up: CatchUp::None, ..every("1s") }).await;
        let w = f.worker("w", Offer::default()).await;
        f.clock.pass(Span::from_secs(1));
        f.tick().await;
        w.take().await;
        for _ in 0..3 {
            f.clock.pass(Span::from_secs(50));
            f.tick().await;
        }
        assert_eq!(f.lines("s").await.pop().unwrap(), "102-151 overlap x50");
    }

    async fn s22_what_is_made_up_for_and_what_is_on_time_with_it_wait_for_each_other(f: Fixture) {
        for (name, overlap) in [("skip", Overlap::Skip), ("queue", Overlap::Queue)] {
            f.schedule(name, Definition { catch_up: CatchUp::Count(5), overlap, ..every("1m") }).await;
        }
        f.clock.pass(HOUR);
        assert_eq!(f.tick().await, (14, 106));
        let recovered = (54..=58).map(|n| format!("{} fired recovered", n * 60));
        let rows: Vec<String> = recovered.chain(["3540 fired".into(), "3600 fired".into()]).collect();
        for name in ["skip", "queue"] {
            assert_eq!(f.lines(name).await, [vec!["60-3180 missed x53".to_owned()], rows.clone()].concat());
        }
        // What comes due later meets them as it meets any.
        f.clock.pass(MINUTE);
        assert_eq!(f.tick().await, (1, 1));
        assert_eq!(f.lines("skip").await.pop().unwrap(), "3660 overlap x1");
        assert_eq!(f.lines("queue").await.pop().unwrap(), "3660 fired");
        let w = f.worker("w", Offer::default()).await;
        let mut ran = std::collections::HashMap::<_, Vec<_>>::new();
        // Of those that wait one is cancelled: it lets nobody pass.
        let third = f.jobs_of("skip").await[2];
        f.queue.call(orx::ops::cancel::Cancel { numbers: vec![third], ..Default::default() }).await.unwrap();
        loop {
            let leased = w.lease(9).await;
            if leased.is_empty() {
                break;
            }
            let schedules: std::collections::HashSet<_> = leased.iter().map(|job| job.origin.schedule_id).collect();
            assert_eq!(schedules.len(), leased.len(), "two runs of one schedule side by side");
            for job in leased {
                let due = job.origin.scheduled_for.unwrap();
                ran.entry(job.origin.schedule_id).or_default().push(due);
                w.exit(job.fence, 0).await;
            }
        }
        let mut counts: Vec<usize> = ran.values().map(Vec::len).collect();
        counts.sort_unstable();
        assert_eq!(counts, [6, 8]);
        assert!(ran.values().all(|due| due.is_sorted()), "{ran:?}");
        f.clock.pass(MINUTE);
        assert_eq!(f.tick().await, (2, 0));
    }

    async fn s22_what_is_made_up_for_is_not_counted_among_those_that_wait(f: Fixture) {
        f.schedule("s", Definition { overlap: Overlap::Queue, catch_up: CatchUp::All, ..every("1m") }).await;
        let w = f.worker("w", Offer::default()).await;
        f.clock.pass(MINUTE);
        f.tick().await;
        w.take().await;
        f.clock.pass(Span::from_secs(150 * 60));
        assert_eq!(f.tick().await, (150, 0));
        for _ in 0..100 {
            f.clock.pass(MINUTE);
            assert_eq!(f.tick().await, (1, 0));
        }
        f.clock.pass(MINUTE);
        assert_eq!(f.tick().await, (0, 1), "a hundred others wait");
        assert_eq!(f.lines("s").await.pop().unwrap(), "15120 overlap x1");
    }

    async fn s22_what_is_on_time_belongs_to_the_recovery_that_the_tick_before_left(f: Fixture) {
        f.schedule("s", Definition { catch_up: CatchUp::Count(201), ..every("1m") }).await;
        f.clock.pass(Span::from_secs(300 * 60));
        let Ticked::Done { fired, next, .. } = f.queue.call(Tick::default()).await.unwrap() else { panic!() };
        assert_eq!((fired, next), (201, Some(Span::ZERO)), "as many as one tick makes");
        assert_eq!(f.tick().await, (2, 0));
        assert_eq!(f.lines("s").await[201..], ["17880 fired recovered", "17940 fired", "18000 fired"]);
        f.clock.pass(MINUTE);
        assert_eq!(f.tick().await, (0, 1));
    }

    async fn s22_a_recovery_meets_what_runs_since_before_as_any_does(f: Fixture) {
        let rule = |overlap| Definition { overlap, catch_up: CatchUp::All, ..every("1m") };
        for (name, overlap) in [("skip", Overlap::Skip), ("queue", Overlap::Queue)] {
            f.schedule(name, rule(overlap)).await;
        }
        f.clock.pass(MINUTE);
        assert_eq!(f.tick().await, (2, 0));
        let w = f.worker("w", Offer::default()).await;
        let held = w.lease(9).await;
        f.clock.pass(Span::from_secs(600));
        assert_eq!(f.tick().await, (10, 10));
        assert_eq!(f.lines("skip").await, ["60 fired", "120-660 overlap x10"]);
        assert_eq!(w.lease(9).await.len(), 0);
        for job in held {
            w.exit(job.fence, 0).await;
        }
        assert_eq!(w.lease(9).await.len(), 1, "the first of those that wait");
        // A later recovery is another: it meets the runs of this one.
        f.clock.pass(Span::from_secs(600));
        f.tick().await;
        assert_eq!(f.lines("skip").await[2..].len(), 10);
        f.clock.pass(Span::from_secs(600));
        f.tick().await;
        assert_eq!(f.lines("skip").await.pop().unwrap(), "1320-1860 overlap x10");
    }

    async fn s20_only_the_newest_due_instant_is_made_up_for_whichever_version_names_it(f: Fixture) {
        let of = |expression| Definition { overlap: Overlap::Allow, ..definition("cron", expression, "") };
        f.schedule("s", of("0 * * * *")).await;
        f.clock.pass(HOUR);
        f.tick().await;
        let change = |definition| UpdateSchedule { schedule: named("s"), version: 1, definition, apply: Apply::Next };
        f.queue.call(change(of("30 * * * *"))).await.unwrap();
        f.clock.pass(Span::from_secs(4 * 3600));
        assert_eq!(f.tick().await, (1, 3));
        let missed = ["0 missed x1", "3600 fired", "7200 missed x1", "9000-12600 missed x2"];
        assert_eq!(f.lines("s").await, [&missed[..], &["16200 fired recovered"]].concat());
    }

    async fn s22_cancel_takes_the_place_of_what_runs(f: Fixture) {
        f.schedule("minutely", Definition { overlap: Overlap::Cancel, ..every("1m") }).await;
        let w = f.worker("w", Offer::default()).await;
        f.clock.pass(MINUTE);
        f.tick().await;
        let fence = w.take().await;
        for _ in 0..2 {
            f.clock.pass(MINUTE);
            assert_eq!(f.tick().await, (1, 0));
        }
        let jobs = f.jobs_of("minutely").await;
        assert_eq!(f.states(&jobs).await, "running cancelled blocked");
        assert!(f.job(jobs[0]).await.cancel_requested_at.is_some());
        w.end(fence, Cause::Cancel, None).await;
        assert_eq!(f.states(&jobs).await, "cancelled cancelled pending");
    }

    async fn s22_nothing_is_cancelled_for_an_occurrence_that_finds_no_place(f: Fixture) {
        let change = LimitChange { max_queued: Some(1), ..Default::default() };
        f.queue.call(SetQueue { queue: "default".into(), change }).await.unwrap();
        f.schedule("minutely", Definition { overlap: Overlap::Cancel, ..every("1m") }).await;
        f.clock.pass(MINUTE);
        f.tick().await;
        let fence = f.worker("w", Offer::default()).await.take().await;
        f.clock.pass(MINUTE);
        assert_eq!(f.tick().await, (0, 1));
        assert_eq!(f.lines("minutely").await, ["60 fired", "120 limit x1"]);
        assert_eq!(f.job(fence.number).await.cancel_requested_at, None);
    }

    async fn s22_what_is_cancelled_for_an_occurrence_leaves_room_for_the_next(f: Fixture) {
        let change = LimitChange { max_queued: Some(2), ..Default::default() };
        f.queue.call(SetQueue { queue: "default".into(), change }).await.unwrap();
        let rule = Definition { overlap: Overlap::Cancel, catch_up: CatchUp::All, ..every("1m") };
        f.schedule("minutely", rule).await;
        f.clock.pass(Span::from_secs(300));
        assert_eq!(f.tick().await, (5, 0));
        let jobs = f.jobs_of("minutely").await;
        assert_eq!(f.states(&jobs).await, "cancelled cancelled cancelled cancelled pending");
    }

    async fn s15_one_that_cancels_leaves_the_limit_to_the_others(f: Fixture) {
        let change = LimitChange { max_queued: Some(1), ..Default::default() };
        f.queue.call(SetQueue { queue: "default".into(), change }).await.unwrap();
        f.schedule("one", Definition { overlap: Overlap::Cancel, ..every("1m") }).await;
        f.schedule("other", Definition { overlap: Overlap::Allow, ..every("1m") }).await;
        f.clock.pass(MINUTE);
        assert_eq!(f.tick().await, (1, 1));
    }

    async fn a_rule_that_never_came_into_force_names_nothing_that_is_made_up_for(f: Fixture) {
        let of = |expression| Definition { catch_up: CatchUp::All, ..definition("cron", expression, "") };
        f.clock.pass(MINUTE);
        f.schedule("s", of("0 * * * *")).await;
        f.clock.pass(Span::from_secs(30 * 60));
        let change = |version, apply| UpdateSchedule { schedule: named("s"), version, definition: of("* * * * *"), apply };
        f.queue.call(change(1, Apply::Next)).await.unwrap();
        f.queue.call(change(2, Apply::Now)).await.unwrap();
        assert_eq!(f.tick().await, (0, 0));
        f.clock.pass(MINUTE);
        assert_eq!(f.tick().await, (1, 0));
        assert_eq!(f.lines("s").await, ["1920 fired"]);
    }

    async fn s15_an_occurrence_over_a_limit_is_skipped(f: Fixture) {
        let change = LimitChange { max_queued: Some(2), ..Default::default() };
        f.queue.call(SetQueue { queue: "default".into(), change }).await.unwrap();
        f.schedule("minutely", Definition { overlap: Overlap::Allow, ..every("1m") }).await;
        for expected in [(1, 0), (1, 0), (0, 1), (0, 1)] {
            f.clock.pass(MINUTE);
            assert_eq!(f.tick().await, expected);
        }
        assert_eq!(f.lines("minutely").await, ["60 fired", "120 fired", "180-240 limit x2"]);
        let refused = Trigger { schedule: named("minutely"), run: orx::job::RunId(Uuid::now_v7()), overlap: None };
        assert_eq!(f.queue.call(refused).await.unwrap_err().kind(), Kind::Limit);
    }

    async fn s21_what_is_due_while_paused_is_recorded(f: Fixture) {
        f.schedule("minutely", every("1m")).await;
        let pause = |paused| PauseSchedule { schedule: named("minutely"), paused };
        let paused = f.queue.call(pause(true)).await.unwrap();
        assert_eq!((paused.state, paused.next_due_at), (ScheduleState::Paused, None));
        f.clock.pass(MINUTE);
        assert_eq!(f.tick().await, (0, 1), "it can be seen before it is resumed");
        f.clock.pass(Span::from_secs(10 * 60));
        let resumed = f.queue.call(pause(false)).await.unwrap();
        assert_eq!(resumed.next_due_at.unwrap().to_string(), "2026-01-01T00:12:00.000Z");
        f.clock.pass(MINUTE);
        assert_eq!(f.tick().await, (1, 0));
        assert_eq!(f.lines("minutely").await, ["60-660 paused x11", "720 fired"]);
    }

    async fn s21_trigger_makes_a_run_without_an_occurrence(f: Fixture) {
        f.schedule("daily", definition("cron", "@daily", "")).await;
        let run = orx::job::RunId(Uuid::now_v7());
        let trigger = |overlap| Trigger { schedule: named("daily"), run, overlap };
        let made = job_of(f.queue.call(trigger(None)).await.unwrap());
        let same = job_of(f.queue.call(trigger(None)).await.unwrap());
        assert_eq!((same.number, same.existing), (made.number, true), "the same call makes no second one");
        let job = f.job(made.number).await;
        assert_eq!((job.run_id, job.occurrence_id, job.task.as_deref()), (Some(run), None, Some("main")));
        assert_eq!(f.lines("daily").await.len(), 0);
        let other = |overlap| Trigger { run: orx::job::RunId(Uuid::now_v7()), ..trigger(overlap) };
        assert_eq!(f.queue.call(other(None)).await.unwrap_err().kind(), Kind::Conflict);
        let beside = job_of(f.queue.call(other(Some(Overlap::Allow))).await.unwrap());
        assert_eq!(beside.state, State::Pending);
    }

    async fn s21_backfill_turns_skipped_into_fired_and_cuts_the_range(f: Fixture) {
        f.schedule("s", Definition { catch_up: CatchUp::None, ..every("1s") }).await;
        f.queue.call(PauseSchedule { schedule: named("s"), paused: true }).await.unwrap();
        f.clock.pass(HOUR);
        let filled = f.backfill("s", (10, 12), None, false).await;
        assert_eq!((filled.fired.len(), filled.before.len(), filled.left.len()), (3, 0, 0));
        let expected = ["1-9 paused x9", "10 fired backfilled", "11 fired backfilled", "12 fired backfilled", "13-3600 paused x3588"];
        assert_eq!(f.lines("s").await, expected);
        assert_eq!(f.states(&f.jobs_of("s").await).await, "pending blocked blocked", "one after the other");
        let again = f.backfill("s", (12, 13), Some(Overlap::Allow), false).await;
        assert_eq!((again.fired.len(), again.before.len()), (1, 1), "what has fired is reported");
        let replay = f.backfill("s", (12, 12), Some(Overlap::Allow), true).await;
        let job = f.queue.call(Select { selectors: vec![Selector::Last], all: None }).await.unwrap().remove(0);
        let (job, row) = (f.job(job.number).await, &replay.again[0]);
        assert_eq!((job.run_id, job.occurrence_id), (row.run_id, Some(row.id)));
        assert_ne!(row.run_id, Some(row.id.into()), "a replay is a run of its own");
        let one_by_one = f.backfill("s", (1, 1), Some(Overlap::Skip), false).await;
        assert_eq!(one_by_one.left.len(), 1, "others have not ended");
    }

    async fn s21_backfill_reaches_back_before_the_schedule_was_made(f: Fixture) {
        f.schedule("hourly", definition("cron", "0 * * * *", "")).await;
        f.clock.pass(HOUR);
        f.tick().await;
        let filled = f.backfill("hourly", (-7200, 7200), Some(Overlap::Allow), false).await;
        assert_eq!((filled.fired.len(), filled.before.len()), (3, 1));
        let lines = ["-7200 fired backfilled", "-3600 fired backfilled", "0 fired backfilled", "3600 fired"];
        assert_eq!(f.lines("hourly").await, lines);
        let again = f.backfill("hourly", (-7200, -3600), None, false).await;
        assert_eq!((again.fired.len(), again.before.len()), (0, 2));
    }

    async fn a_stale_update_is_a_conflict_and_a_new_rule_holds_from_now(f: Fixture) {
        f.schedule("s", Definition { overlap: Overlap::Allow, ..every("1m") }).await;
        f.clock.pass(MINUTE);
        f.tick().await;
        let change = |version, expression: &str, apply| UpdateSchedule {
            schedule: named("s"),
            version,
            definition: Definition { overlap: Overlap::Allow, ..every(expression) },
            apply,
        };
        f.clock.pass(Span::from_secs(30));
        let view = f.queue.call(change(1, "10m", Apply::Now)).await.unwrap();
        assert_eq!((view.version, view.next_due_at.unwrap().to_string().as_str()), (2, "2026-01-01T00:11:30.000Z"));
        let stale = f.queue.call(change(1, "5m", Apply::Now)).await.unwrap_err();
        assert_eq!(stale.kind(), Kind::Conflict);
        // The one that is coming stays; the new rule counts from there.
        let view = f.queue.call(change(2, "1m", Apply::Next)).await.unwrap();
        assert_eq!((view.version, view.next_due_at.unwrap().to_string().as_str()), (3, "2026-01-01T00:11:30.000Z"));
        f.clock.pass(Span::from_secs(11 * 60));
        assert_eq!(f.tick().await, (2, 0));
        assert_eq!(f.lines("s").await, ["60 fired", "690 fired", "750 fired"]);
    }

    async fn a_change_of_the_job_keeps_the_beat(f: Fixture) {
        f.schedule("s", every("1m")).await;
        f.clock.pass(Span::from_secs(30));
        let definition = definition("every", "1m", r#""priority":7"#);
        let op = UpdateSchedule { schedule: named("s"), version: 1, definition, apply: Apply::Now };
        let view = f.queue.call(op).await.unwrap();
        assert_eq!(view.next_due_at.unwrap().to_string(), "2026-01-01T00:01:00.000Z");
        f.clock.pass(Span::from_secs(30));
        f.tick().await;
        assert_eq!(f.job(f.jobs_of("s").await[0]).await.priority, 7);
    }

    async fn remove_keeps_the_history_and_frees_the_name(f: Fixture) {
        let first = f.schedule("s", every("1m")).await;
        f.clock.pass(MINUTE);
        f.tick().await;
        let removed = f.queue.call(RemoveSchedule { schedule: named("s") }).await.unwrap();
        assert_eq!((removed.state, removed.next_due_at), (ScheduleState::Removed, None));
        assert_eq!(f.queue.call(NextTick {}).await.unwrap(), None);
        assert_eq!(f.lines("s").await, ["60 fired"]);
        let list = |removed| ListSchedules { filter: ScheduleFilter { removed, ..Default::default() } };
        assert_eq!(f.queue.call(list(false)).await.unwrap().schedules.len(), 0);
        assert_eq!(f.queue.call(list(true)).await.unwrap().schedules.len(), 1);
        let pause = PauseSchedule { schedule: named("s"), paused: true };
        assert_eq!(f.queue.call(pause).await.unwrap_err().kind(), Kind::Conflict);
        let second = f.schedule("s", every("1m")).await;
        assert_ne!(second.id, first.id);
        assert_eq!(f.lines("s").await.len(), 0);
        assert_eq!(f.lines(&first.id.to_string()).await, ["60 fired"]);
    }

    async fn what_makes_no_sense_is_refused(f: Fixture) {
        let add = |name: &str, definition| AddSchedule { id: ScheduleId(Uuid::now_v7()), name: name.into(), definition };
        for (name, definition, kind) in [
            ("a b", every("1m"), Kind::Usage),
            ("s", definition("at", "2025-12-31T23:59:00Z", ""), Kind::Usage),
            ("s", definition("cron", "0 0 30 2 *", ""), Kind::Usage),
            ("s", definition("every", "1m", r#""name":"n""#), Kind::Usage),
            ("s", definition("every", "1m", r#""restart":"always""#), Kind::Usage),
            ("s", definition("every", "1m", r#""after":[1]"#), Kind::Usage),
            ("s", definition("every", "1m", r#""idempotency_key":"k""#), Kind::Usage),
        ] {
            let refused = f.queue.call(add(name, definition)).await.unwrap_err();
            assert_eq!((refused.kind(), refused.hint_text().is_some() || name == "a b"), (kind, true), "{refused}");
        }
        f.schedule("s", every("1m")).await;
        assert_eq!(f.queue.call(add("s", every("1m"))).await.unwrap_err().kind(), Kind::Conflict);
        let show = ShowSchedule { schedule: named("t") };
        assert_eq!(f.queue.call(show).await.unwrap_err().kind(), Kind::NotFound);
    }

    async fn once_is_due_once(f: Fixture) {
        let view = f.schedule("once", definition("at", "2026-01-01T00:10:00Z", "")).await;
        assert_eq!((view.kind, view.state), (RuleKind::At, ScheduleState::Active));
        f.clock.pass(HOUR);
        assert_eq!(f.tick().await, (1, 0));
        assert_eq!(f.lines("once").await, ["600 fired recovered"]);
        assert_eq!(f.show("once").await.state, ScheduleState::Ended);
    }

    async fn jitter_and_delay_start_the_job_later_than_it_is_due(f: Fixture) {
        let jittered = Definition { jitter: MINUTE, ..definition("every", "1h", r#""delay":60"#) };
        f.schedule("s", jittered).await;
        f.clock.pass(HOUR);
        f.tick().await;
        let row = f.ledger("s").await.remove(0);
        let job = f.job(row.job.unwrap()).await;
        let wait = job.due_at.unwrap().since(row.due_at);
        assert!(wait >= MINUTE && wait < Span::from_secs(120), "{wait}");
        assert_eq!(job.state, State::Scheduled);
    }

    async fn an_old_leader_fires_nothing(f: Fixture) {
        f.schedule("s", every("1m")).await;
        f.sweep().await;
        f.clock.pass(MINUTE);
        let ticked = f.queue.call(Tick { epoch: Some(7) }).await.unwrap();
        assert_eq!(ticked, Ticked::Deposed);
        assert_eq!(f.lines("s").await.len(), 0);
        assert!(matches!(f.queue.call(Tick { epoch: Some(1) }).await.unwrap(), Ticked::Done { fired: 1, .. }));
    }
}

/// A zone that this machine does not know, as where the stores of two machines with other zone files meet.
#[tokio::test]
async fn a_rule_that_means_nothing_here_stops_no_other_schedule() {
    let f = Fixture::file();
    let strange = f.schedule("strange", every("1m")).await;
    f.schedule("plain", every("1m")).await;
    f.damage("UPDATE schedule_versions SET definition = replace(definition, '\"UTC\"', '\"Mars/Base\"') WHERE schedule = (SELECT id FROM schedules WHERE name = 'strange')");
    f.clock.pass(MINUTE);
    let Ticked::Done { fired, unreadable, next, .. } = f.queue.call(Tick::default()).await.unwrap() else { panic!() };
    assert_eq!((fired, unreadable.len(), next), (1, 1, Some(MINUTE)));
    assert!(unreadable[0].0 == strange.name && unreadable[0].1.contains("Mars/Base"), "{unreadable:?}");
    assert_eq!(f.lines("plain").await, ["60 fired"]);
    // It can be given another rule, or be removed.
    let op = UpdateSchedule { schedule: named("strange"), version: 1, definition: every("30s"), apply: Apply::Now };
    assert_eq!(f.queue.call(op).await.unwrap().next_due_at.unwrap().to_string(), "2026-01-01T00:01:30.000Z");
    f.clock.pass(MINUTE);
    f.tick().await;
    assert_eq!(f.lines("strange").await, ["90 fired", "120 overlap x1"]);
    f.damage("UPDATE schedule_versions SET definition = replace(definition, '\"UTC\"', '\"Mars/Base\"')");
    f.queue.call(RemoveSchedule { schedule: named("plain") }).await.unwrap();
    assert_eq!(f.show("plain").await.state, ScheduleState::Removed);
}
