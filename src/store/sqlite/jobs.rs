//! Jobs: rows and their lives.

use std::collections::HashSet;
use std::sync::Arc;

use rusqlite::types::ToSqlOutput;
use rusqlite::{Row, ToSql, params};

use super::sql;
use super::tx::{self, Column, SqliteTx, time, to_json};
use super::wide::{self, both, maybe};
use crate::error::{Error, Kind, Result};
use crate::job::reading::{Texts, Unread};
use crate::job::{Captured, JobId, Life, Number, Record, Selector, State};
use crate::store::{Change, Filter, Jobs, NewJob, Tx as _};
use crate::time::Timestamp;

impl Jobs for SqliteTx<'_> {
    fn insert(&mut self, jobs: &[NewJob]) -> Result<Vec<Option<Number>>> {
        let mut numbers = Vec::with_capacity(jobs.len());
        for some in jobs.chunks(wide::ROWS) {
            numbers.extend(self.insert_some(some)?);
        }
        Ok(numbers)
    }

    fn stored(&mut self, ids: &[JobId]) -> Result<Vec<JobId>> {
        let mut stored = Vec::new();
        for id in ids {
            stored.extend(self.find(&Selector::Id(*id), 1)?.first().map(|_| *id));
        }
        Ok(stored)
    }

    fn load(&mut self, numbers: &[Number]) -> Result<Vec<Record>> {
        let mut records = Vec::with_capacity(numbers.len());
        for number in numbers {
            if let Some(raw) = self.first(sql!("jobs_load"), [number], Raw::read)? {
                records.push(raw.record());
            }
        }
        Ok(records)
    }

    fn note_unreadable(&mut self, numbers: &[Number]) -> Result<()> {
        numbers.iter().try_for_each(|number| self.execute(sql!("unreadable_note"), [number]).map(|_| ()))
    }

    fn noted_unreadable(&mut self, limit: usize) -> Result<Vec<Number>> {
        self.all(sql!("unreadable_list"), [limit as i64], number)
    }

    fn forget_unreadable(&mut self, numbers: &[Number]) -> Result<()> {
        numbers.iter().try_for_each(|number| self.execute(sql!("unreadable_forget"), [number]).map(|_| ()))
    }

    fn save(&mut self, changes: &[Change]) -> Result<()> {
        let last_seq = self.last_seq;
        for Change { number, lane, from, life } in changes {
            let changed = self.execute(
                sql!("jobs_save"),
                params![
                    number,
                    life.state.as_str(),
                    life.attempt,
                    life.generation,
                    life.failures,
                    life.losses,
                    life.interruptions,
                    life.streak,
                    life.unstarted,
                    life.unstarted_alone,
                    life.waiting,
                    life.due_at.map(|t| t.0),
                    life.deadline_at.map(|t| t.0),
                    life.reason,
                    life.finished_at.map(|t| t.0),
                    life.cancel_requested_at.map(|t| t.0),
                    from.as_str(),
                    last_seq,
                ],
            )?;
            if changed != 1 {
                return Err(Error::new(Kind::Corrupt, format!("job {number} is not {from}")));
            }
            if *from != life.state {
                self.counts.count(*lane, Some(*from), life.state);
            }
        }
        Ok(())
    }

    fn find(&mut self, selector: &Selector, limit: usize) -> Result<Vec<Number>> {
        let limit = limit as i64;
        match selector {
            Selector::Number(n) => self.all(sql!("jobs_by_number"), params![n, n, limit], number),
            Selector::Range(from, to) => self.all(sql!("jobs_by_number"), params![from, to, limit], number),
            Selector::Id(id) => {
                let bytes = id.0.as_bytes().as_slice();
                self.all(sql!("jobs_by_id"), params![bytes, bytes, limit], number)
            }
            Selector::Prefix(hex) => {
                let end = |fill| {
                    let digits: String = hex.chars().chain(std::iter::repeat(fill)).take(32).collect();
                    u128::from_str_radix(&digits, 16).map(u128::to_be_bytes)
                };
                let bad = |_| Error::usage(format!("{hex:?} is not the start of an id"));
                let (low, high) = (end('0').map_err(bad)?, end('f').map_err(bad)?);
                self.all(sql!("jobs_by_id"), params![low.as_slice(), high.as_slice(), limit], number)
            }
            Selector::Last => self.all(sql!("jobs_last"), [], number),
            Selector::Label(key, value) => self.all(sql!("jobs_by_label"), params![key, value, limit], number),
        }
    }

    fn list(&mut self, filter: &Filter, before: Option<Number>, limit: usize) -> Result<Vec<Number>> {
        let mut parts = vec!["number < ?".to_owned()];
        let mut values: Vec<Box<dyn ToSql>> = vec![Box::new(before.unwrap_or(Number::MAX))];
        if let Some(states) = states_fragment(&filter.states) {
            parts.push(states);
        }
        let lane = [("queue", &filter.queue), ("tenant", &filter.tenant)];
        for (column, value) in lane {
            if let Some(value) = value {
                parts.push(format!("lane IN (SELECT id FROM lanes WHERE {column} = ?)"));
                values.push(Box::new(value.clone()));
            }
        }
        if let Some(name) = &filter.name {
            parts.push("number IN (SELECT number FROM job_specs WHERE name = ?)".into());
            values.push(Box::new(name.clone()));
        }
        for (key, value) in &filter.labels {
            parts.push("number IN (SELECT number FROM job_labels WHERE key = ? AND value = ?)".into());
            values.push(Box::new(key.clone()));
            values.push(Box::new(value.clone()));
        }
        if let Some(since) = filter.since {
            parts.push("created_at >= ?".into());
            values.push(Box::new(since.0));
        }
        values.push(Box::new(limit as i64));
        let sql = format!("SELECT number FROM jobs WHERE {} ORDER BY number DESC LIMIT ?", parts.join(" AND "));
        self.all(&sql, rusqlite::params_from_iter(values), number)
    }

    fn due(&mut self, limit: usize) -> Result<Vec<Number>> {
        let now = self.now().0;
        self.all(sql!("jobs_due"), params![now, limit as i64], number)
    }

    fn overdue(&mut self, limit: usize) -> Result<Vec<Number>> {
        let now = self.now().0;
        self.all(sql!("jobs_overdue"), params![now, limit as i64], number)
    }

    fn next_timer(&mut self) -> Result<Option<Timestamp>> {
        let both = self.first(sql!("jobs_next_timer"), [], |r| Ok([time(r, 0)?, time(r, 1)?]))?;
        Ok(both.into_iter().flatten().flatten().min())
    }
}

