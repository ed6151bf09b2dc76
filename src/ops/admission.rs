//! Places for new jobs: their lanes, and the room that limits leave (S15).

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::transition;
use crate::error::{Error, Kind, Result};
use crate::job::lanes::Needs;
use crate::job::{JobId, JobSpec, LaneId, Submission};
use crate::store::{Quota, RATE_WINDOW, Tx};
use crate::time::Timestamp;

/// The limit that a quota is: its scope and name.
type Under = (&'static str, String);

/// The lanes of one transaction and the rooms in them. What is admitted takes its room at once, stored or not yet.
#[derive(Default)]
pub(super) struct LaneCache {
    /// The one of the job before, because neighbours mostly share it.
    last: Option<Place>,
    lanes: HashMap<(String, String, String, String), LaneId>,
    under: HashMap<LaneId, Vec<Under>>,
    rooms: HashMap<Under, Quota>,
}

struct Place {
    queue: String,
    tenant: String,
    key: Option<String>,
    needs: Needs,
    lane: LaneId,
}

impl Place {
    fn is_for(&self, spec: &JobSpec) -> bool {
        self.queue == spec.queue()
            && self.tenant == spec.tenant()
            && self.key.as_deref() == spec.limit.as_ref().map(|l| l.key.as_str())
            && self.needs.is_of(spec)
    }
}

impl LaneCache {
    /// A place for one more job of `spec`.
    ///
    /// # Errors
    /// `Limit` where there is none.
    pub(super) fn admit(&mut self, tx: &mut dyn Tx, spec: &JobSpec) -> Result<LaneId> {
        let lane = self.lane(tx, spec)?;
        self.take(lane, spec, tx.now())?;
        self.note(tx, lane);
        Ok(lane)
    }

    /// Whether what queue and tenant of `spec` allow is bounded.
    pub(super) fn is_limited(&mut self, tx: &mut dyn Tx, spec: &JobSpec) -> Result<bool> {
        let lane = self.lane(tx, spec)?;
        Ok(self.under.contains_key(&lane))
    }

    /// Whether there are places for all of these jobs. None is taken.
    pub(super) fn fits<'a>(&mut self, tx: &mut dyn Tx, specs: impl IntoIterator<Item = &'a JobSpec>) -> Result<bool> {
        let specs: Vec<&JobSpec> = specs.into_iter().collect();
        specs.iter().try_for_each(|spec| self.lane(tx, spec).map(|_| ()))?; // from here on their limits are known
        let before = self.rooms.clone();
        let taken = self.take_all(tx, specs);
        self.rooms = before;
        match taken {
            Err(e) if e.kind() == Kind::Limit => Ok(false),
            taken => taken.map(|_| true),
        }
    }

    /// Places for all of these jobs, or for none.
    ///
    /// # Errors
    /// `Limit` where there are not as many.
    pub(super) fn admit_all<'a>(
        &mut self,
        tx: &mut dyn Tx,
        specs: impl IntoIterator<Item = &'a JobSpec>,
    ) -> Result<Vec<LaneId>> {
        let lanes = self.take_all(tx, specs)?;
        lanes.iter().for_each(|lane| self.note(tx, *lane));
        Ok(lanes)
    }

    fn take_all<'a>(&mut self, tx: &mut dyn Tx, specs: impl IntoIterator<Item = &'a JobSpec>) -> Result<Vec<LaneId>> {
        let specs: Vec<&JobSpec> = specs.into_iter().collect();
        let lanes: Vec<LaneId> = specs.iter().map(|spec| self.lane(tx, spec)).collect::<Result<_>>()?;
        let before = self.rooms.clone();
        let now = tx.now();
        let taken = lanes.iter().zip(specs).try_for_each(|(lane, spec)| self.take(*lane, spec, now));
        if taken.is_err() {
            self.rooms = before;
        }
        taken.map(|()| lanes)
    }

    fn lane(&mut self, tx: &mut dyn Tx, spec: &JobSpec) -> Result<LaneId> {
        if let Some(place) = self.last.as_ref().filter(|place| place.is_for(spec)) {
            return Ok(place.lane);
        }
        let needs = Needs::of(spec);
        let key = spec.limit.as_ref().map(|l| l.key.clone());
        let name = (spec.queue().to_owned(), spec.tenant().to_owned(), key.clone().unwrap_or_default(), needs.key());
        let lane = match self.lanes.get(&name) {
            Some(lane) => *lane,
            None => {
                let lane = tx.lane(&name.0, &name.1, key.as_deref(), &name.3)?;
                for quota in tx.quotas(lane)? {
                    let under = (quota.scope, quota.name.clone());
                    self.under.entry(lane).or_default().push(under.clone());
                    // One that is known counts jobs that are not stored yet.
                    self.rooms.entry(under).or_insert(quota);
                }
                self.lanes.insert(name.clone(), lane);
                lane
            }
        };
        self.last = Some(Place { queue: name.0, tenant: name.1, key, needs, lane });
        Ok(lane)
    }

    fn take(&mut self, lane: LaneId, spec: &JobSpec, now: Timestamp) -> Result<()> {
        let Some(under) = self.under.get(&lane) else { return Ok(()) };
        for name in under {
            if let Some(quota) = self.rooms.get(name) {
                transition::room_in(quota)?;
                size_in(quota, spec)?;
                rate_in(quota, now)?;
            }
        }
        for name in under {
            if let Some(quota) = self.rooms.get_mut(name) {
                quota.queued += 1;
                quota.submitted += 1;
            }
        }
        Ok(())
    }

    /// Has the submission counted where the rate is limited.
    fn note(&self, tx: &mut dyn Tx, lane: LaneId) {
        for name in self.under.get(&lane).into_iter().flatten() {
            if self.rooms.get(name).is_some_and(|quota| quota.per_minute.is_some()) {
                tx.submitted(name.0, &name.1);
            }
        }
    }
}

