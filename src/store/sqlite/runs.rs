//! Runs and their jobs.

use std::sync::Arc;

use rusqlite::{Row, params};
use uuid::Uuid;

use super::sql;
use super::tx::{Column, SqliteTx, time, to_json};
use crate::error::Result;
use crate::job::lanes::Needs;
use crate::job::reading::{self, task_of};
use crate::job::run::{Moved, Terms};
use crate::job::{LaneId, Number, OccurrenceId, RunId, RunLife, RunState, ScheduleId, State};
use crate::store::{Place, Run, RunFilter, RunJobs, RunSpec, Runs, TaskKind, Tx as _};
use crate::time::{Span, Timestamp};

impl Runs for SqliteTx<'_> {
    fn add_run(&mut self, run: &Run, spec: &RunSpec) -> Result<Option<i64>> {
        let (terms, life) = (&run.terms, &run.life);
        let row = params![
            bytes(&run.id.0),
            run.name,
            run.tenant,
            run.created_at.0,
            terms.fail_fast,
            terms.on_complete,
            terms.timeout.map(Span::as_millis),
            run.limit_key,
            run.schedule_id.as_ref().map(|id| bytes(&id.0)),
            run.occurrence_id.as_ref().map(|id| bytes(&id.0)),
            run.scheduled_for.map(|t| t.0),
            run.replay_of.as_ref().map(|id| bytes(&id.0)),
            run.reason,
            life.state.as_str(),
            life.open,
            life.failed,
            life.cancelled,
            life.skipped,
            life.stop,
            life.timed_out,
            life.cancels,
            life.result.map(RunState::as_str),
            life.ends,
            life.behind,
            life.started_at.map(|t| t.0),
            life.finished_at.map(|t| t.0),
            life.timeout_at.map(|t| t.0),
        ];
        let Some(seq) = self.first(sql!("runs_insert"), row, |r| r.get::<_, i64>(0))? else { return Ok(None) };
        let (workflow, captured) = (to_json(&spec.workflow)?, to_json(&*spec.captured)?);
        self.execute(sql!("run_specs_insert"), params![seq, workflow, captured])?;
        Ok(Some(seq))
    }

    fn run(&mut self, id: RunId) -> Result<Option<Run>> {
        self.first(sql!("runs_load"), [bytes(&id.0)], run)
    }

    fn save_run(&mut self, run: &Run) -> Result<()> {
        let life = &run.life;
        let row = params![
            run.seq,
            life.state.as_str(),
            life.open,
            life.failed,
            life.cancelled,
            life.skipped,
            life.stop,
            life.timed_out,
            life.cancels,
            life.result.map(RunState::as_str),
            life.ends,
            life.behind,
            life.started_at.map(|t| t.0),
            life.finished_at.map(|t| t.0),
            life.timeout_at.map(|t| t.0),
        ];
        self.execute(sql!("runs_save"), row)?;
        Ok(())
    }

    fn run_spec(&mut self, seq: i64) -> Result<RunSpec> {
        let text = |r: &Row, index: usize| Ok::<_, rusqlite::Error>(r.get_ref(index)?.as_bytes()?.to_vec());
        let texts = self.first(sql!("run_specs_load"), [seq], |r| Ok((text(r, 0)?, text(r, 1)?)))?;
        let (workflow, captured) = texts.unwrap_or_default();
        let (workflow, captured, unread) = reading::run(&workflow, &captured);
        Ok(RunSpec { workflow, captured: Arc::new(captured), unread })
    }

    fn runs(&mut self, filter: &RunFilter, before: Option<i64>, limit: usize) -> Result<Vec<Run>> {
        let row = params![
            before.unwrap_or(i64::MAX),
            filter.state.map(RunState::as_str),
            filter.name,
            filter.tenant,
            filter.schedule.as_ref().map(|id| bytes(&id.0)),
            limit as i64
        ];
        self.all(sql!("runs_list"), row, run)
    }

    fn find_runs(&mut self, low: RunId, high: RunId, limit: usize) -> Result<Vec<RunId>> {
        self.all(sql!("runs_by_id"), params![bytes(&low.0), bytes(&high.0), limit as i64], id)
    }

    fn late_runs(&mut self, limit: usize) -> Result<Vec<RunId>> {
        let now = self.now().0;
        self.all(sql!("runs_late"), params![now, limit as i64], id)
    }

    fn runs_behind(&mut self, seq: i64) -> Result<Vec<RunId>> {
        self.all(sql!("runs_behind"), [seq], id)
    }

    fn run_limits(&mut self, tenant: &str, _name: &str) -> Result<Vec<String>> {
        self.all(sql!("runs_keys"), [tenant], |r| r.get(0))
    }
}

