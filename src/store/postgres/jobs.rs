//! Jobs: rows and their lives. A writing transaction locks the jobs it loads, in the order of their numbers: the row of a
//! job is the lock on everything about it.

use std::collections::HashSet;
use std::sync::Arc;

use tokio_postgres::Row;
use uuid::Uuid;

use super::conn::{Call, Param, values};
use super::leases::lease;
use super::sql;
use super::tx::{PgTx, damaged, get, int, text, time, to_json};
use crate::error::{Error, Result};
use crate::job::reading::{Texts, Unread};
use crate::job::{Captured, JobId, Life, Number, Record, Selector, State};
use crate::store::{Change, Filter, Jobs, NewJob, Tx as _};
use crate::time::Timestamp;

impl Jobs for PgTx<'_> {
    fn insert(&mut self, jobs: &[NewJob]) -> Result<Vec<Option<Number>>> {
        if jobs.is_empty() {
            return Ok(Vec::new());
        }
        let columns = rows_of(jobs, self.now())?;
        let rows = self.rows(sql!("jobs_insert"), columns)?;
        let row = rows.first().ok_or_else(damaged)?;
        let (numbers, stored): (Vec<Number>, Vec<Number>) = (get(row, 0)?, get(row, 1)?);
        let stored: HashSet<Number> = stored.into_iter().collect();
        let unused: Vec<Number> = numbers.iter().copied().filter(|number| !stored.contains(number)).collect();
        if !unused.is_empty() {
            let call = |sql| Call::new(sql, values![unused.clone()]);
            self.run(&[call(sql!("prune_job_specs")), call(sql!("prune_job_labels"))])?;
        }
        let new = jobs.iter().zip(&numbers).filter(|(_, number)| stored.contains(number));
        self.foreseen.forget();
        for (job, _) in new {
            self.buffer.counts.count(job.lane, None, job.life.state);
            self.buffer.mark_awake(job.lane, job.life.state);
        }
        Ok(numbers.into_iter().map(|number| stored.contains(&number).then_some(number)).collect())
    }

    fn stored(&mut self, ids: &[JobId]) -> Result<Vec<JobId>> {
        let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
        Ok(self.column(sql!("jobs_stored"), values![ids])?.into_iter().map(JobId).collect())
    }

    fn load(&mut self, numbers: &[Number]) -> Result<Vec<Record>> {
        if numbers.is_empty() {
            return Ok(Vec::new());
        }
        let is_known = |n: &Number| self.locked.contains_key(n) && !self.buffer.has_saved(*n);
        if !numbers.iter().all(is_known) {
            self.lock_and_read(numbers)?;
        }
        Ok(numbers.iter().filter_map(|n| self.locked.remove(n)).collect())
    }

    fn lock_free(&mut self, numbers: &[Number]) -> Result<Vec<Number>> {
        self.read_one(sql!("jobs_lock_free"), values![numbers.to_vec()])?.iter().map(|row| get(row, 0)).collect()
    }

    fn note_unreadable(&mut self, numbers: &[Number]) -> Result<()> {
        self.rows(sql!("unreadable_note"), values![numbers.to_vec()]).map(|_| ())
    }

    fn noted_unreadable(&mut self, limit: usize) -> Result<Vec<Number>> {
        self.column(sql!("unreadable_list"), values![limit as i64])
    }

    fn forget_unreadable(&mut self, numbers: &[Number]) -> Result<()> {
        self.rows(sql!("unreadable_forget"), values![numbers.to_vec()]).map(|_| ())
    }

    fn save(&mut self, changes: &[Change]) -> Result<()> {
        for change in changes {
            if self.buffer.has_saved(change.number) {
                self.flush()?;
            }
            self.locked.remove(&change.number);
            self.foreseen.note(change, self.now());
            self.buffer.save(change);
        }
        Ok(())
    }

    fn find(&mut self, selector: &Selector, limit: usize) -> Result<Vec<Number>> {
        let limit = limit as i64;
        match selector {
            Selector::Number(n) => self.column(sql!("jobs_by_number"), values![*n, *n, limit]),
            Selector::Range(from, to) => self.column(sql!("jobs_by_number"), values![*from, *to, limit]),
            Selector::Id(id) => self.column(sql!("jobs_by_id"), values![id.0, id.0, limit]),
            Selector::Prefix(hex) => {
                let end = |fill| {
                    let digits: String = hex.chars().chain(std::iter::repeat(fill)).take(32).collect();
                    u128::from_str_radix(&digits, 16).map(Uuid::from_u128)
                };
                let bad = |_| Error::usage(format!("{hex:?} is not the start of an id"));
                let (low, high) = (end('0').map_err(bad)?, end('f').map_err(bad)?);
                self.column(sql!("jobs_by_id"), values![low, high, limit])
            }
            Selector::Last => self.column(sql!("jobs_last"), values![]),
            Selector::Label(key, value) => {
                self.column(sql!("jobs_by_label"), values![key.clone(), value.clone(), limit])
            }
        }
    }

    fn list(&mut self, filter: &Filter, before: Option<Number>, limit: usize) -> Result<Vec<Number>> {
        self.flush()?;
        let mut parts = vec!["number < $1".to_owned()];
        let mut params: Vec<Param> = values![before.unwrap_or(Number::MAX)];
        let mut add = |part: String, value: Param| {
            params.push(value);
            parts.push(part.replace('?', &format!("${}", params.len())));
        };
        for (column, value) in [("queue", &filter.queue), ("tenant", &filter.tenant)] {
            if let Some(value) = value {
                add(format!("lane IN (SELECT id FROM lanes WHERE {column} = ?)"), Box::new(value.clone()));
            }
        }
        if let Some(name) = &filter.name {
            add("number IN (SELECT number FROM job_specs WHERE name = ?)".into(), Box::new(name.clone()));
        }
        for (key, value) in &filter.labels {
            add("number IN (SELECT number FROM job_labels WHERE key = ?".into(), Box::new(key.clone()));
            add("value = ?)".into(), Box::new(value.clone()));
        }
        if let Some(since) = filter.since {
            add("created_at >= ?".into(), Box::new(since.0));
        }
        add("?".into(), Box::new(limit as i64));
        let place = parts.pop().unwrap_or_default();
        parts.extend(states_fragment(&filter.states));
        let sql = format!("SELECT number FROM jobs WHERE {} ORDER BY number DESC LIMIT {place}", parts.join(" AND "));
        self.query(&sql, &params)?.iter().map(|row| get(row, 0)).collect()
    }

    fn due(&mut self, limit: usize) -> Result<Vec<Number>> {
        if self.foreseen.is_quiet(self.now()) {
            return Ok(Vec::new());
        }
        let both = match self.writes() {
            true => [sql!("jobs_due_lock"), sql!("jobs_overdue_lock")],
            false => [sql!("jobs_due"), sql!("jobs_overdue")],
        };
        let now = self.now().0;
        let calls = both.map(|sql| Call::new(sql, values![now, limit as i64]));
        let answers = self.read(calls.into())?;
        let numbers = |rows: &Vec<Row>| rows.iter().map(|row| get(row, 0)).collect::<Result<Vec<Number>>>();
        let [due, overdue] = answers.as_slice() else { return Ok(Vec::new()) };
        // Whoever asks for the one asks for the other next.
        self.overdue = Some(numbers(overdue)?);
        numbers(due)
    }

    fn overdue(&mut self, limit: usize) -> Result<Vec<Number>> {
        if let Some(found) = self.overdue.take() {
            return Ok(found);
        }
        if self.foreseen.is_quiet(self.now()) {
            return Ok(Vec::new());
        }
        let sql = if self.writes() { sql!("jobs_overdue_lock") } else { sql!("jobs_overdue") };
        let now = self.now().0;
        self.read_one(sql, values![now, limit as i64])?.iter().map(|row| get(row, 0)).collect()
    }

    fn next_timer(&mut self) -> Result<Option<Timestamp>> {
        if let Some(timer) = self.foreseen.next_timer() {
            return Ok(timer);
        }
        let rows = self.read_one(sql!("jobs_next_timer"), values![])?;
        let Some(row) = rows.first() else { return Ok(None) };
        Ok([time(row, 0)?, time(row, 1)?].into_iter().flatten().min())
    }
}

