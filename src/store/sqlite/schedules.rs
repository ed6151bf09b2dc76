//! Schedules and their ledger.

use std::sync::Arc;

use rusqlite::{Row, params};
use uuid::Uuid;

use super::sql;
use super::tx::{Column, SqliteTx, time, to_json, uuid_of};
use crate::error::Result;
use crate::job::plan::SkipReason;
use crate::job::reading::{self, Unread, whole};
use crate::job::schedule::{Entry, Then};
use crate::job::{Definition, Number, Occurrence, OccurrenceId, RunId, Schedule, ScheduleId};
use crate::store::{Ledger, ScheduleFilter, Schedules, Tx as _};
use crate::time::Timestamp;

impl Schedules for SqliteTx<'_> {
    fn add_schedule(&mut self, s: &Schedule) -> Result<()> {
        self.execute(
            sql!("schedules_add"),
            params![
                s.id.0.as_bytes().as_slice(),
                s.tenant,
                s.name,
                s.created_at.0,
                s.version,
                s.then.as_ref().map(|t| t.version),
                s.then.as_ref().map(|t| t.from.0),
                s.paused,
                s.recorded_until.0,
                s.tail_from.map(|t| t.0),
                s.next_due_at.map(|t| t.0),
                s.last_due_at.map(|t| t.0),
                s.last_skip_reason.map(SkipReason::as_str),
                s.removed_at.map(|t| t.0),
            ],
        )?;
        self.add_version(s.id, s.version, &s.definition)
    }

    fn add_version(&mut self, schedule: ScheduleId, version: u32, definition: &Definition) -> Result<()> {
        let row = params![schedule.0.as_bytes().as_slice(), version, to_json(definition)?];
        self.execute(sql!("schedules_version"), row)?;
        Ok(())
    }

    fn save_schedules(&mut self, schedules: &[&Schedule]) -> Result<()> {
        for s in schedules {
            self.execute(
                sql!("schedules_save"),
                params![
                    s.id.0.as_bytes().as_slice(),
                    s.version,
                    s.then.as_ref().map(|t| t.version),
                    s.then.as_ref().map(|t| t.from.0),
                    s.paused,
                    s.recorded_until.0,
                    s.tail_from.map(|t| t.0),
                    s.next_due_at.map(|t| t.0),
                    s.last_due_at.map(|t| t.0),
                    s.last_skip_reason.map(SkipReason::as_str),
                    s.removed_at.map(|t| t.0),
                ],
            )?;
        }
        Ok(())
    }

    fn schedule(&mut self, id: ScheduleId) -> Result<Option<Schedule>> {
        self.first(sql!("schedules_by_id"), [id.0.as_bytes().as_slice()], |r| Ok(schedule(r)))?.transpose()
    }

    fn schedule_named(&mut self, tenant: &str, name: &str) -> Result<Option<Schedule>> {
        self.first(sql!("schedules_by_name"), [tenant, name], |r| Ok(schedule(r)))?.transpose()
    }

    fn schedules(&mut self, filter: &ScheduleFilter, limit: usize) -> Result<Vec<Schedule>> {
        let (tenant, name, id) = match &filter.after {
            Some((tenant, name, id)) => (Some(tenant), Some(name), Some(id.0.as_bytes().as_slice())),
            None => (None, None, None),
        };
        let row = params![filter.tenant, filter.removed, tenant, name, id, limit as i64];
        self.all(sql!("schedules_list"), row, |r| Ok(schedule(r)))?.into_iter().collect()
    }

    fn due_schedules(&mut self, limit: usize) -> Result<Vec<Schedule>> {
        let now = self.now().0;
        self.all(sql!("schedules_due"), params![now, limit as i64], |r| Ok(schedule(r)))?.into_iter().collect()
    }

    fn next_schedule(&mut self) -> Result<Option<Timestamp>> {
        Ok(self.first(sql!("schedules_next"), [], |r| time(r, 0))?.flatten())
    }
}

