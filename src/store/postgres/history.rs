//! What happened: attempts and events.

use std::collections::HashMap;

use serde_json::Value;
use tokio_postgres::Row;

use super::conn::{Call, values};
use super::sql;
use super::tx::{PgTx, get, int, text, time, to_json};
use crate::error::Result;
use crate::job::event::told;
use crate::job::view::{Progress, Said};
use crate::job::{Attempt, Event, EventKind, Fence, JobId, Number, Outcome, State};
use crate::store::{History, NewEvent};
use crate::time::Timestamp;

impl History for PgTx<'_> {
    fn record(&mut self, attempts: &[(Number, Attempt)]) -> Result<()> {
        for (number, attempt) in attempts {
            self.buffer.counts.attempt(attempt.outcome);
            self.buffer.record(*number, attempt);
        }
        Ok(())
    }

    fn attempts(&mut self, number: Number) -> Result<Vec<Attempt>> {
        if self.buffer.has_attempts() {
            self.flush()?;
        }
        self.rows(sql!("attempts_of_job"), values![number])?.iter().map(|row| attempt(row, 0)).collect()
    }

    fn outcome(&mut self, fence: Fence) -> Result<Option<Outcome>> {
        if self.buffer.has_attempts() {
            self.flush()?;
        }
        let words: Vec<String> = self.column(sql!("attempts_outcome"), values![fence.number, int(fence.attempt)])?;
        Ok(words.first().and_then(|word| Outcome::parse(word)))
    }

    fn latest(&mut self, numbers: &[Number]) -> Result<Vec<(Option<Attempt>, Said)>> {
        if self.buffer.has_attempts() {
            self.flush()?;
        }
        let call = |sql| Call::new(sql, values![numbers.to_vec()]);
        let answers = self.run(&[call(sql!("attempts_latest")), call(sql!("said_find"))])?;
        let [attempts, said] = answers.as_slice() else { return Ok(Vec::new()) };
        let mut attempts: HashMap<Number, Attempt> =
            attempts.iter().map(|row| Ok((get(row, 0)?, attempt(row, 1)?))).collect::<Result<_>>()?;
        let mut said: HashMap<Number, Said> =
            said.iter().map(|row| Ok((get(row, 0)?, said_in(row)?))).collect::<Result<_>>()?;
        Ok(numbers.iter().map(|n| (attempts.remove(n), said.remove(n).unwrap_or_default())).collect())
    }

    fn say(&mut self, fence: Fence, said: &Said) -> Result<()> {
        let p = said.progress.as_ref();
        let result = said.result.as_ref().map(to_json).transpose()?;
        let words = p.and_then(|p| p.text.as_deref()).map(text);
        let (percent, at) = (p.map(|p| p.percent), p.map(|p| p.at.0));
        let row = values![fence.number, int(fence.attempt), percent, words, at, result, said.result_is_text];
        self.rows(sql!("said_put"), row)?;
        Ok(())
    }

    fn append(&mut self, events: &[NewEvent]) -> Result<()> {
        for e in events {
            self.buffer.counts.event(e);
        }
        let columns = &mut self.buffer.events;
        for e in events {
            columns.kinds.push(e.kind.as_str());
            columns.numbers.push(e.number);
            columns.attempts.push(e.attempt.map(int));
            columns.workers.push(e.worker.map(text));
            columns.actors.push(e.actor.map(text));
            columns.states.push(e.state.map(State::as_str));
            columns.data.push(match &e.data {
                Value::Null => None,
                data => Some(to_json(data)?),
            });
        }
        Ok(())
    }

    fn note_told(&mut self, numbers: &[Number]) -> Result<()> {
        self.read_one(sql!("jobs_told"), values![numbers.to_vec()])?;
        Ok(())
    }

    fn events(&mut self, after: i64, limit: usize) -> Result<Vec<Event>> {
        self.flush()?;
        // The end first, then the marks, then a new moment: whoever took a place below the end has its mark there, or
        // has ended and can be seen.
        let end: i64 = self.column(sql!("events_end"), values![])?.pop().unwrap_or_default();
        let marks: Vec<i64> = self.column(sql!("events_marks"), values![])?;
        self.renew_moment()?;
        let settled = marks.into_iter().map(|mark| place_of(mark, end)).min().unwrap_or(end).min(end);
        let rows = self.rows(sql!("events_after"), values![after, settled, limit as i64])?;
        rows.iter().map(event).collect()
    }
}

/// The whole place of a mark, which has 31 bits only: the last one not above `end`.
fn place_of(mark: i64, end: i64) -> i64 {
    const BITS: i64 = 1 << 31;
    end - (end - mark).rem_euclid(BITS)
}

fn event(row: &Row) -> Result<Event> {
    let job: Option<uuid::Uuid> = get(row, 3)?;
    let data: Option<String> = get(row, 9)?;
    let (kind, unknown) = EventKind::read(&get::<String>(row, 2)?);
    Ok(Event {
        seq: get(row, 0)?,
        at: Timestamp(get(row, 1)?),
        kind,
        job_id: job.map(JobId),
        number: get(row, 4)?,
        attempt: get::<Option<i32>>(row, 5)?.map(|n| u32::try_from(n).unwrap_or_default()),
        worker: get(row, 6)?,
        actor: get(row, 7)?,
        data: told(data.as_deref().map(str::as_bytes), get(row, 8)?, unknown),
    })
}

fn said_in(row: &Row) -> Result<Said> {
    let percent: Option<f64> = get(row, 1)?;
    let (words, at) = (get(row, 2)?, time(row, 3)?);
    let result: Option<String> = get(row, 4)?;
    Ok(Said {
        progress: percent.zip(at).map(|(percent, at)| Progress { percent, text: words, at }),
        // What cannot be read is as good as never said.
        result: result.and_then(|text| serde_json::from_str(&text).ok()),
        result_is_text: get(row, 5)?,
    })
}

fn attempt(row: &Row, at: usize) -> Result<Attempt> {
    let outcome: Option<String> = get(row, at + 4)?;
    Ok(Attempt {
        number: u32::try_from(get::<i32>(row, at)?).unwrap_or_default(),
        worker: get(row, at + 1)?,
        started_at: time(row, at + 2)?,
        finished_at: time(row, at + 3)?,
        outcome: outcome.and_then(|word| Outcome::parse(&word)),
        exit_code: get(row, at + 5)?,
        signal: get(row, at + 6)?,
        error: get(row, at + 7)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_the_last_place_with_its_bits() {
        assert_eq!(place_of(100, 120), 100);
        assert_eq!(place_of(120, 120), 120);
        assert_eq!(place_of(5, (1 << 31) + 9), (1 << 31) + 5);
        assert_eq!(place_of((1 << 31) - 1, (1 << 31) + 9), (1 << 31) - 1);
    }
}
