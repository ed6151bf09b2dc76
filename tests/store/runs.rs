use orx::error::{Kind, Result};
use orx::job::ids::RunName;
use orx::job::lanes::Offer;
use orx::job::spec::Bytes;
use orx::job::state::Cause;
use orx::job::{Fence, JobId, JsonText, Number, RunId, RunState};
use orx::ops::cancel::Cancel;
use orx::ops::events::ReadEvents;
use orx::ops::jobs::GetJobs;
use orx::ops::lease::{Lease, Only};
use orx::ops::policies::SetLimit;
use orx::ops::prune::{Prunable, Prune};
use orx::ops::results::{GetResult, Handed};
use orx::ops::retry::Retry;
use orx::ops::runs::Started;
use orx::ops::runs::cancel::CancelRun;
use orx::ops::runs::replay::ReplayRun;
use orx::ops::runs::submit::SubmitRun;
use orx::ops::runs::view::{GetRun, ListRuns, RunView};
use orx::ops::say::Say;
use orx::time::{Clock as _, Span, Timestamp};
use serde_json::{Value, json};
use uuid::Uuid;

use super::support::*;

/// A workflow of `name:need,need` words; `!` before a name makes it an always task.
fn workflow(tasks: &str, more: Value) -> Value {
    let task = |word: &str| {
        let (name, needs) = word.split_once(':').unwrap_or((word, ""));
        let needs: Vec<&str> = needs.split(',').filter(|n| !n.is_empty()).collect();
        let always = name.starts_with('!');
        json!({ "name": name.trim_start_matches('!'), "needs": needs, "always": always, "command": ["true"] })
    };
    let mut all = json!({ "name": "flow", "task": tasks.split_whitespace().map(task).collect::<Vec<_>>() });
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    all
}

fn submission_of(workflow: Value, behind: Option<RunId>) -> SubmitRun {
    SubmitRun { id: RunId(Uuid::now_v7()), workflow: workflow.into(), captured: Default::default(), behind }
}

struct Flow<'f> {
    f: &'f Fixture,
    id: RunId,
}

impl<'f> Flow<'f> {
    async fn try_start(f: &'f Fixture, workflow: Value) -> Result<Started> {
        f.queue.call(submission_of(workflow, None)).await
    }

