//! Storing jobs and running them again: names, keys, edges, limits on what is queued (S9, S10, S12, S13, S15).

use std::collections::BTreeMap;

use orx::error::Kind;
use orx::job::spec::OnConflict;
use orx::job::{Number, State};

use super::reference::{Job, Key, Limits, Model, Need};
use super::steps::Order;

/// What an enqueue must answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Stored {
    pub number: Number,
    pub state: State,
    pub existing: bool,
}

impl Model {
    /// Stores a job under the `number` that orx gave it, if it is a new one.
    pub fn enqueue(&mut self, order: &Order, number: Option<Number>) -> Result<Stored, Kind> {
        let tenant = order.tenant();
        let found = |number: Number, jobs: &BTreeMap<Number, Job>| Stored {
            number,
            state: jobs[&number].state,
            existing: true,
        };
        let key = order.key().map(|key| (tenant.clone(), key));
        if let Some(key) = key.as_ref().and_then(|key| self.keys.get(key))
            && key.expires.is_none_or(|at| at > self.now)
        {
            return if key.order == *order { Ok(found(key.number, &self.jobs)) } else { Err(Kind::Conflict) };
        }
        let mut after: Vec<(Number, bool)> = order.after.clone();
        let name = order.name().map(|name| (tenant.clone(), name));
        if let Some(holder) = name.as_ref().and_then(|name| self.names.get(name).copied()) {
            match order.conflict {
                OnConflict::Reject => return Err(Kind::Conflict),
                OnConflict::Return => return Ok(found(holder, &self.jobs)),
                OnConflict::Replace => after.extend(self.replace(holder).map(|number| (number, true))),
            }
        }
        if let Some((key, max)) = order.limit() {
            let known = *self.limits.entry((tenant.clone(), key)).or_insert(max);
            if known != max {
                return Err(Kind::Conflict);
            }
        }
        self.admit(order)?;
        let number = number.expect("a new job has a number");
        assert!(self.jobs.keys().all(|n| *n < number), "numbers rise");
        let mut needs: BTreeMap<Number, bool> = BTreeMap::new();
        for (number, ended) in after {
            // Waiting for success says more than waiting for the end.
            *needs.entry(number).or_insert(true) &= ended;
        }
        let needs = needs.into_iter().map(|(number, ended)| Need { number, ended, met: false });
        let needs = needs.map(|need| Need { met: need.met_by(self.jobs[&need.number].state), ..need });
        let mut job = Job::new(order, needs.collect(), self.now);
        job.start(self.now);
        self.jobs.insert(number, job);
        self.turns.meet(order.lane());
        if let Some(name) = name {
            self.names.insert(name, number);
        }
        if let Some(key) = key {
            self.keys.insert(key, Key { number, order: order.clone(), expires: None });
        }
        let broken =
            self.jobs[&number].needs.iter().find(|need| !need.met && self.jobs[&need.number].state.is_terminal());
        if let Some(why) = broken.map(|need| self.broken(*need)) {
            self.end(number, State::Skipped, Some(why));
        }
        Ok(Stored { number, state: self.jobs[&number].state, existing: false })
    }

    pub(super) fn broken(&self, need: Need) -> String {
        format!("needs job {}, which is {}", need.number, self.jobs[&need.number].state)
    }

    /// Takes the name from its holder (S12); gives the job that has to end first.
    fn replace(&mut self, holder: Number) -> Option<Number> {
        if self.jobs[&holder].state == State::Running {
            self.ask(holder, "replaced");
            return Some(holder);
        }
        let name = self.jobs[&holder].order.name();
        let runs = |job: &Job| job.state == State::Running && job.order.name() == name;
        let waits = |need: &&Need| need.ended && !need.met && runs(&self.jobs[&need.number]);
        let before = self.jobs[&holder].needs.iter().find(waits).map(|need| need.number);
        self.end(holder, State::Cancelled, Some("replaced".into()));
        before
    }

    /// One more queued job, where the limits leave room (S15).
    fn admit(&self, order: &Order) -> Result<(), Kind> {
        let (queue, tenant) = (order.queue(), order.tenant());
        let max = |limits: Option<&Limits>| limits.and_then(|l| l.queued).unwrap_or(u32::MAX);
        let of_queue = self.count(|job| Self::is_queued(job) && job.order.queue() == queue);
        let of_tenant = self.count(|job| Self::is_queued(job) && job.order.tenant() == tenant);
        match of_queue >= max(self.queues.get(&queue)) || of_tenant >= max(self.tenants.get(&tenant)) {
            true => Err(Kind::Limit),
            false => Ok(()),
        }
    }

    /// A new generation of a job, and of those that were skipped because of it (S10).
    pub fn retry(&mut self, number: Number, only: bool) -> Result<Vec<(Number, State, bool)>, Kind> {
        if !matches!(self.jobs[&number].state, State::Failed | State::Cancelled) {
            return Err(Kind::Conflict);
        }
        self.come_back(number)?;
        self.letters.remove(&number);
        let over: Vec<Number> = self.jobs.iter().filter(|(_, j)| j.state.is_terminal()).map(|(n, _)| *n).collect();
        let now = self.now;
        let job = self.job(number);
        (job.failures, job.losses, job.interruptions, job.snoozes) = (0, 0, 0, 0);
        job.unstarted = (0, 0);
        for need in job.needs.iter_mut().filter(|need| over.contains(&need.number)) {
            need.met = true; // it is waited for no longer
        }
        job.back(now);
        let mut changed = vec![(number, self.jobs[&number].state, false)];
        let mut sources = if only { Vec::new() } else { vec![number] };
        while !sources.is_empty() {
            let source = sources.remove(0);
            for dependant in self.dependants(source) {
                if self.revive(dependant)? {
                    changed.push((dependant, self.jobs[&dependant].state, true));
                    sources.push(dependant);
                }
            }
        }
        Ok(changed)
    }

    fn dependants(&self, source: Number) -> Vec<Number> {
        let needs = |job: &Job| job.needs.iter().any(|need| need.number == source);
        self.jobs.iter().filter(|(_, job)| needs(job)).map(|(n, _)| *n).collect()
    }

    fn revive(&mut self, number: Number) -> Result<bool, Kind> {
        let broken = |need: &Need| {
            let state = self.jobs[&need.number].state;
            state.is_terminal() && !need.met_by(state)
        };
        let job = &self.jobs[&number];
        if job.state != State::Skipped || job.needs.iter().any(broken) {
            return Ok(false);
        }
        self.come_back(number)?;
        let states: Vec<State> = self.jobs[&number].needs.iter().map(|need| self.jobs[&need.number].state).collect();
        let now = self.now;
        let job = self.job(number);
        for (need, state) in job.needs.iter_mut().zip(states) {
            need.met = need.met_by(state);
        }
        job.due = job.order.due(job.created).filter(|due| *due > now); // as late as it was to be
        job.back(now);
        Ok(true)
    }

    /// Room, name and key of a job that has ended and is to run again.
    fn come_back(&mut self, number: Number) -> Result<(), Kind> {
        let order = self.jobs[&number].order.clone();
        self.admit(&order)?;
        if let Some(name) = order.name() {
            let name = (order.tenant(), name);
            if self.names.contains_key(&name) {
                return Err(Kind::Conflict);
            }
            self.names.insert(name, number);
        }
        for key in self.keys.values_mut().filter(|key| key.number == number) {
            key.expires = None;
        }
        Ok(())
    }

    fn is_queued(job: &Job) -> bool {
        !job.state.is_terminal()
    }
}
