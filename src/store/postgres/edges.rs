//! Edges between jobs.

use tokio_postgres::Row;

use super::conn::values;
use super::sql;
use super::tx::{PgTx, get, word};
use crate::error::Result;
use crate::job::spec::Until;
use crate::job::{Number, State};
use crate::store::{Edge, Edges};

impl Edges for PgTx<'_> {
    fn put_edges(&mut self, edges: &[Edge]) -> Result<()> {
        if edges.is_empty() {
            return Ok(());
        }
        let until = |e: &Edge| match e.until {
            Until::Done => "done",
            Until::Ended => "ended",
        };
        let columns = values![
            edges.iter().map(|e| e.number).collect::<Vec<i64>>(),
            edges.iter().map(|e| e.needs).collect::<Vec<i64>>(),
            edges.iter().map(until).collect::<Vec<&str>>(),
            edges.iter().map(|e| e.satisfied).collect::<Vec<bool>>(),
        ];
        for edge in edges {
            self.unneeded.remove(&edge.needs);
        }
        self.rows(sql!("edges_put"), columns)?;
        Ok(())
    }

    fn dependants(&mut self, needs: &[Number]) -> Result<Vec<Edge>> {
        // The others were looked up with their locks.
        let needs: Vec<Number> = needs.iter().copied().filter(|n| !self.unneeded.contains(n)).collect();
        if needs.is_empty() {
            return Ok(Vec::new());
        }
        self.rows(sql!("edges_dependants"), values![needs])?.iter().map(edge).collect()
    }

    fn needs(&mut self, number: Number) -> Result<Vec<(Edge, Option<State>)>> {
        self.flush()?;
        let rows = self.rows(sql!("edges_needs"), values![number])?;
        rows.iter()
            .map(|row| {
                let state: Option<String> = get(row, 4)?;
                Ok((edge(row)?, state.map(|s| word(&s, State::parse)).transpose()?))
            })
            .collect()
    }
}

fn edge(row: &Row) -> Result<Edge> {
    Ok(Edge {
        number: get(row, 0)?,
        needs: get(row, 1)?,
        until: match get::<String>(row, 2)?.as_str() {
            "ended" => Until::Ended,
            _ => Until::Done,
        },
        satisfied: get(row, 3)?,
    })
}
