//! Places for new jobs: their lanes, and the room that the limits on queued jobs leave (S15).

use std::collections::HashMap;

use super::transition;
use crate::error::Result;
use crate::job::lanes::Needs;
use crate::job::{JobSpec, LaneId};
use crate::store::{Quota, Tx};

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
        self.take(lane)?;
        Ok(lane)
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
        let lanes: Vec<LaneId> = specs.into_iter().map(|spec| self.lane(tx, spec)).collect::<Result<_>>()?;
        let before = self.rooms.clone();
        let taken = lanes.iter().try_for_each(|lane| self.take(*lane));
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

    fn take(&mut self, lane: LaneId) -> Result<()> {
        let Some(under) = self.under.get(&lane) else { return Ok(()) };
        for name in under {
            if let Some(quota) = self.rooms.get(name) {
                transition::room_in(quota)?;
            }
        }
        for name in under {
            if let Some(quota) = self.rooms.get_mut(name) {
                quota.queued += 1;
            }
        }
        Ok(())
    }
}