impl Ledger for SqliteTx<'_> {
    fn enter(&mut self, rows: &[&Occurrence]) -> Result<Vec<bool>> {
        let now = self.now().0;
        rows.iter()
            .map(|o| {
                let new = self.execute(
                    sql!("ledger_enter"),
                    params![
                        o.schedule.0.as_bytes().as_slice(),
                        o.due_at.0,
                        o.until.0,
                        o.count as i64,
                        o.id.0.as_bytes().as_slice(),
                        o.state(),
                        o.reason.map(SkipReason::as_str),
                        o.run.as_ref().map(|run| run.0.as_bytes().as_slice()),
                        o.version,
                        o.recovered,
                        o.backfilled,
                        now,
                    ],
                )?;
                Ok(new == 1)
            })
            .collect()
    }

    fn grow(&mut self, entries: &[&Entry]) -> Result<()> {
        for entry in entries {
            let Entry { row, grows: Some(from) } = entry else { continue };
            let id = row.schedule.0.as_bytes().as_slice();
            self.execute(sql!("ledger_grow"), params![id, from.0, row.until.0, row.count as i64])?;
        }
        Ok(())
    }

    fn cut(&mut self, schedule: ScheduleId, due_at: Timestamp) -> Result<()> {
        self.execute(sql!("ledger_cut"), params![schedule.0.as_bytes().as_slice(), due_at.0])?;
        Ok(())
    }

    fn occurrences(
        &mut self,
        schedule: ScheduleId,
        from: Timestamp,
        to: Timestamp,
        limit: usize,
    ) -> Result<Vec<Occurrence>> {
        let row = params![schedule.0.as_bytes().as_slice(), from.0, to.0, limit as i64];
        self.all(sql!("ledger_read"), row, occurrence)
    }

    fn definition(&mut self, schedule: ScheduleId, version: u32) -> Result<Option<Definition>> {
        let row = params![schedule.0.as_bytes().as_slice(), version];
        let text = self.first(sql!("schedules_definition"), row, |r| Ok(r.get_ref(0)?.as_bytes()?.to_vec()))?;
        text.map(|text| whole(&text)).transpose()
    }

    fn made_up(&mut self, schedule: ScheduleId, limit: usize) -> Result<Vec<OccurrenceId>> {
        let row = params![schedule.0.as_bytes().as_slice(), limit as i64];
        self.all(sql!("ledger_made_up"), row, |r| Ok(OccurrenceId(uuid_of(r, 0)?)))
    }

    fn unfinished(&mut self, schedules: &[ScheduleId], most: usize) -> Result<Vec<(ScheduleId, Number)>> {
        let mut found = Vec::new();
        for schedule in schedules {
            let row = params![schedule.0.as_bytes().as_slice(), most as i64];
            let numbers = self.all(sql!("ledger_unfinished"), row, |r| r.get(0))?;
            found.extend(numbers.into_iter().map(|number| (*schedule, number)));
        }
        Ok(found)
    }

    fn unfinished_runs(&mut self, schedules: &[ScheduleId], most: usize) -> Result<Vec<(ScheduleId, RunId, bool)>> {
        let mut found = Vec::new();
        for schedule in schedules {
            let row = params![schedule.0.as_bytes().as_slice(), most as i64];
            found.extend(self.all(sql!("ledger_running"), row, |r| Ok((*schedule, RunId(uuid_of(r, 0)?), r.get(1)?)))?);
        }
        Ok(found)
    }
}

fn schedule(r: &Row) -> Result<Schedule> {
    let text = |index: usize| Ok::<_, rusqlite::Error>(r.get_ref(index)?.as_bytes_or_null()?);
    let (definition, mut unread) = reading::definition(text(4)?.unwrap_or_default());
    let then = match (r.get(5)?, text(6)?, time(r, 7)?) {
        (Some(version), Some(text), Some(from)) => {
            let (definition, of_then) = reading::definition(text);
            unread = Unread::worse(unread, of_then);
            Some(Then { version, definition: Arc::new(definition), from })
        }
        _ => None,
    };
    Ok(Schedule {
        id: ScheduleId(uuid_of(r, 0)?),
        tenant: r.get(1)?,
        name: r.get(2)?,
        version: r.get(3)?,
        definition: Arc::new(definition),
        then,
        paused: r.get(8)?,
        created_at: r.get::<_, Column<Timestamp>>(9)?.0,
        recorded_until: r.get::<_, Column<Timestamp>>(10)?.0,
        tail_from: time(r, 11)?,
        next_due_at: time(r, 12)?,
        last_due_at: time(r, 13)?,
        last_skip_reason: r.get::<_, Option<String>>(14)?.and_then(|word| SkipReason::parse(&word)),
        removed_at: time(r, 15)?,
        unread,
    })
}

fn occurrence(r: &Row) -> rusqlite::Result<Occurrence> {
    let run: Option<Vec<u8>> = r.get(6)?;
    let count: i64 = r.get(3)?;
    Ok(Occurrence {
        schedule: ScheduleId(uuid_of(r, 0)?),
        due_at: r.get::<_, Column<Timestamp>>(1)?.0,
        until: r.get::<_, Column<Timestamp>>(2)?.0,
        count: count.unsigned_abs(),
        id: OccurrenceId(uuid_of(r, 4)?),
        reason: r.get::<_, Option<Column<SkipReason>>>(5)?.map(|c| c.0),
        run: run.and_then(|bytes| Uuid::from_slice(&bytes).ok()).map(RunId),
        version: r.get(7)?,
        recovered: r.get(8)?,
        backfilled: r.get(9)?,
    })
}
