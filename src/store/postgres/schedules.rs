//! Schedules and their ledger. The row of a schedule is the lock on everything about it.

use std::collections::HashSet;
use std::sync::Arc;

use tokio_postgres::Row;
use uuid::Uuid;

use super::conn::{Call, Param, values};
use super::sql;
use super::tx::{PgTx, get, int, maybe_natural, natural, text, time, to_json, word};
use crate::error::Result;
use crate::job::plan::SkipReason;
use crate::job::reading::{self, Unread, whole};
use crate::job::schedule::{Entry, Then};
use crate::job::{Definition, Number, Occurrence, OccurrenceId, RunId, Schedule, ScheduleId};
use crate::store::{Ledger, ScheduleFilter, Schedules, Tx as _};
use crate::time::Timestamp;

impl Schedules for PgTx<'_> {
    fn add_schedule(&mut self, s: &Schedule) -> Result<()> {
        let row = values![
            s.id.0,
            s.tenant.clone(),
            s.name.clone(),
            s.created_at.0,
            int(s.version),
            s.then.as_ref().map(|t| int(t.version)),
            s.then.as_ref().map(|t| t.from.0),
            s.paused,
            s.recorded_until.0,
            ms(s.tail_from),
            ms(s.next_due_at),
            ms(s.last_due_at),
            s.last_skip_reason.map(SkipReason::as_str),
            ms(s.removed_at),
        ];
        self.rows(sql!("schedules_add"), row)?;
        self.add_version(s.id, s.version, &s.definition)
    }

    fn add_version(&mut self, schedule: ScheduleId, version: u32, definition: &Definition) -> Result<()> {
        let row = values![schedule.0, int(version), text(&to_json(definition)?)];
        self.rows(sql!("schedules_version"), row)?;
        Ok(())
    }

    fn save_schedules(&mut self, schedules: &[&Schedule]) -> Result<()> {
        fn column<T>(schedules: &[&Schedule], value: impl Fn(&Schedule) -> T) -> Vec<T> {
            schedules.iter().map(|s| value(s)).collect()
        }
        let columns = values![
            column(schedules, |s| s.id.0),
            column(schedules, |s| int(s.version)),
            column(schedules, |s| s.then.as_ref().map(|t| int(t.version))),
            column(schedules, |s| s.then.as_ref().map(|t| t.from.0)),
            column(schedules, |s| s.paused),
            column(schedules, |s| s.recorded_until.0),
            column(schedules, |s| ms(s.tail_from)),
            column(schedules, |s| ms(s.next_due_at)),
            column(schedules, |s| ms(s.last_due_at)),
            column(schedules, |s| s.last_skip_reason.map(SkipReason::as_str)),
            column(schedules, |s| ms(s.removed_at)),
        ];
        self.rows(sql!("schedules_save"), columns)?;
        Ok(())
    }

    fn schedule(&mut self, id: ScheduleId) -> Result<Option<Schedule>> {
        Ok(self.schedules_of(vec![id.0])?.pop())
    }

    fn schedule_named(&mut self, tenant: &str, name: &str) -> Result<Option<Schedule>> {
        self.one_at_a_time("schedule", tenant, name)?;
        let ids: Vec<Uuid> = self.column(sql!("schedules_by_name"), values![tenant.to_owned(), name.to_owned()])?;
        Ok(self.schedules_of(ids)?.pop())
    }

    fn schedules(&mut self, filter: &ScheduleFilter, limit: usize) -> Result<Vec<Schedule>> {
        let (tenant, name, id) = match filter.after.clone() {
            Some((tenant, name, id)) => (Some(tenant), Some(name), Some(id.0)),
            None => (None, None, None),
        };
        let row = values![filter.tenant.clone(), filter.removed, tenant, name, id, limit as i64];
        self.rows(sql!("schedules_list"), row)?.iter().map(schedule).collect()
    }

    fn due_schedules(&mut self, limit: usize) -> Result<Vec<Schedule>> {
        let ids: Vec<Uuid> = self.column(sql!("schedules_due_lock"), values![self.now().0, limit as i64])?;
        match ids.is_empty() {
            true => Ok(Vec::new()),
            // Under their locks, as they are now.
            false => self.rows(sql!("schedules_by_id"), values![ids])?.iter().map(schedule).collect(),
        }
    }

    fn next_schedule(&mut self) -> Result<Option<Timestamp>> {
        let next: Vec<Option<i64>> = self.column(sql!("schedules_next"), values![])?;
        Ok(next.into_iter().flatten().next().map(Timestamp))
    }
}

impl PgTx<'_> {
    /// The schedules of `ids`, locked in that order where something is to be written.
    fn schedules_of(&mut self, ids: Vec<Uuid>) -> Result<Vec<Schedule>> {
        let mut calls = vec![Call::new(sql!("schedules_by_id"), values![ids.clone()])];
        if self.writes() {
            calls.insert(0, Call::new(sql!("schedules_lock"), values![ids]));
        }
        self.run(&calls)?.pop().unwrap_or_default().iter().map(schedule).collect()
    }
}

