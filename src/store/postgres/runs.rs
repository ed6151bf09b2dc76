//! Runs and their jobs. A writing transaction locks the run that it loads: the row is the lock on what it counts.

use std::sync::Arc;

use tokio_postgres::Row;
use uuid::Uuid;

use super::conn::{Call, Param, values};
use super::sql;
use super::tx::{PgTx, get, int, natural, text, time, to_json, word};
use crate::error::Result;
use crate::job::lanes::Needs;
use crate::job::reading::{self, task_of};
use crate::job::run::{Moved, Terms};
use crate::job::{LaneId, Number, OccurrenceId, RunId, RunLife, RunState, ScheduleId, State};
use crate::store::{Place, Run, RunFilter, RunJobs, RunSpec, Runs, TaskKind, Tx as _};
use crate::time::{Span, Timestamp};

impl Runs for PgTx<'_> {
    fn add_run(&mut self, run: &Run, spec: &RunSpec) -> Result<Option<i64>> {
        let terms = &run.terms;
        let mut row = values![
            run.id.0,
            run.name.clone(),
            run.tenant.clone(),
            run.created_at.0,
            terms.fail_fast,
            terms.on_complete,
            terms.timeout.map(Span::as_millis),
            run.limit_key.clone(),
            run.schedule_id.map(|id| id.0),
            run.occurrence_id.map(|id| id.0),
            run.scheduled_for.map(|t| t.0),
            run.replay_of.map(|id| id.0),
            run.reason.as_deref().map(text),
        ];
        row.extend(life(&run.life));
        let Some(seq) = self.column::<i64>(sql!("runs_insert"), row)?.pop() else { return Ok(None) };
        let (workflow, captured) = (to_json(&spec.workflow)?, to_json(&*spec.captured)?);
        self.rows(sql!("run_specs_insert"), values![seq, text(&workflow), text(&captured)])?;
        Ok(Some(seq))
    }

    fn run(&mut self, id: RunId) -> Result<Option<Run>> {
        let mut calls = vec![Call::new(sql!("runs_load"), values![id.0])];
        if self.writes() {
            calls.insert(0, Call::new(sql!("runs_lock"), values![id.0]));
        }
        self.run(&calls)?.pop().unwrap_or_default().first().map(run).transpose()
    }

    fn free_run(&mut self, id: RunId) -> Result<Option<Run>> {
        match self.rows(sql!("runs_lock_free"), values![id.0])?.is_empty() {
            true => Ok(None),
            false => self.rows(sql!("runs_load"), values![id.0])?.first().map(run).transpose(),
        }
    }

    fn save_run(&mut self, run: &Run) -> Result<()> {
        let mut row: Vec<Param> = values![run.seq];
        row.extend(life(&run.life));
        self.rows(sql!("runs_save"), row)?;
        Ok(())
    }

    fn run_spec(&mut self, seq: i64) -> Result<RunSpec> {
        let rows = self.rows(sql!("run_specs_load"), values![seq])?;
        let row = rows.first().ok_or_else(super::tx::damaged)?;
        let (workflow, around): (String, String) = (get(row, 0)?, get(row, 1)?);
        let (workflow, captured, unread) = reading::run(workflow.as_bytes(), around.as_bytes());
        Ok(RunSpec { workflow, captured: Arc::new(captured), unread })
    }

    fn runs(&mut self, filter: &RunFilter, before: Option<i64>, limit: usize) -> Result<Vec<Run>> {
        let row = values![
            before.unwrap_or(i64::MAX),
            filter.state.map(RunState::as_str),
            filter.name.clone(),
            filter.tenant.clone(),
            filter.schedule.map(|id| id.0),
            limit as i64
        ];
        self.rows(sql!("runs_list"), row)?.iter().map(run).collect()
    }

    fn find_runs(&mut self, low: RunId, high: RunId, limit: usize) -> Result<Vec<RunId>> {
        let found: Vec<Uuid> = self.column(sql!("runs_by_id"), values![low.0, high.0, limit as i64])?;
        Ok(found.into_iter().map(RunId).collect())
    }

    fn late_runs(&mut self, limit: usize) -> Result<Vec<RunId>> {
        let found: Vec<Uuid> = self.column(sql!("runs_late"), values![self.now().0, limit as i64])?;
        Ok(found.into_iter().map(RunId).collect())
    }

    fn runs_behind(&mut self, seq: i64) -> Result<Vec<RunId>> {
        let found: Vec<Uuid> = self.column(sql!("runs_behind"), values![seq])?;
        Ok(found.into_iter().map(RunId).collect())
    }

    fn run_limits(&mut self, tenant: &str, name: &str) -> Result<Vec<String>> {
        self.one_at_a_time("run", tenant, name)?;
        self.column(sql!("runs_keys"), values![tenant.to_owned()])
    }
}

