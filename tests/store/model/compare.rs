//! Whether what anybody can see is what the model has.

use std::collections::BTreeMap;

use orx::job::audit::Auditor;
use orx::job::{Number, State};
use orx::ops::dead_letters::ListLetters;
use orx::ops::events::ReadEvents;
use orx::ops::jobs::{GetJobs, ListJobs};
use orx::ops::policies::ListPolicies;
use orx::ops::status::Status;
use orx::store::WorkerState;

use super::Subject;
use super::reference::Job;

impl Subject {
    /// After each step.
    pub fn compare(&self) {
        let jobs = self.call(ListJobs { limit: 1000, ..Default::default() }).unwrap().jobs;
        assert_eq!(jobs.len(), self.model.jobs.len());
        for job in jobs {
            let model = &self.model.jobs[&job.number];
            let counters = |j: &Job| (j.attempt, j.failures, j.losses, j.interruptions);
            assert_eq!(job.state, model.state, "job {}", job.number);
            let seen = (job.attempt, job.failures, job.losses, job.interruptions);
            assert_eq!(seen, counters(model), "attempt, failures, losses, interruptions of job {}", job.number);
            let seen = (job.due_at.map(|t| t.0), job.finished_at.map(|t| t.0), job.cancel_requested_at.is_some());
            assert_eq!(seen, (model.due, model.finished, model.asked), "due, finished, asked of job {}", job.number);
            // Of several that did not succeed, which one is named is left open.
            let reason = |reason: &Option<String>| match model.state {
                State::Skipped => reason.as_ref().map(|r| r[..10.min(r.len())].to_owned()),
                _ => reason.clone(),
            };
            assert_eq!(reason(&job.reason), reason(&model.reason), "job {}", job.number);
        }
        let letters = self.call(ListLetters { limit: 1000, ..Default::default() }).unwrap();
        let letters: BTreeMap<Number, String> = letters.into_iter().map(|l| (l.job.number, l.reason)).collect();
        assert_eq!(letters, self.model.letters);
        self.compare_totals();
    }

    fn compare_totals(&self) {
        let status = self.call(Status {}).unwrap();
        for queue in &status.queues {
            let of = |state: State| self.model.count(|job| job.order.queue() == queue.name && job.state == state);
            for (state, count) in &queue.counts {
                assert_eq!(*count, i64::from(of(*state)), "{state} in {}", queue.name);
            }
        }
        let seen: i64 = status.queues.iter().flat_map(|queue| queue.counts.values()).sum();
        assert_eq!(seen as usize, self.model.jobs.len());
        let mut workers: Vec<_> =
            status.workers.into_iter().map(|w| (w.id, w.state == WorkerState::Lost, w.running)).collect();
        workers.iter_mut().for_each(|(_, _, running)| running.sort_unstable());
        workers.sort_unstable();
        let numbers = |id| self.model.fences_of(id).iter().map(|fence| fence.number).collect::<Vec<_>>();
        let known = self.model.workers.iter().map(|(id, until)| (*id, *until <= self.model.now, numbers(*id)));
        assert_eq!(workers, known.collect::<Vec<_>>());
        let policies = self.call(ListPolicies {}).unwrap();
        for tenant in policies.tenants {
            let count = |accept: &dyn Fn(State) -> bool| {
                i64::from(self.model.count(|job| job.order.tenant() == tenant.name && accept(job.state)))
            };
            let queued = count(&|state| !state.is_terminal());
            let running = count(&|state| state == State::Running);
            assert_eq!((tenant.queued, tenant.running), (queued, running), "{}", tenant.name);
        }
        let limits: BTreeMap<_, _> =
            policies.limits.iter().map(|l| ((l.tenant.clone(), l.key.clone()), l.max_running)).collect();
        assert_eq!(limits, self.model.limits);
        for limit in &policies.limits {
            let shares = |job: &Job| {
                job.state == State::Running
                    && job.order.tenant() == limit.tenant
                    && job.order.limit().is_some_and(|(key, _)| key == limit.key)
            };
            assert_eq!(limit.running, i64::from(self.model.count(shares)), "{} of {}", limit.key, limit.tenant);
        }
    }

    /// The attempts are those of the model, no row contradicts another, and the audit finds nothing.
    pub fn finish(&self) {
        let numbers: Vec<Number> = self.model.jobs.keys().copied().collect();
        for job in self.call(GetJobs { numbers, detail: true }).unwrap() {
            let ended = job.attempts.iter().flatten().filter_map(|a| Some((a.number, a.outcome?)));
            assert_eq!(ended.collect::<Vec<_>>(), self.model.jobs[&job.number].outcomes, "job {}", job.number);
        }
        let mut auditor = Auditor::default();
        let mut after = 0;
        loop {
            let events = self.call(ReadEvents { after, limit: 1000 }).unwrap();
            let Some(last) = events.last() else { break };
            after = last.seq;
            events.iter().for_each(|event| auditor.event(event));
        }
        assert_eq!(auditor.finish(), []);
        assert_eq!(self.runtime.block_on(self.fixture.queue.check()).unwrap(), []);
    }
}