impl PgTx<'_> {
    /// Reads jobs to be given away; a writing transaction locks them first.
    fn lock_and_read(&mut self, numbers: &[Number]) -> Result<()> {
        if self.writes() {
            return self.hold(numbers);
        }
        let rows = self.read_one(sql!("jobs_load"), values![numbers.to_vec()])?;
        self.keep_locked(&rows).map(|_| ())
    }

    /// Locks jobs, and reads them with their leases.
    pub(super) fn hold(&mut self, numbers: &[Number]) -> Result<()> {
        if numbers.is_empty() {
            return Ok(());
        }
        // Each statement sees what was committed before it: the rows as they are under the lock.
        let calls = [sql!("jobs_lock"), sql!("jobs_hold")].map(|sql| Call::new(sql, values![numbers.to_vec()]));
        let rows = self.read(calls.into())?.pop().unwrap_or_default();
        self.keep_held(numbers, &rows)
    }

    /// Keeps what was read of locked jobs.
    pub(super) fn keep_held(&mut self, numbers: &[Number], rows: &[Row]) -> Result<()> {
        self.keep_locked(rows)?;
        self.leases.extend(numbers.iter().map(|number| (*number, None)));
        for row in rows {
            let number: Number = get(row, 0)?;
            if !get::<bool>(row, 24)? {
                self.unneeded.insert(number);
            }
            if get::<Option<i32>>(row, 25)?.is_some() {
                self.leases.insert(number, Some(lease(number, row, 25)?));
            }
        }
        Ok(())
    }

    /// Keeps rows that are locked for whoever loads them.
    pub(super) fn keep_locked(&mut self, rows: &[Row]) -> Result<Vec<Number>> {
        let mut numbers = Vec::with_capacity(rows.len());
        for row in rows {
            let job = record(row)?;
            numbers.push(job.number);
            self.locked.insert(job.number, job);
        }
        Ok(numbers)
    }
}

