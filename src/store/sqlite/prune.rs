//! Forgetting finished jobs, with everything that belongs to them (S11, S26).

use rusqlite::params;

use super::sql;
use super::tx::{Reach, SqliteTx, to_json};
use crate::error::Result;
use crate::job::{Number, Record};
use crate::store::Prune;
use crate::time::Timestamp;

impl Prune for SqliteTx<'_> {
    fn prunable(&mut self, after: Number, before: Timestamp, dead: bool, limit: usize) -> Result<Vec<Number>> {
        self.all(sql!("prune_find"), params![after, before.0, dead, limit as i64], |r| r.get(0))
    }

    fn aged(&mut self, after: Number, before: Timestamp, limit: usize) -> Result<Vec<(Number, Timestamp, bool)>> {
        self.all(sql!("prune_aged"), params![after, before.0, limit as i64], |r| {
            Ok((r.get(0)?, Timestamp(r.get(1)?), r.get(2)?))
        })
    }

    fn used(&mut self) -> Result<Option<i64>> {
        let queue: i64 = self.first(sql!("size_used"), [], |r| r.get(0))?.unwrap_or_default();
        let output: i64 = match self.reach {
            Reach::Read(Some(output)) => output.query_row(sql!("size_used"), [], |r| r.get(0))?,
            _ => 0,
        };
        Ok(Some(queue + output))
    }

    fn drop_events(&mut self, seqs: &[i64]) -> Result<()> {
        self.execute(sql!("events_drop"), [to_json(&seqs)?])?;
        Ok(())
    }

    fn prune(&mut self, jobs: &[Record]) -> Result<()> {
        let numbers: Vec<Number> = jobs.iter().map(|job| job.number).collect();
        let list = to_json(&numbers)?;
        for job in jobs {
            self.counts.prune(job.lane, job.life.state);
        }
        self.flush()?; // while the lanes' jobs are known
        // The events first: where they end is written in the jobs.
        for statement in [
            sql!("prune_events"),
            sql!("prune_attempts"),
            sql!("prune_output"),
            sql!("prune_job_said"),
            sql!("prune_job_labels"),
            sql!("prune_job_dependencies"),
            sql!("prune_dead_letters"),
            sql!("prune_job_specs"),
            sql!("prune_jobs"),
            sql!("prune_run_specs"),
            sql!("prune_runs"),
            sql!("prune_run_tasks"),
        ] {
            self.execute(statement, [&list])?;
        }
        Ok(())
    }

    fn prune_ledger(&mut self, before: Timestamp, limit: usize) -> Result<usize> {
        self.execute(sql!("prune_ledger"), params![before.0, limit as i64])
    }

    fn drop_output(&mut self, numbers: &[Number]) -> Result<()> {
        if let Reach::Output(output) = self.reach {
            output.prepare_cached(sql!("prune_output"))?.execute([to_json(&numbers)?])?;
        }
        Ok(())
    }
}