/// A condition on states in the words of the partial indexes, so that rare states are found without a scan.
fn states_fragment(states: &[State]) -> Option<String> {
    let rare = |s: &State| matches!(s, State::Blocked | State::Failed | State::Cancelled | State::Skipped);
    let list = states.iter().map(|s| format!("'{s}'")).collect::<Vec<_>>().join(",");
    match states {
        [] => None,
        [State::Running] => Some("number IN (SELECT number FROM leases)".into()),
        [one] if !rare(one) => Some(format!("state = '{one}'")),
        some if some.iter().all(rare) => Some(format!(
            "(state = 'blocked' OR state = 'failed' OR state = 'cancelled' OR state = 'skipped') AND state IN ({list})"
        )),
        _ => Some(format!("state IN ({list})")),
    }
}

impl SqliteTx<'_> {
    /// As many as one statement takes.
    fn insert_some(&mut self, jobs: &[NewJob]) -> Result<Vec<Option<Number>>> {
        let last: Option<Number> = self.first(sql!("jobs_last"), [], number)?;
        let rows: Vec<_> = jobs.iter().map(|job| self.row(job)).collect();
        let inserted = self.insert_rows(&both!(sql!("jobs_insert")), &rows)?;
        let numbers: Vec<Option<Number>> = match inserted == jobs.len() {
            // One after the other.
            true => {
                (1..).take(inserted).map(|n| Some(self.queue.last_insert_rowid() - (inserted as Number) + n)).collect()
            }
            false => self.inserted(jobs, last.unwrap_or_default())?,
        };
        let new: Vec<(Number, &NewJob)> = numbers.iter().zip(jobs).filter_map(|(n, job)| Some(((*n)?, job))).collect();
        self.insert_rest(&new)?;
        Ok(numbers)
    }

    /// The numbers of those jobs that are not older than `last`, and none of an id that comes a second time.
    fn inserted(&mut self, jobs: &[NewJob], last: Number) -> Result<Vec<Option<Number>>> {
        let mut seen = HashSet::new();
        let mut find = |job: &NewJob| {
            let found = self.find(&Selector::Id(job.id), 1)?.pop();
            Ok(found.filter(|n| *n > last && seen.insert(*n)))
        };
        jobs.iter().map(&mut find).collect()
    }

    fn row<'a>(&self, job: &'a NewJob) -> [ToSqlOutput<'a>; 11] {
        let (life, spec) = (job.life, job.spec);
        [
            job.id.0.as_bytes().as_slice().into(),
            job.lane.into(),
            life.state.as_str().into(),
            spec.priority().into(),
            self.now().0.into(),
            life.waiting.into(),
            maybe(life.due_at.map(|t| t.0)),
            maybe(life.deadline_at.map(|t| t.0)),
            maybe(life.finished_at.map(|t| t.0)),
            maybe(life.reason.as_deref()),
            maybe(job.is_run_of.as_ref().map(|id| id.0.as_bytes().as_slice())),
        ]
    }

    /// What of new jobs is not in their rows.
    fn insert_rest(&mut self, jobs: &[(Number, &NewJob)]) -> Result<()> {
        for (number, job) in jobs {
            let captured = self.captured_json(job.captured)?;
            let origin = (!job.origin.is_none()).then(|| to_json(job.origin)).transpose()?;
            let spec = to_json(job.spec)?;
            self.execute(sql!("specs_insert"), params![number, job.spec.name, spec, captured, origin])?;
            for (key, value) in &job.spec.label {
                self.execute(sql!("labels_insert"), params![key, value, number])?;
            }
            self.counts.count(job.lane, None, job.life.state);
        }
        Ok(())
    }

    /// The text of what surrounds a job; made once for jobs that share it.
    fn captured_json(&mut self, captured: &Arc<Captured>) -> Result<Option<Arc<str>>> {
        if let Some((last, text)) = &self.captured
            && Arc::ptr_eq(last, captured)
        {
            return Ok(text.clone());
        }
        let text = match **captured == Captured::default() {
            true => None,
            false => Some(Arc::from(to_json(&**captured)?)),
        };
        self.captured = Some((Arc::clone(captured), text.clone()));
        Ok(text)
    }
}

