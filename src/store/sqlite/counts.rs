//! Counters kept beside the rows they count, so that totals and limits cost no scan (S31).

use rusqlite::params;

use super::sql;
use super::tx::SqliteTx;
use crate::error::Result;
use crate::job::{LaneId, State};
use crate::store::counts::Delta;
use crate::store::{RATE_WINDOW, Tx as _};

impl SqliteTx<'_> {
    /// Writes what was counted. Every reader of counters calls it first.
    pub(super) fn flush(&mut self) -> Result<()> {
        if self.counts.is_empty() {
            return Ok(());
        }
        for (lane, delta) in self.counts.take() {
            self.apply(lane, delta)?;
        }
        for (name, count) in self.counts.take_tallies() {
            self.execute(sql!("tallies_add"), params![name, count])?;
        }
        let (now, window) = (self.now().0, RATE_WINDOW.as_millis());
        for (scope, name, count) in self.counts.take_submitted() {
            self.execute(sql!("submissions_add"), params![scope, name, now, count])?;
            // What is far ahead is of a clock that was set back since.
            self.execute(sql!("submissions_forget"), params![scope, name, now - window, now + window])?;
        }
        Ok(())
    }

    fn apply(&mut self, lane: LaneId, delta: Delta) -> Result<()> {
        let d = |state| delta.of(state);
        let [blocked, scheduled, pending, running, done, failed, cancelled, skipped] = State::ALL.map(d);
        self.execute(
            sql!("lanes_count"),
            params![lane, blocked, scheduled, pending, running, done, failed, cancelled, skipped],
        )?;
        let names = self.first(sql!("lanes_names"), [lane], |r| {
            Ok((r.get::<_, String>(0)?, r.get::<_, String>(1)?, r.get::<_, String>(2)?, r.get::<_, bool>(3)?))
        })?;
        let Some((queue, tenant, key, limited)) = names else {
            return Ok(()); // a lane is never removed while it has jobs
        };
        if limited && running != 0 {
            *self.limited.entry(lane).or_default() += running;
        }
        let pruned = delta.pruned();
        self.execute(
            sql!("queues_count"),
            params![queue, blocked, scheduled, pending, running, done, failed, cancelled, skipped, pruned],
        )?;
        let queued: i64 = State::ALL.into_iter().filter(|s| !s.is_terminal()).map(d).sum();
        if queued != 0 || running != 0 {
            self.execute(sql!("tenants_count"), params![tenant, queued, running])?;
        }
        if !key.is_empty() && running != 0 {
            self.execute(sql!("limits_count"), params![tenant, key, running])?;
        }
        Ok(())
    }
}