impl Ledger for PgTx<'_> {
    fn enter(&mut self, rows: &[&Occurrence]) -> Result<Vec<bool>> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let mut columns = columns_of(rows);
        columns.push(Box::new(self.now().0));
        let new: HashSet<Uuid> = self.column(sql!("ledger_enter"), columns)?.into_iter().collect();
        Ok(rows.iter().map(|o| new.contains(&o.id.0)).collect())
    }

    fn grow(&mut self, entries: &[&Entry]) -> Result<()> {
        let grown: Vec<(&Occurrence, i64)> = entries.iter().filter_map(|e| Some((&e.row, e.grows?.0))).collect();
        if grown.is_empty() {
            return Ok(());
        }
        let columns = values![
            grown.iter().map(|(o, _)| o.schedule.0).collect::<Vec<Uuid>>(),
            grown.iter().map(|(_, from)| *from).collect::<Vec<i64>>(),
            grown.iter().map(|(o, _)| o.until.0).collect::<Vec<i64>>(),
            grown.iter().map(|(o, _)| o.count as i64).collect::<Vec<i64>>(),
        ];
        self.rows(sql!("ledger_grow"), columns)?;
        Ok(())
    }

    fn cut(&mut self, schedule: ScheduleId, due_at: Timestamp) -> Result<()> {
        self.rows(sql!("ledger_cut"), values![schedule.0, due_at.0])?;
        Ok(())
    }

    fn occurrences(
        &mut self,
        schedule: ScheduleId,
        from: Timestamp,
        to: Timestamp,
        limit: usize,
    ) -> Result<Vec<Occurrence>> {
        let row = values![schedule.0, from.0, to.0, limit as i64];
        self.rows(sql!("ledger_read"), row)?.iter().map(occurrence).collect()
    }

    fn definition(&mut self, schedule: ScheduleId, version: u32) -> Result<Option<Definition>> {
        let found: Vec<String> = self.column(sql!("schedules_definition"), values![schedule.0, int(version)])?;
        found.first().map(|text| whole(text.as_bytes())).transpose()
    }

    fn made_up(&mut self, schedule: ScheduleId, limit: usize) -> Result<Vec<OccurrenceId>> {
        let found: Vec<Uuid> = self.column(sql!("ledger_made_up"), values![schedule.0, limit as i64])?;
        Ok(found.into_iter().map(OccurrenceId).collect())
    }

    fn unfinished(&mut self, schedules: &[ScheduleId], most: usize) -> Result<Vec<(ScheduleId, Number)>> {
        if schedules.is_empty() {
            return Ok(Vec::new());
        }
        self.flush()?;
        let ids: Vec<Uuid> = schedules.iter().map(|s| s.0).collect();
        let rows = self.rows(sql!("ledger_unfinished"), values![ids, most as i64])?;
        rows.iter().map(|row| Ok((ScheduleId(get(row, 0)?), get(row, 1)?))).collect()
    }

    fn unfinished_runs(&mut self, schedules: &[ScheduleId], most: usize) -> Result<Vec<(ScheduleId, RunId, bool)>> {
        if schedules.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<Uuid> = schedules.iter().map(|s| s.0).collect();
        let rows = self.rows(sql!("ledger_running"), values![ids, most as i64])?;
        rows.iter().map(|row| Ok((ScheduleId(get(row, 0)?), RunId(get(row, 1)?), get(row, 2)?))).collect()
    }
}

fn ms(at: Option<Timestamp>) -> Option<i64> {
    at.map(|t| t.0)
}

fn columns_of(rows: &[&Occurrence]) -> Vec<Param> {
    fn column<T>(rows: &[&Occurrence], value: impl Fn(&Occurrence) -> T) -> Vec<T> {
        rows.iter().map(|o| value(o)).collect()
    }
    values![
        column(rows, |o| o.schedule.0),
        column(rows, |o| o.due_at.0),
        column(rows, |o| o.until.0),
        column(rows, |o| o.count as i64),
        column(rows, |o| o.id.0),
        column(rows, |o| o.state()),
        column(rows, |o| o.reason.map(SkipReason::as_str)),
        column(rows, |o| o.run.map(|run| run.0)),
        column(rows, |o| int(o.version)),
        column(rows, |o| o.recovered),
        column(rows, |o| o.backfilled),
    ]
}

fn schedule(row: &Row) -> Result<Schedule> {
    let (definition, mut unread) = reading::definition(get::<String>(row, 4)?.as_bytes());
    let then = match (maybe_natural(row, 5)?, get::<Option<String>>(row, 6)?, time(row, 7)?) {
        (Some(version), Some(text), Some(from)) => {
            let (definition, of_then) = reading::definition(text.as_bytes());
            unread = Unread::worse(unread, of_then);
            Some(Then { version, definition: Arc::new(definition), from })
        }
        _ => None,
    };
    Ok(Schedule {
        id: ScheduleId(get(row, 0)?),
        tenant: get(row, 1)?,
        name: get(row, 2)?,
        version: natural(row, 3)?,
        definition: Arc::new(definition),
        then,
        paused: get(row, 8)?,
        created_at: Timestamp(get(row, 9)?),
        recorded_until: Timestamp(get(row, 10)?),
        tail_from: time(row, 11)?,
        next_due_at: time(row, 12)?,
        last_due_at: time(row, 13)?,
        last_skip_reason: get::<Option<String>>(row, 14)?.and_then(|word| SkipReason::parse(&word)),
        removed_at: time(row, 15)?,
        unread,
    })
}

fn occurrence(row: &Row) -> Result<Occurrence> {
    Ok(Occurrence {
        schedule: ScheduleId(get(row, 0)?),
        due_at: Timestamp(get(row, 1)?),
        until: Timestamp(get(row, 2)?),
        count: get::<i64>(row, 3)?.unsigned_abs(),
        id: OccurrenceId(get(row, 4)?),
        reason: reason(row, 5)?,
        run: get::<Option<Uuid>>(row, 6)?.map(RunId),
        version: natural(row, 7)?,
        recovered: get(row, 8)?,
        backfilled: get(row, 9)?,
    })
}

fn reason(row: &Row, index: usize) -> Result<Option<SkipReason>> {
    get::<Option<String>>(row, index)?.map(|text| word(&text, SkipReason::parse)).transpose()
}
