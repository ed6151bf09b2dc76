//! Forgetting finished jobs, with everything that belongs to them (S11, S26).

use super::conn::{Call, values};
use super::sql;
use super::tx::{PgTx, get};
use crate::error::Result;
use crate::job::{Number, Record};
use crate::store::Prune;
use crate::time::Timestamp;

impl Prune for PgTx<'_> {
    fn prunable(&mut self, after: Number, before: Timestamp, dead: bool, limit: usize) -> Result<Vec<Number>> {
        self.flush()?;
        self.column(sql!("prune_find"), values![after, before.0, dead, limit as i64])
    }

    fn aged(&mut self, after: Number, before: Timestamp, limit: usize) -> Result<Vec<(Number, Timestamp, bool)>> {
        self.flush()?;
        let rows = self.rows(sql!("prune_aged"), values![after, before.0, limit as i64])?;
        rows.iter().map(|row| Ok((get(row, 0)?, Timestamp(get(row, 1)?), get(row, 2)?))).collect()
    }

    fn used(&mut self) -> Result<Option<i64>> {
        Ok(None) // what is deleted is neither given back nor told
    }

    fn drop_events(&mut self, seqs: &[i64]) -> Result<()> {
        self.flush()?;
        self.rows(sql!("events_drop"), values![seqs.to_vec()])?;
        Ok(())
    }

    fn prune(&mut self, jobs: &[Record]) -> Result<()> {
        if jobs.is_empty() {
            return Ok(());
        }
        for job in jobs {
            self.buffer.counts.prune(job.lane, job.life.state);
        }
        self.flush()?;
        let numbers: Vec<Number> = jobs.iter().map(|job| job.number).collect();
        let call = |sql| Call::new(sql, values![numbers.clone()]);
        // The events first: where they end is written in the jobs.
        self.run(&[
            call(sql!("prune_events")),
            call(sql!("prune_attempts")),
            call(sql!("prune_output")),
            call(sql!("prune_job_said")),
            call(sql!("prune_job_labels")),
            call(sql!("prune_job_dependencies")),
            call(sql!("prune_dead_letters")),
            call(sql!("prune_job_specs")),
            call(sql!("prune_jobs")),
            call(sql!("prune_run_specs")),
            call(sql!("prune_runs")),
            call(sql!("prune_run_tasks")),
        ])?;
        Ok(())
    }

    fn prune_ledger(&mut self, before: Timestamp, limit: usize) -> Result<usize> {
        self.flush()?;
        Ok(self.rows(sql!("prune_ledger"), values![before.0, limit as i64])?.len())
    }

    fn drop_output(&mut self, numbers: &[Number]) -> Result<()> {
        self.rows(sql!("prune_output"), values![numbers.to_vec()])?;
        Ok(())
    }
}