/// The columns of new jobs, what they are to do, and their labels.
fn rows_of(jobs: &[NewJob], now: Timestamp) -> Result<Vec<Param>> {
    fn column<T>(jobs: &[NewJob], value: impl Fn(&NewJob) -> T) -> Vec<T> {
        jobs.iter().map(value).collect()
    }
    let ms = |t: Option<Timestamp>| t.map(|t| t.0);
    let (mut specs, mut captured, mut origins) = (Vec::new(), Vec::new(), Vec::new());
    let (mut keys, mut words, mut places) = (Vec::new(), Vec::new(), Vec::new());
    let mut last: Option<(&Arc<Captured>, Option<String>)> = None;
    for (place, job) in (1i32..).zip(jobs) {
        specs.push(text(&to_json(job.spec)?));
        let around = match last.take() {
            Some((same, json)) if Arc::ptr_eq(same, job.captured) => json,
            _ if **job.captured == Captured::default() => None,
            _ => Some(to_json(&**job.captured)?),
        };
        captured.push(around.clone());
        origins.push((!job.origin.is_none()).then(|| to_json(job.origin)).transpose()?);
        last = Some((job.captured, around));
        for (key, value) in &job.spec.label {
            keys.push(key.clone());
            words.push(value.clone());
            places.push(place);
        }
    }
    Ok(values![
        now.0,
        column(jobs, |j| j.id.0),
        column(jobs, |j| j.lane),
        column(jobs, |j| j.life.state.as_str()),
        column(jobs, |j| j.spec.priority()),
        column(jobs, |j| int(j.life.waiting)),
        column(jobs, |j| ms(j.life.due_at)),
        column(jobs, |j| ms(j.life.deadline_at)),
        column(jobs, |j| ms(j.life.finished_at)),
        column(jobs, |j| j.life.reason.as_deref().map(text)),
        column(jobs, |j| j.is_run_of.map(|id| id.0)),
        column(jobs, |j| j.spec.name.clone()),
        specs,
        captured,
        origins,
        keys,
        words,
        places,
    ])
}

/// A condition on states in the words of the partial indexes, so that rare states are found without a scan.
fn states_fragment(states: &[State]) -> Option<String> {
    let rare = |s: &State| matches!(s, State::Blocked | State::Failed | State::Cancelled | State::Skipped);
    let list = states.iter().map(|s| format!("'{s}'")).collect::<Vec<_>>().join(",");
    match states {
        [] => None,
        [State::Running] => Some("number IN (SELECT number FROM leases)".into()),
        [one] if !rare(one) => Some(format!("state = '{one}'")),
        some if some.iter().all(rare) => {
            Some(format!("state IN ('blocked','failed','cancelled','skipped') AND state IN ({list})"))
        }
        _ => Some(format!("state IN ({list})")),
    }
}

fn record(r: &Row) -> Result<Record> {
    let text = |index: usize| r.try_get::<_, Option<&str>>(index).map_err(|e| damaged().source(e));
    let bytes = |index| text(index).map(|text| text.map(str::as_bytes));
    let texts = Texts::read(bytes(6)?, bytes(7)?, bytes(23)?);
    let mut odd = None;
    let mut count = |index, name: &str| {
        let fits = u32::try_from(get::<i32>(r, index)?);
        if fits.is_err() {
            odd = Some(Unread::unreadable(format!("{name}: it is no count")));
        }
        Ok::<u32, Error>(fits.unwrap_or_default())
    };
    let state = text(8)?.unwrap_or_default();
    let life = Life {
        // What is in a state that is not known here is left alone, as what has ended is.
        state: State::parse(state).unwrap_or(State::Failed),
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
        reason: get(r, 20)?,
        finished_at: time(r, 21)?,
        cancel_requested_at: time(r, 22)?,
    };
    let of_state = State::parse(state).is_none().then(|| Unread::newer(format!("state: {state:?} is not known here")));
    Ok(Record {
        number: get(r, 0)?,
        id: JobId(get(r, 1)?),
        lane: get(r, 2)?,
        queue: get(r, 3)?,
        tenant: get(r, 4)?,
        created_at: Timestamp(get(r, 5)?),
        spec: texts.spec,
        captured: texts.captured,
        origin: texts.origin,
        life,
        unread: Unread::worse(texts.unread, Unread::worse(odd, of_state)),
    })
}