fn number(row: &Row) -> rusqlite::Result<Number> {
    row.get(0)
}

/// A row before its texts are read.
struct Raw {
    number: Number,
    id: JobId,
    lane: i64,
    queue: String,
    tenant: String,
    created_at: Timestamp,
    spec: Option<Vec<u8>>,
    captured: Option<Vec<u8>>,
    life: Life,
    origin: Option<Vec<u8>>,
    /// A column that has what it can never have.
    odd: Option<&'static str>,
}

impl Raw {
    fn read(r: &Row) -> rusqlite::Result<Raw> {
        let mut odd = None;
        let mut count = |index: usize, name: &'static str| {
            let count: i64 = r.get(index)?;
            let fits = u32::try_from(count).ok().filter(|n| i32::try_from(*n).is_ok());
            odd = odd.or(fits.is_none().then_some(name));
            Ok::<u32, rusqlite::Error>(fits.unwrap_or_default())
        };
        let text = |index: usize| Ok::<_, rusqlite::Error>(r.get_ref(index)?.as_bytes_or_null()?.map(<[u8]>::to_vec));
        Ok(Raw {
            number: r.get(0)?,
            id: r.get::<_, Column<JobId>>(1)?.0,
            lane: r.get(2)?,
            queue: r.get(3)?,
            tenant: r.get(4)?,
            created_at: r.get::<_, Column<Timestamp>>(5)?.0,
            spec: text(6)?,
            captured: text(7)?,
            life: Life {
                state: r.get::<_, Column<State>>(8)?.0,
                attempt: count(9, "attempt")?,
                generation: count(10, "generation")?,
                failures: count(11, "failures")?,
                losses: count(12, "losses")?,
                interruptions: count(13, "interruptions")?,
                streak: count(14, "streak")?,
                unstarted: count(15, "unstarted")?,
                unstarted_alone: count(16, "unstarted_alone")?,
                waiting: count(17, "waiting")?,
                due_at: time(r, 18)?,
                deadline_at: time(r, 19)?,
                reason: tx::text(r, 20)?,
                finished_at: time(r, 21)?,
                cancel_requested_at: time(r, 22)?,
            },
            origin: text(23)?,
            odd,
        })
    }

    fn record(self) -> Record {
        let texts = Texts::read(self.spec.as_deref(), self.captured.as_deref(), self.origin.as_deref());
        let odd = self.odd.map(|column| Unread::unreadable(format!("{column}: it is no count")));
        Record {
            number: self.number,
            id: self.id,
            lane: self.lane,
            queue: self.queue,
            tenant: self.tenant,
            life: self.life,
            spec: texts.spec,
            captured: texts.captured,
            origin: texts.origin,
            created_at: self.created_at,
            unread: Unread::worse(texts.unread, odd),
        }
    }
}
