//! What happened: attempts and events.

use rusqlite::{Row, params};
use serde_json::Value;

use super::sql;
use super::tx::{Column, Lossy, SqliteTx, text, time, to_json};
use super::wide::{both, maybe};
use crate::error::Result;
use crate::job::event::told;
use crate::job::view::{Progress, Said};
use crate::job::{Attempt, Event, EventKind, Fence, JobId, Number, Outcome, State};
use crate::store::{History, NewEvent, Tx as _};
use crate::time::Timestamp;

impl History for SqliteTx<'_> {
    fn record(&mut self, attempts: &[(Number, Attempt)]) -> Result<()> {
        for (number, a) in attempts {
            self.counts.attempt(a.outcome);
            self.execute(
                sql!("attempts_insert"),
                params![
                    number,
                    a.number,
                    a.worker,
                    a.started_at.map(|t| t.0),
                    a.finished_at.map(|t| t.0),
                    a.outcome.map(Outcome::as_str),
                    a.exit_code,
                    a.signal,
                    a.error,
                ],
            )?;
        }
        Ok(())
    }

    fn attempts(&mut self, number: Number) -> Result<Vec<Attempt>> {
        self.all(sql!("attempts_of_job"), [number], attempt)
    }

    fn outcome(&mut self, fence: Fence) -> Result<Option<Outcome>> {
        let word = |row: &Row| row.get::<_, String>(0);
        let word = self.first(sql!("attempts_outcome"), params![fence.number, fence.attempt], word)?;
        Ok(word.and_then(|word| Outcome::parse(&word)))
    }

    fn latest(&mut self, numbers: &[Number]) -> Result<Vec<(Option<Attempt>, Said)>> {
        numbers
            .iter()
            .map(|number| {
                let last = match self.first(sql!("attempts_running"), [number], attempt)? {
                    Some(running) => Some(running),
                    None => self.first(sql!("attempts_last"), [number], attempt)?,
                };
                Ok((last, self.said(*number)?))
            })
            .collect()
    }

    fn say(&mut self, fence: Fence, said: &Said) -> Result<()> {
        let p = said.progress.as_ref();
        let result = said.result.as_ref().map(to_json).transpose()?;
        let (percent, text, at) = (p.map(|p| p.percent), p.and_then(|p| p.text.as_ref()), p.map(|p| p.at.0));
        let row = params![fence.number, fence.attempt, percent, text, at, result, said.result_is_text];
        self.execute(sql!("said_put"), row)?;
        Ok(())
    }

    fn append(&mut self, events: &[NewEvent]) -> Result<()> {
        let now = self.now().0;
        let mut rows = Vec::with_capacity(events.len());
        for e in events {
            self.counts.event(e);
            let data = match &e.data {
                Value::Null => None,
                data => Some(to_json(data)?),
            };
            rows.push([
                now.into(),
                e.kind.as_str().into(),
                maybe(e.number),
                maybe(e.attempt),
                maybe(e.worker),
                maybe(e.actor),
                maybe(e.state.map(State::as_str)),
                maybe(data),
            ]);
        }
        if self.insert_rows(&both!(sql!("events_append")), &rows)? > 0 {
            self.last_seq = self.queue.last_insert_rowid();
        }
        Ok(())
    }

    fn note_told(&mut self, numbers: &[Number]) -> Result<()> {
        let seq = self.last_seq;
        self.execute(sql!("jobs_told"), params![to_json(&numbers)?, seq])?;
        Ok(())
    }

    fn events(&mut self, after: i64, limit: usize) -> Result<Vec<Event>> {
        self.all(sql!("events_after"), params![after, limit as i64], |r| {
            let (kind, unknown) = EventKind::read(&r.get::<_, Lossy>(2)?.0);
            let data = r.get_ref(9)?.as_bytes_or_null()?;
            Ok(Event {
                seq: r.get(0)?,
                at: r.get::<_, Column<Timestamp>>(1)?.0,
                kind,
                job_id: r.get::<_, Option<Column<JobId>>>(3)?.map(|c| c.0),
                number: r.get(4)?,
                attempt: r.get::<_, Option<i64>>(5)?.map(|n| u32::try_from(n).unwrap_or_default()),
                worker: text(r, 6)?,
                actor: text(r, 7)?,
                data: told(data, text(r, 8)?, unknown),
            })
        })
    }
}

impl SqliteTx<'_> {
    fn said(&mut self, number: Number) -> Result<Said> {
        let row = self.first(sql!("said_find"), [number], |r| {
            let percent: Option<f64> = r.get(0)?;
            let (text, at) = (text(r, 1)?, time(r, 2)?);
            let progress = percent.zip(at).map(|(percent, at)| Progress { percent, text, at });
            // What cannot be read is as good as never said.
            let result = r.get_ref(3)?.as_bytes_or_null()?.and_then(|text| serde_json::from_slice(text).ok());
            Ok(Said { progress, result, result_is_text: r.get(4)? })
        })?;
        Ok(row.unwrap_or_default())
    }
}

fn attempt(r: &Row) -> rusqlite::Result<Attempt> {
    let int =
        |index: usize| Ok::<_, rusqlite::Error>(r.get::<_, Option<i64>>(index)?.and_then(|n| i32::try_from(n).ok()));
    Ok(Attempt {
        number: u32::try_from(r.get::<_, i64>(0)?).unwrap_or_default(),
        worker: text(r, 1)?,
        started_at: time(r, 2)?,
        finished_at: time(r, 3)?,
        outcome: text(r, 4)?.and_then(|word| Outcome::parse(&word)),
        exit_code: int(5)?,
        signal: int(6)?,
        error: text(r, 7)?,
    })
}