impl RunJobs for PgTx<'_> {
    fn add_tasks(&mut self, seq: i64, tasks: &[(Number, TaskKind)]) -> Result<()> {
        let numbers: Vec<Number> = tasks.iter().map(|(number, _)| *number).collect();
        let kinds: Vec<&str> = tasks.iter().map(|(_, kind)| kind.as_str()).collect();
        self.rows(sql!("run_tasks_insert"), values![seq, numbers, kinds])?;
        Ok(())
    }

    fn tasks(&mut self, seq: i64, open: bool) -> Result<Vec<(Number, TaskKind)>> {
        self.flush()?;
        let sql = if open { sql!("run_tasks_open") } else { sql!("run_tasks_all") };
        let rows = self.rows(sql, values![seq])?;
        rows.iter().map(|row| Ok((get(row, 0)?, word(&get::<String>(row, 1)?, TaskKind::parse)?))).collect()
    }

    fn run_of(&mut self, number: Number) -> Result<Option<(RunId, TaskKind)>> {
        let rows = self.rows(sql!("run_of"), values![number])?;
        let of = rows.first().map(|row| Ok((RunId(get(row, 0)?), word(&get::<String>(row, 1)?, TaskKind::parse)?)));
        of.transpose()
    }

    fn places(&mut self, numbers: &[Number]) -> Result<Vec<Place>> {
        let place = |row: &Row| {
            Ok(Place {
                run: RunId(get(row, 0)?),
                kind: word(&get::<String>(row, 1)?, TaskKind::parse)?,
                number: get(row, 2)?,
                is_counted: get(row, 3)?,
                timeout_at: time(row, 4)?,
            })
        };
        self.rows(sql!("run_places"), values![numbers.to_vec()])?.iter().map(place).collect()
    }

    fn pending_lanes(&mut self, seq: i64) -> Result<Vec<(LaneId, Needs)>> {
        let lane = |row: &Row| Ok((get(row, 0)?, Needs::of_key(&get::<String>(row, 1)?)));
        self.read_one(sql!("run_lanes"), values![seq])?.iter().map(lane).collect()
    }

    fn pending_tasks(&mut self, seq: i64, lanes: &[LaneId], limit: usize) -> Result<Vec<(Number, LaneId)>> {
        self.flush()?;
        let rows = self.rows(sql!("run_tasks_pending"), values![seq, limit as i64, lanes.to_vec()])?;
        rows.iter().map(|row| Ok((get(row, 0)?, get(row, 1)?))).collect()
    }

    fn hold_runs(&mut self, numbers: &[Number]) -> Result<()> {
        if self.writes() && !numbers.is_empty() {
            self.rows(sql!("runs_hold"), values![numbers.to_vec()])?;
        }
        Ok(())
    }

    fn results(&mut self, numbers: &[Number]) -> Result<Vec<(Number, String, Number)>> {
        let rows = self.rows(sql!("run_results"), values![numbers.to_vec()])?;
        let mut made = Vec::with_capacity(rows.len());
        for row in &rows {
            // Where it cannot be read which task it is, nobody could ask for it by its name.
            if let Some(task) = task_of(get::<String>(row, 2)?.as_bytes()) {
                made.push((get(row, 0)?, task, get(row, 1)?));
            }
        }
        Ok(made)
    }

    fn note_moved(&mut self, run: RunId, task: &str, from: State, to: State) {
        self.moved.note(run, task, from, to);
    }

    fn next_moved(&mut self) -> Option<(RunId, Moved)> {
        self.moved.next()
    }
}

/// The columns of what changes.
fn life(life: &RunLife) -> Vec<Param> {
    values![
        life.state.as_str(),
        int(life.open),
        int(life.failed),
        int(life.cancelled),
        int(life.skipped),
        life.stop.as_deref().map(text),
        life.timed_out,
        int(life.cancels),
        life.result.map(RunState::as_str),
        int(life.ends),
        life.behind,
        life.started_at.map(|t| t.0),
        life.finished_at.map(|t| t.0),
        life.timeout_at.map(|t| t.0),
    ]
}

fn run(r: &Row) -> Result<Run> {
    let state = |text: String| word(&text, RunState::parse);
    Ok(Run {
        seq: get(r, 0)?,
        id: RunId(get(r, 1)?),
        name: get(r, 2)?,
        tenant: get(r, 3)?,
        created_at: Timestamp(get(r, 4)?),
        terms: Terms {
            fail_fast: get(r, 5)?,
            on_complete: get(r, 6)?,
            timeout: get::<Option<i64>>(r, 7)?.map(Span::from_millis),
        },
        limit_key: get(r, 8)?,
        schedule_id: get::<Option<Uuid>>(r, 9)?.map(ScheduleId),
        occurrence_id: get::<Option<Uuid>>(r, 10)?.map(OccurrenceId),
        scheduled_for: time(r, 11)?,
        replay_of: get::<Option<Uuid>>(r, 12)?.map(RunId),
        reason: get(r, 13)?,
        life: RunLife {
            state: state(get(r, 14)?)?,
            open: natural(r, 15)?,
            failed: natural(r, 16)?,
            cancelled: natural(r, 17)?,
            skipped: natural(r, 18)?,
            stop: get(r, 19)?,
            timed_out: get(r, 20)?,
            cancels: natural(r, 21)?,
            result: get::<Option<String>>(r, 22)?.map(state).transpose()?,
            ends: natural(r, 23)?,
            behind: get(r, 24)?,
            started_at: time(r, 25)?,
            finished_at: time(r, 26)?,
            timeout_at: time(r, 27)?,
        },
    })
}