impl RunJobs for SqliteTx<'_> {
    fn add_tasks(&mut self, seq: i64, tasks: &[(Number, TaskKind)]) -> Result<()> {
        for (number, kind) in tasks {
            self.execute(sql!("run_tasks_insert"), params![seq, number, kind.as_str()])?;
        }
        Ok(())
    }

    fn tasks(&mut self, seq: i64, open: bool) -> Result<Vec<(Number, TaskKind)>> {
        let sql = if open { sql!("run_tasks_open") } else { sql!("run_tasks_all") };
        self.all(sql, [seq], |r| Ok((r.get(0)?, kind(r, 1)?)))
    }

    fn run_of(&mut self, number: Number) -> Result<Option<(RunId, TaskKind)>> {
        self.first(sql!("run_of"), [number], |r| Ok((id(r)?, kind(r, 1)?)))
    }

    fn places(&mut self, numbers: &[Number]) -> Result<Vec<Place>> {
        self.all(sql!("run_places"), [to_json(&numbers)?], |r| {
            Ok(Place {
                run: id(r)?,
                kind: kind(r, 1)?,
                number: r.get(2)?,
                is_counted: r.get(3)?,
                timeout_at: time(r, 4)?,
            })
        })
    }

    fn pending_lanes(&mut self, seq: i64) -> Result<Vec<(LaneId, Needs)>> {
        self.all(sql!("run_lanes"), [seq], |r| Ok((r.get(0)?, Needs::of_key(&r.get::<_, String>(1)?))))
    }

    fn pending_tasks(&mut self, seq: i64, lanes: &[LaneId], limit: usize) -> Result<Vec<(Number, LaneId)>> {
        let row = params![seq, limit as i64, to_json(&lanes)?];
        self.all(sql!("run_tasks_pending"), row, |r| Ok((r.get(0)?, r.get(1)?)))
    }

    fn hold_runs(&mut self, _numbers: &[Number]) -> Result<()> {
        Ok(()) // nobody else writes meanwhile
    }

    fn results(&mut self, numbers: &[Number]) -> Result<Vec<(Number, String, Number)>> {
        let rows: Vec<(Number, Number, Vec<u8>)> = self.all(sql!("run_results"), [to_json(&numbers)?], |r| {
            Ok((r.get(0)?, r.get(1)?, r.get_ref(2)?.as_bytes()?.to_vec()))
        })?;
        // Where it cannot be read which task it is, nobody could ask for it by its name.
        let made = rows.into_iter().filter_map(|(number, needs, origin)| Some((number, task_of(&origin)?, needs)));
        Ok(made.collect())
    }

    fn note_moved(&mut self, run: RunId, task: &str, from: State, to: State) {
        self.moved.note(run, task, from, to);
    }

    fn next_moved(&mut self) -> Option<(RunId, Moved)> {
        self.moved.next()
    }
}

fn kind(r: &Row, index: usize) -> rusqlite::Result<TaskKind> {
    TaskKind::parse(&r.get::<_, String>(index)?).ok_or(rusqlite::Error::InvalidQuery)
}

fn bytes(id: &Uuid) -> &[u8] {
    id.as_bytes()
}

fn id(r: &Row) -> rusqlite::Result<RunId> {
    Ok(r.get::<_, Column<RunId>>(0)?.0)
}

fn run(r: &Row) -> rusqlite::Result<Run> {
    let uuid = |at: usize| Ok::<_, rusqlite::Error>(r.get::<_, Option<Column<RunId>>>(at)?.map(|c| c.0.0));
    Ok(Run {
        seq: r.get(0)?,
        id: r.get::<_, Column<RunId>>(1)?.0,
        name: r.get(2)?,
        tenant: r.get(3)?,
        created_at: r.get::<_, Column<Timestamp>>(4)?.0,
        terms: Terms {
            fail_fast: r.get(5)?,
            on_complete: r.get(6)?,
            timeout: r.get::<_, Option<i64>>(7)?.map(Span::from_millis),
        },
        limit_key: r.get(8)?,
        schedule_id: uuid(9)?.map(ScheduleId),
        occurrence_id: uuid(10)?.map(OccurrenceId),
        scheduled_for: time(r, 11)?,
        replay_of: uuid(12)?.map(RunId),
        reason: r.get(13)?,
        life: RunLife {
            state: r.get::<_, Column<RunState>>(14)?.0,
            open: r.get(15)?,
            failed: r.get(16)?,
            cancelled: r.get(17)?,
            skipped: r.get(18)?,
            stop: r.get(19)?,
            timed_out: r.get(20)?,
            cancels: r.get(21)?,
            result: r.get::<_, Option<String>>(22)?.and_then(|word| RunState::parse(&word)),
            ends: r.get(23)?,
            behind: r.get(24)?,
            started_at: time(r, 25)?,
            finished_at: time(r, 26)?,
            timeout_at: time(r, 27)?,
        },
    })
}