/// Which jobs of a call were stored before it, as those of an interrupted load were (S32): they take no place again.
pub(super) struct Before<'a> {
    jobs: &'a [Submission],
    /// Looked up all at once, when the first is asked for.
    ids: Option<HashSet<JobId>>,
}

impl<'a> Before<'a> {
    pub(super) fn of(jobs: &'a [Submission]) -> Self {
        Self { jobs, ids: None }
    }

    /// Whether `job` was. Not looked up, and false, where nothing limits it: to store it finds out as well.
    pub(super) fn has(&mut self, tx: &mut dyn Tx, lanes: &mut LaneCache, job: &Submission) -> Result<bool> {
        if !lanes.is_limited(tx, &job.spec)? {
            return Ok(false);
        }
        let ids = match self.ids.take() {
            Some(ids) => ids,
            None => {
                let all: Vec<JobId> = self.jobs.iter().map(|job| job.id).collect();
                tx.stored(&all)?.into_iter().collect()
            }
        };
        Ok(self.ids.insert(ids).contains(&job.id))
    }
}

/// Refuses a payload that is too large; to try again helps nobody.
fn size_in(quota: &Quota, spec: &JobSpec) -> Result<()> {
    let Quota { scope, name, max_payload: Some(max), .. } = quota else { return Ok(()) };
    let payload = spec.payload.as_ref().map_or(0, |payload| payload.to_string().len());
    let size = payload.max(spec.stdin.as_ref().map_or(0, |stdin| stdin.0.len()));
    match size <= *max as usize {
        true => Ok(()),
        false => {
            Err(Error::new(Kind::Limit, format!("{scope} {name} takes payloads of {max} bytes, and this has {size}"))
                .hint("store it in a file and pass its path"))
        }
    }
}

/// `1 job`, `2 jobs`.
pub(super) fn jobs(n: u32) -> String {
    if n == 1 { "1 job".into() } else { format!("{n} jobs") }
}

/// Refuses one more submission in this minute.
fn rate_in(quota: &Quota, now: Timestamp) -> Result<()> {
    let Quota { scope, name, per_minute: Some(max), submitted, first_at, .. } = quota else { return Ok(()) };
    if submitted < max {
        return Ok(());
    }
    let refused = Error::new(Kind::Limit, format!("{scope} {name} may submit {} a minute", jobs(*max)));
    Err(match first_at {
        Some(first) => {
            // Whole seconds, and not before the time.
            let wait = first.plus(RATE_WINDOW).since(now).duration();
            let wait = Duration::from_secs(wait.as_millis().div_ceil(1000).max(1) as u64);
            refused.retry_after(wait).hint(format!("it did, in the last {} s", RATE_WINDOW.duration().as_secs()))
        }
        None => refused.hint(format!("send at most {max} at once")),
    })
}