    async fn behind(f: &'f Fixture, run: RunId, tasks: &str, more: Value) -> Flow<'f> {
        let id = f.queue.call(submission_of(workflow(tasks, more), Some(run))).await.unwrap().id;
        Flow { f, id }
    }

    async fn start(f: &'f Fixture, tasks: &str, more: Value) -> Flow<'f> {
        let id = Self::try_start(f, workflow(tasks, more)).await.unwrap().id;
        Flow { f, id }
    }

    async fn view(&self) -> RunView {
        self.f.queue.call(GetRun { run: RunName::Id(self.id), options: false }).await.unwrap()
    }

    async fn state(&self) -> RunState {
        self.view().await.state
    }

    /// `task=state` of all tasks.
    async fn tasks(&self) -> String {
        let tasks = self.view().await.tasks.into_iter();
        tasks.map(|t| format!("{}={}", t.task, t.state)).collect::<Vec<_>>().join(" ")
    }

    async fn number(&self, task: &str) -> Number {
        let tasks = self.view().await.tasks;
        tasks.iter().find(|t| t.task == task).unwrap_or_else(|| panic!("no task {task}")).job.unwrap()
    }

    async fn cancel(&self) -> RunState {
        let op = CancelRun { run: RunName::Id(self.id), reason: None, how: Default::default() };
        self.f.queue.call(op).await.unwrap().state
    }

    async fn replay(&self, from: Option<&str>, failed: bool) -> Result<Flow<'f>> {
        let id = RunId(Uuid::now_v7());
        let run = RunName::Id(self.id);
        self.f
            .queue
            .call(ReplayRun { id, run, from: from.map(Into::into), failed, reason: Some("why".into()) })
            .await?;
        Ok(Flow { f: self.f, id })
    }
}

/// Takes the one job that may run, which must be that of `task`.
async fn take(w: &TestWorker<'_>, task: &str) -> Fence {
    let jobs = w.lease(1).await;
    assert_eq!(jobs.iter().map(|j| j.origin.task.clone().unwrap()).collect::<Vec<_>>(), [task]);
    jobs[0].fence
}

async fn run(w: &TestWorker<'_>, task: &str, code: i32) {
    w.exit(take(w, task).await, code).await;
}

/// The kinds of the events of runs.
async fn told(f: &Fixture) -> String {
    let events = f.queue.call(ReadEvents { after: 0, limit: 1000 }).await.unwrap();
    let runs = events.iter().filter(|e| e.kind.as_str().starts_with("run_")).map(|e| e.kind.as_str());
    runs.collect::<Vec<_>>().join(" ")
}

on_every_store! {
    async fn a_run_is_done_when_its_tasks_are(f: Fixture) {
        let flow = Flow::start(f, "a b:a c:a d:b,c", json!({})).await;
        let w = f.worker("w", Offer::default()).await;
        assert_eq!(flow.tasks().await, "a=pending b=blocked c=blocked d=blocked");
        for task in ["a", "b", "c", "d"] {
            assert_eq!(flow.state().await, RunState::Running);
            run(&w, task, 0).await;
        }
        let view = flow.view().await;
        assert_eq!((view.state, view.finished_at), (RunState::Done, Some(view.started_at.unwrap())));
        assert_eq!(told(f).await, "run_started run_ended");
        let job = f.job(flow.number("b").await).await;
        assert_eq!((job.run_id, job.task.as_deref()), (Some(flow.id), Some("b")));
        assert_eq!(job.id, JobId::of_task(flow.id, "b"));
    }

    async fn the_same_id_makes_no_second_run(f: Fixture) {
        let op = submission_of(workflow("a", json!({})), None);
        assert!(!f.queue.call(op.clone()).await.unwrap().existing);
        assert!(f.queue.call(op).await.unwrap().existing);
        assert_eq!(f.queue.call(ListRuns { limit: 10, ..Default::default() }).await.unwrap().len(), 1);
    }

    async fn what_makes_no_sense_leaves_nothing(f: Fixture) {
        for bad in [workflow("a:b b:a", json!({})), workflow("a a", json!({})), workflow("a:x", json!({}))] {
            assert_eq!(Flow::try_start(f, bad).await.unwrap_err().kind(), Kind::Usage);
        }
        assert!(f.queue.call(ListRuns { limit: 10, ..Default::default() }).await.unwrap().is_empty());
    }

    async fn s19_fail_fast_cancels_what_runs_and_skips_the_rest_with_the_failing_settle(f: Fixture) {
        let flow = Flow::start(f, "a b c d:a e:b", json!({ "max_parallel": 2 })).await;
        let w = f.worker("w", Offer::default()).await;
        let (a, b) = (take(&w, "a").await, take(&w, "b").await);
        w.exit(a, 1).await;
        assert_eq!(flow.tasks().await, "a=failed b=running c=skipped d=skipped e=skipped");
        assert!(f.job(b.number).await.cancel_requested_at.is_some());
        assert_eq!(flow.state().await, RunState::Running, "b has not ended");
        w.end(b, Cause::Cancel, None).await;
        assert_eq!(flow.tasks().await, "a=failed b=cancelled c=skipped d=skipped e=skipped");
        let view = flow.view().await;
        assert_eq!((view.state, view.reason.as_deref()), (RunState::Failed, Some("task a failed")));
        assert_eq!(told(f).await, "run_started run_stopped run_ended");
    }

    async fn s19_continue_lets_independent_branches_run(f: Fixture) {
        let flow = Flow::start(f, "a b c:a d:b e:c,d", json!({ "on_failure": "continue" })).await;
        let w = f.worker("w", Offer::default()).await;
        run(&w, "a", 1).await;
        assert_eq!(flow.tasks().await, "a=failed b=pending c=skipped d=blocked e=skipped");
        run(&w, "b", 0).await;
        run(&w, "d", 0).await;
        assert_eq!(flow.state().await, RunState::Failed);
    }

    async fn s19_retries_belong_to_the_task(f: Fixture) {
        let defaults = json!({ "defaults": { "max_attempts": 2, "backoff": "0s" } });
        let flow = Flow::start(f, "a b", defaults).await;
        let w = f.worker("w", Offer::default()).await;
        let a = take(&w, "a").await;
        w.exit(a, 1).await;
        assert_eq!(flow.tasks().await, "a=pending b=pending");
        run(&w, "a", 0).await;
        run(&w, "b", 0).await;
        assert_eq!(flow.state().await, RunState::Done);
    }

    async fn s19_always_tasks_run_whatever_becomes_of_those_they_need(f: Fixture) {
        let flow = Flow::start(f, "a b:a !tidy:b !late:tidy", json!({})).await;
        let w = f.worker("w", Offer::default()).await;
        run(&w, "a", 1).await;
        assert_eq!(flow.tasks().await, "a=failed b=skipped tidy=pending late=blocked");
        run(&w, "tidy", 0).await;
        run(&w, "late", 0).await;
        assert_eq!(flow.state().await, RunState::Failed);
    }

    async fn s19_a_failed_always_task_fails_the_run(f: Fixture) {
        let flow = Flow::start(f, "a !tidy:a", json!({})).await;
        let w = f.worker("w", Offer::default()).await;
        run(&w, "a", 0).await;
        run(&w, "tidy", 1).await;
        assert_eq!(flow.state().await, RunState::Failed);
    }

    async fn s19_the_first_cancel_spares_always_tasks_and_the_second_does_not(f: Fixture) {
        for (times, tidy) in [(1, "pending"), (2, "cancelled")] {
            let flow = Flow::start(f, "a b:a !tidy:b", json!({})).await;
            let w = f.worker(&format!("w{times}"), Offer::default()).await;
            let a = take(&w, "a").await;
            for _ in 0..times {
                assert_eq!(flow.cancel().await, RunState::Running);
            }
            // With a cancel requested only an exit 0 counts (S3).
            w.end(a, Cause::Cancel, None).await;
            assert_eq!(flow.tasks().await, format!("a=cancelled b=cancelled tidy={tidy}"));
            if times == 1 {
                run(&w, "tidy", 0).await;
            }
            assert_eq!(flow.state().await, RunState::Cancelled);
        }
    }

    async fn a_run_that_has_ended_cannot_be_cancelled(f: Fixture) {
        let flow = Flow::start(f, "a", json!({})).await;
        assert_eq!(flow.cancel().await, RunState::Cancelled);
        let again = CancelRun { run: RunName::Last, reason: None, how: Default::default() };
        assert_eq!(f.queue.call(again).await.unwrap_err().kind(), Kind::Conflict);
    }

    async fn s19_a_run_has_its_own_timeout(f: Fixture) {
        let flow = Flow::start(f, "a b:a !tidy:b", json!({ "timeout": "1h" })).await;
        let w = f.worker("w", Offer::default()).await;
        let a = take(&w, "a").await;
        f.clock.pass(Span::from_secs(10));
        f.sweep().await;
        assert_eq!(flow.tasks().await, "a=running b=blocked tidy=blocked");
        f.clock.pass(Span::from_secs(3590));
        w.register(&[]).await; // it lives
        f.sweep().await;
        assert!(f.job(a.number).await.cancel_requested_at.is_some());
        w.end(a, Cause::Cancel, None).await;
        assert_eq!(flow.tasks().await, "a=cancelled b=skipped tidy=pending");
        run(&w, "tidy", 0).await;
        let view = flow.view().await;
        assert_eq!((view.state, view.reason.as_deref()), (RunState::Failed, Some("the run timed out after 1h")));
    }

    async fn s19_the_time_of_a_run_counts_from_its_first_start(f: Fixture) {
        let flow = Flow::start(f, "a b:a", json!({ "timeout": "1h" })).await;
        let waiting = Flow::behind(f, flow.id, "c", json!({ "timeout": "1h" })).await;
        f.clock.pass(Span::from_secs(7200));
        f.sweep().await;
        let view = flow.view().await;
        assert_eq!((view.state, view.started_at, view.timeout_at), (RunState::Running, None, None), "nobody was there");
        let w = f.worker("w", Offer::default()).await;
        let a = take(&w, "a").await;
        let begun = f.clock.now();
        let hour = Some(begun.plus(Span::from_secs(3600)));
        let view = flow.view().await;
        assert_eq!((view.started_at, view.timeout_at), (Some(begun), hour));
        f.clock.pass(Span::from_secs(1800));
        w.register(&[]).await; // it lives
        w.exit(a, 0).await;
        run(&w, "b", 0).await;
        assert_eq!((flow.state().await, flow.view().await.started_at), (RunState::Done, Some(begun)));
        f.clock.pass(Span::from_secs(7200));
        f.sweep().await;
        let view = waiting.view().await;
        assert_eq!((view.waiting, view.state, view.timeout_at), (false, RunState::Running, None), "its turn is no start");
    }

    async fn s19_no_task_starts_when_the_time_of_its_run_is_over(f: Fixture) {
        let more = json!({ "timeout": "1m", "on_failure": "continue", "on_complete": ["tell"] });
        let flow = Flow::start(f, "a b:a !tidy:a", more).await;
        let other = f.add("").await;
        let w = f.worker("w", Offer::default()).await;
        let a = take(&w, "a").await;
        f.clock.pass(Span::from_secs(60));
        w.register(&[]).await;
        w.exit(a, 0).await;
        // Nobody did the upkeep yet. What may start does, in whichever order they stand.
        assert_eq!(w.lease_numbers(9).await, [flow.number("tidy").await, other]);
        assert_eq!(flow.tasks().await, "a=done b=pending tidy=running");
        let op = Lease { worker: w.key.clone(), name: "w".into(), offer: Offer::default(), slots: 9, ttl: TTL, only: None };
        let reply = f.queue.call(op.clone()).await.unwrap();
        assert_eq!((reply.jobs.len(), reply.held_up, reply.next_timer.is_some()), (0, true, true));
        let only = Lease { only: Some(Only::Run(flow.id)), ..op.clone() };
        assert_eq!(f.queue.call(only).await.unwrap().jobs.len(), 0);
        f.sweep().await;
        assert_eq!(flow.tasks().await, "a=done b=skipped tidy=running");
        assert!(!f.queue.call(op).await.unwrap().held_up);
        w.exit(Fence { number: flow.number("tidy").await, attempt: 1 }, 0).await;
        run(&w, "on_complete", 0).await;
        let view = flow.view().await;
        assert_eq!((view.state, view.reason.as_deref()), (RunState::Failed, Some("the run timed out after 1m")));
    }

    async fn s10_a_run_that_is_opened_again_has_its_time_again(f: Fixture) {
        let flow = Flow::start(f, "a b:a", json!({ "timeout": "1m" })).await;
        let w = f.worker("w", Offer::default()).await;
        let a = take(&w, "a").await;
        f.clock.pass(Span::from_secs(60));
        w.register(&[]).await;
        f.sweep().await;
        w.end(a, Cause::Cancel, None).await;
        assert_eq!(flow.tasks().await, "a=cancelled b=skipped");
        f.queue.call(Retry { numbers: vec![a.number], only: false }).await.unwrap();
        f.clock.pass(Span::from_secs(600));
        w.register(&[]).await;
        f.sweep().await;
        assert_eq!((flow.tasks().await.as_str(), flow.view().await.timeout_at), ("a=pending b=blocked", None));
        run(&w, "a", 0).await;
        assert_eq!(flow.view().await.timeout_at, Some(f.clock.now().plus(Span::from_secs(60))));
        run(&w, "b", 0).await;
        assert_eq!(flow.state().await, RunState::Done);
    }

    async fn s19_hooks_run_first_and_last_and_the_last_gets_the_report(f: Fixture) {
        let hooks = json!({ "on_start": ["begin"], "on_complete": ["tell"] });
        let flow = Flow::start(f, "a b:a", hooks).await;
        let w = f.worker("w", Offer::default()).await;
        assert_eq!(flow.tasks().await, "on_start=pending a=blocked b=blocked");
        run(&w, "on_start", 0).await;
        run(&w, "a", 1).await;
        assert_eq!(flow.state().await, RunState::Running, "something runs last");
        let jobs = w.lease(1).await;
        assert_eq!(jobs[0].origin.task.as_deref(), Some("on_complete"));
        let Some(Bytes(report)) = &jobs[0].spec.stdin else { panic!("no report") };
        let report: RunView = serde_json::from_slice(report).unwrap();
        assert_eq!((report.id, report.state), (flow.id, RunState::Failed));
        assert_eq!(report.tasks.iter().map(|t| t.task.as_str()).collect::<Vec<_>>(), ["on_start", "a", "b"]);
        w.exit(jobs[0].fence, 0).await;
        assert_eq!(flow.tasks().await, "on_start=done a=failed b=skipped on_complete=done");
        assert_eq!(flow.state().await, RunState::Failed, "it cannot change the result");
    }

    async fn s16_what_runs_last_is_under_its_limit_too(f: Fixture) {
        let last = json!({ "command": ["tell"], "limit": "db=1" });
        let flow = Flow::start(f, "a", json!({ "on_complete": last })).await;
        let other = f.enqueue(&command(r#""limit":"db=2""#)).await.unwrap_err();
        assert_eq!(other.kind(), Kind::Conflict);
        let w = f.worker("w", Offer::default()).await;
        run(&w, "a", 0).await;
        let last = take(&w, "on_complete").await;
        let one = f.add(r#""limit":"db=1""#).await;
        assert_eq!(w.lease(9).await.len(), 0, "one at a time");
        w.exit(last, 0).await;
        assert_eq!((flow.state().await, w.lease_numbers(9).await), (RunState::Done, vec![one]));
    }

    async fn s19_a_failed_hook_at_the_start_skips_the_tasks_and_one_at_the_end_changes_nothing(f: Fixture) {
        let flow = Flow::start(f, "a !tidy", json!({ "on_start": ["begin"] })).await;
        let w = f.worker("w", Offer::default()).await;
        run(&w, "on_start", 1).await;
        assert_eq!(flow.tasks().await, "on_start=failed a=skipped tidy=pending");
        run(&w, "tidy", 0).await;
        assert_eq!(flow.state().await, RunState::Failed);
        let flow = Flow::start(f, "a", json!({ "on_complete": ["tell"] })).await;
        run(&w, "a", 0).await;
        run(&w, "on_complete", 1).await;
        assert_eq!(flow.state().await, RunState::Done);
    }

    async fn a_sequence_runs_one_at_a_time_in_the_order_of_the_file(f: Fixture) {
        let flow = Flow::start(f, "c a b !d", json!({ "mode": "sequential", "on_failure": "continue" })).await;
        let w = f.worker("w", Offer::default()).await;
        for (task, code) in [("c", 0), ("a", 1), ("b", 0), ("d", 0)] {
            let fence = take(&w, task).await;
            assert_eq!(w.lease(9).await.len(), 0, "one at a time");
            w.exit(fence, code).await;
        }
        assert_eq!(flow.state().await, RunState::Failed);
    }

    async fn max_parallel_holds_for_each_run_by_itself(f: Fixture) {
        let more = json!({ "max_parallel": 2 });
        let (one, two) = (Flow::start(f, "a b c", more.clone()).await, Flow::start(f, "a b c", more.clone()).await);
        let w = f.worker("w", Offer::default()).await;
        let held = w.lease(9).await;
        let of = |id: RunId| held.iter().filter(|j| j.origin.run_id == Some(id)).count();
        assert_eq!((of(one.id), of(two.id)), (2, 2));
        for job in held {
            w.exit(job.fence, 0).await;
        }
        for job in w.lease(9).await {
            w.exit(job.fence, 0).await;
        }
        assert_eq!((one.state().await, two.state().await), (RunState::Done, RunState::Done));
        // The keys of runs that have ended serve the next ones.
        Flow::start(f, "a b c", more).await;
        let limits = f.queue.call(orx::ops::policies::ListPolicies {}).await.unwrap().limits;
        assert_eq!(limits.iter().map(|l| l.key.as_str()).collect::<Vec<_>>(), ["workflow/flow/2/1", "workflow/flow/2/2"]);
    }

    async fn a_run_that_takes_its_own_limit_back_tells_of_it(f: Fixture) {
        let more = json!({ "max_parallel": 2 });
        let w = f.worker("w", Offer::default()).await;
        for _ in 0..2 {
            Flow::start(f, "a b", more.clone()).await;
            let jobs = w.lease(9).await;
            assert_eq!(jobs.len(), 2); // and the audit finds nothing
            for job in jobs {
                w.exit(job.fence, 0).await;
            }
            let key = "workflow/flow/2/1".to_owned();
            f.queue.call(SetLimit { tenant: "default".into(), key, max_running: 1 }).await.unwrap();
        }
    }

    async fn s10_a_retry_in_a_run_brings_back_what_was_ended_because_of_it(f: Fixture) {
        let flow = Flow::start(f, "a b c:a d", json!({ "max_parallel": 2 })).await;
        let w = f.worker("w", Offer::default()).await;
        let (a, b) = (take(&w, "a").await, take(&w, "b").await);
        w.exit(a, 1).await;
        w.end(b, Cause::Cancel, None).await;
        assert_eq!(flow.tasks().await, "a=failed b=cancelled c=skipped d=skipped");
        assert_eq!(flow.state().await, RunState::Failed);
        f.queue.call(Retry { numbers: vec![a.number], only: false }).await.unwrap();
        assert_eq!(flow.tasks().await, "a=pending b=pending c=blocked d=pending");
        assert_eq!(flow.state().await, RunState::Running);
        for task in ["a", "b", "c", "d"] {
            run(&w, task, 0).await;
        }
        assert_eq!(flow.state().await, RunState::Done);
        assert_eq!(told(f).await, "run_started run_stopped run_ended run_reopened run_ended");
    }

    async fn s10_tasks_that_a_retry_brings_back_may_be_named_too(f: Fixture) {
        let flow = Flow::start(f, "a b c:a", json!({})).await;
        let w = f.worker("w", Offer::default()).await;
        let (a, b) = (take(&w, "a").await, take(&w, "b").await);
        w.exit(a, 1).await;
        w.end(b, Cause::Cancel, None).await;
        assert_eq!(flow.tasks().await, "a=failed b=cancelled c=skipped");
        let numbers = vec![a.number, b.number, flow.number("c").await, a.number];
        let replies = f.queue.call(Retry { numbers: numbers.clone(), only: false }).await.unwrap();
        let mut named: Vec<Number> = replies.iter().filter(|reply| !reply.revived).map(|reply| reply.number).collect();
        named.sort_unstable();
        assert_eq!((replies.len(), &named[..]), (3, &numbers[..3]));
        assert_eq!(flow.tasks().await, "a=pending b=pending c=blocked");
    }

    async fn s10_a_retry_is_refused_until_what_its_run_asked_to_end_has_ended(f: Fixture) {
        let flow = Flow::start(f, "a b c:a !tidy:a", json!({})).await;
        let w = f.worker("w", Offer::default()).await;
        let (a, b) = (take(&w, "a").await, take(&w, "b").await);
        w.exit(a, 1).await;
        let tidy = take(&w, "tidy").await;
        for only in [false, true] {
            let refused = f.queue.call(Retry { numbers: vec![a.number], only }).await.unwrap_err();
            assert_eq!((refused.kind(), refused.hint_text().unwrap().contains(&b.number.to_string())), (Kind::Conflict, true));
        }
        assert_eq!(flow.tasks().await, "a=failed b=running c=skipped tidy=running");
        w.end(b, Cause::Cancel, None).await;
        f.queue.call(Retry { numbers: vec![a.number], only: false }).await.unwrap();
        assert_eq!(flow.tasks().await, "a=pending b=pending c=blocked tidy=running", "an always task is not waited for");
        for task in ["a", "b", "c"] {
            run(&w, task, 0).await;
        }
        w.exit(tidy, 0).await;
        assert_eq!(flow.state().await, RunState::Done);
    }

    async fn a_cancelled_task_ends_its_run(f: Fixture) {
        let flow = Flow::start(f, "a b", json!({})).await;
        let a = flow.number("a").await;
        f.queue.call(Cancel { numbers: vec![a], ..Default::default() }).await.unwrap();
        assert_eq!(flow.tasks().await, "a=cancelled b=skipped");
        assert_eq!(flow.state().await, RunState::Cancelled);
    }

    async fn a_replay_is_a_new_run_linked_to_the_old_one(f: Fixture) {
        let flow = Flow::start(f, "a b:a c:b !tidy:c", json!({})).await;
        assert_eq!(flow.replay(None, false).await.err().unwrap().kind(), Kind::Conflict, "it has not ended");
        let w = f.worker("w", Offer::default()).await;
        run(&w, "a", 0).await;
        run(&w, "b", 1).await;
        run(&w, "tidy", 0).await;
        assert_eq!(flow.state().await, RunState::Failed);

        let failed = flow.replay(None, true).await.unwrap();
        assert_eq!(failed.tasks().await, "a=done b=pending c=blocked tidy=blocked");
        let view = failed.view().await;
        assert_eq!((view.replay_of, view.replay_reason.as_deref()), (Some(flow.id), Some("why")));
        assert_eq!(view.tasks.iter().map(|t| t.inherited).collect::<Vec<_>>(), [true, false, false, false]);
        run(&w, "b", 0).await;
        run(&w, "c", 1).await;
        run(&w, "tidy", 0).await;

        // What was done two runs ago is done.
        let from = failed.replay(Some("c"), false).await.unwrap();
        assert_eq!(from.tasks().await, "a=done b=done c=pending tidy=blocked");
        run(&w, "c", 0).await;
        run(&w, "tidy", 0).await;
        assert_eq!(from.state().await, RunState::Done);
        assert_eq!(from.replay(None, true).await.err().unwrap().kind(), Kind::Conflict, "all is done");
        let early = flow.replay(Some("c"), false).await.err().unwrap();
        assert_eq!(early.message(), "task c: needs b, which is not done");
        assert_eq!(from.replay(None, false).await.unwrap().tasks().await, "a=pending b=blocked c=blocked tidy=blocked");
    }

    async fn a_task_hears_what_those_that_it_needs_made(f: Fixture) {
        Flow::start(f, "a b c:a,b d:b", json!({})).await;
        let w = f.worker("w", Offer::default()).await;
        let a = take(&w, "a").await;
        let result: JsonText = "{ \"v\": 1.10 }".parse().unwrap();
        let said = Say { worker: w.key.clone(), fence: a, progress: None, result: Some(result.clone()), result_is_text: false };
        f.queue.call(said).await.unwrap();
        w.exit(a, 0).await;
        run(&w, "b", 0).await;
        let got = |fence, number| f.queue.call(GetResult { worker: w.key.clone(), fence, number });
        let c = w.lease(1).await.pop().unwrap();
        assert_eq!(c.results, [("a".to_owned(), a.number)]);
        assert_eq!(got(c.fence, a.number).await.unwrap(), Some(Handed { result, is_text: false }));
        assert_eq!(got(c.fence, c.fence.number).await.unwrap(), None, "it does not need itself");
        let d = w.take().await;
        assert_eq!(got(d, a.number).await.unwrap(), None, "what it does not need is not told");
        w.exit(c.fence, 0).await;
        assert_eq!(got(c.fence, a.number).await.unwrap(), None, "it has ended");
    }

    async fn a_worker_may_be_there_for_one_run_only(f: Fixture) {
        f.add("").await;
        let flow = Flow::start(f, "a b c:a", json!({})).await;
        let w = f.worker("w", Offer::default()).await;
        let lease = |slots| {
            let (offer, ttl, only) = (Offer::default(), TTL, Some(Only::Run(flow.id)));
            f.queue.call(Lease { worker: w.key.clone(), name: "w".into(), offer, slots, ttl, only })
        };
        let jobs = lease(9).await.unwrap().jobs;
        assert_eq!(jobs.iter().map(|j| j.origin.task.as_deref().unwrap()).collect::<Vec<_>>(), ["a", "b"]);
        for job in jobs {
            w.exit(job.fence, 0).await;
        }
        assert_eq!(lease(9).await.unwrap().jobs.len(), 1);
    }

    async fn s17_a_worker_for_one_run_takes_tasks_behind_those_that_require_other_labels(f: Fixture) {
        let task = |name: String, require: Value| json!({ "name": name, "command": ["true"], "require": require });
        let others = (0..5).map(|n| task(format!("gpu{n}"), json!({ "gpu": "1" })));
        let tasks: Vec<Value> = others.chain([task("here".into(), json!({ "os": "any" }))]).collect();
        let run = Flow::try_start(f, json!({ "name": "flow", "task": tasks })).await.unwrap();
        let w = f.worker("w", Offer::default()).await;
        let lease = |labels: &[(&str, &str)]| {
            let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            let (offer, only) = (Offer { labels, ..Offer::default() }, Some(Only::Run(run.id)));
            f.queue.call(Lease { worker: w.key.clone(), name: "w".into(), offer, slots: 1, ttl: TTL, only })
        };
        assert_eq!(lease(&[]).await.unwrap().jobs.len(), 0);
        let jobs = lease(&[("os", "any")]).await.unwrap().jobs;
        assert_eq!(jobs.iter().map(|job| job.origin.task.as_deref().unwrap()).collect::<Vec<_>>(), ["here"]);
        let only = Some(Only::Job(1));
        let one = Lease { worker: w.key.clone(), name: "w".into(), offer: Offer::default(), slots: 1, ttl: TTL, only };
        assert_eq!(f.queue.call(one).await.unwrap().jobs.len(), 0);
    }

    async fn jobs_of_a_run_are_kept_until_it_has_ended_and_the_run_goes_with_the_last(f: Fixture) {
        let flow = Flow::start(f, "a b:a", json!({})).await;
        let w = f.worker("w", Offer::default()).await;
        run(&w, "a", 0).await;
        f.clock.pass(Span::from_secs(60));
        w.register(&[]).await;
        let before = Timestamp(i64::MAX / 2);
        let find = || f.queue.call(Prunable { after: 0, before, dead: true });
        assert!(find().await.unwrap().is_empty());
        run(&w, "b", 0).await;
        let numbers = find().await.unwrap();
        assert_eq!(numbers.len(), 2);
        f.queue.call(Prune { numbers: numbers[..1].to_vec(), before, dead: true, epoch: None }).await.unwrap();
        assert_eq!(flow.state().await, RunState::Done);
        f.queue.call(Prune { numbers: numbers[1..].to_vec(), before, dead: true, epoch: None }).await.unwrap();
        let gone = f.queue.call(GetRun { run: RunName::Last, options: false }).await.unwrap_err();
        assert_eq!(gone.kind(), Kind::NotFound);
    }

    async fn s22_a_run_waits_for_the_end_of_the_one_before_it_and_of_all_before_that(f: Fixture) {
        let first = Flow::start(f, "a !tidy:a", json!({ "on_complete": ["tell"] })).await;
        let second = Flow::behind(f, first.id, "a b:a", json!({ "timeout": "1m" })).await;
        let third = Flow::behind(f, second.id, "a !tidy:a", json!({ "on_start": ["begin"] })).await;
        assert!(second.view().await.waiting && second.view().await.started_at.is_none());
        assert_eq!(f.queue.check().await.unwrap(), []);
        let w = f.worker("w", Offer::default()).await;
        run(&w, "a", 0).await;
        // One that is taken out of the line leaves no gap: the next waits for the first.
        assert_eq!(second.cancel().await, RunState::Cancelled);
        assert_eq!(third.tasks().await, "on_start=blocked a=blocked tidy=blocked");
        run(&w, "tidy", 0).await;
        assert_eq!(third.tasks().await, "on_start=blocked a=blocked tidy=blocked");
        run(&w, "on_complete", 0).await;
        assert_eq!(first.state().await, RunState::Done);
        assert_eq!(third.tasks().await, "on_start=pending a=blocked tidy=blocked");
        for task in ["on_start", "a", "tidy"] {
            run(&w, task, 0).await;
        }
        assert_eq!(third.state().await, RunState::Done);
        let late = Flow::behind(f, third.id, "a", json!({})).await;
        assert_eq!(late.tasks().await, "a=pending", "there is nothing to wait for");
    }

    async fn s22_a_retry_does_not_let_a_run_go_that_waits_for_another(f: Fixture) {
        let first = Flow::start(f, "a", json!({})).await;
        let more = json!({ "on_failure": "continue" });
        let second = Flow::behind(f, first.id, "a b", more).await;
        let w = f.worker("w", Offer::default()).await;
        let running = take(&w, "a").await;
        let held = running.number + 1;
        f.queue.call(Cancel { numbers: vec![held], ..Cancel::default() }).await.unwrap();
        f.queue.call(Retry { numbers: vec![held], only: false }).await.unwrap();
        assert_eq!(second.tasks().await, "a=blocked b=blocked");
        f.queue.call(Cancel { numbers: vec![held], ..Cancel::default() }).await.unwrap();
        w.exit(running, 0).await;
        assert_eq!(second.tasks().await, "a=cancelled b=pending");
        f.queue.call(Retry { numbers: vec![held], only: false }).await.unwrap();
        assert_eq!(second.tasks().await, "a=pending b=pending", "there is nothing to wait for any more");
    }

    async fn many_tasks_are_stored_and_stopped_at_once(f: Fixture) {
        let tasks: String = (0..400).map(|i| if i == 0 { "t0 ".into() } else { format!("t{i}:t{} ", (i - 1) / 2) }).collect();
        let flow = Flow::start(f, &tasks, json!({})).await;
        let w = f.worker("w", Offer::default()).await;
        run(&w, "t0", 0).await;
        run(&w, "t1", 1).await;
        assert_eq!(flow.state().await, RunState::Failed);
        let jobs = f.queue.call(GetJobs { numbers: (1..=400).collect(), detail: false }).await.unwrap();
        assert_eq!(jobs.iter().filter(|j| j.state == orx::job::State::Skipped).count(), 398);
        assert_eq!(f.queue.check().await.unwrap(), []);
    }
}

/// A run is locked before its jobs, and a lease has jobs already: it waits for no run.
#[tokio::test]
async fn s19_a_lease_passes_over_tasks_whose_run_somebody_else_has_and_asks_again_soon() {
    let f = Fixture::postgres();
    let flow = Flow::start(&f, "a b", json!({ "timeout": "1h" })).await;
    let other = f.add("").await;
    let w = f.worker("w", Offer::default()).await;
    let held = f.meanwhile("SELECT 1 FROM runs FOR UPDATE");
    let op = Lease { worker: w.key.clone(), name: "w".into(), offer: Offer::default(), slots: 9, ttl: TTL, only: None };
    let reply = f.queue.call(op).await.unwrap();
    assert_eq!(reply.jobs.iter().map(|job| job.fence.number).collect::<Vec<_>>(), [other]);
    assert!(reply.held_up && reply.next_timer.is_some_and(|span| span < Span::from_secs(1)));
    drop(held);
    assert_eq!(w.lease(9).await.len(), 2);
    assert_eq!(flow.view().await.started_at, Some(f.clock.now()));
    assert_eq!(f.audit().await, []);
}
