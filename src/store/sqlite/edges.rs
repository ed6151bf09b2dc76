//! Edges between jobs.

use rusqlite::{Row, params};

use super::sql;
use super::tx::{Column, SqliteTx};
use crate::error::Result;
use crate::job::spec::Until;
use crate::job::{Number, State};
use crate::store::{Edge, Edges};

impl Edges for SqliteTx<'_> {
    fn put_edges(&mut self, edges: &[Edge]) -> Result<()> {
        for edge in edges {
            let until = match edge.until {
                Until::Done => "done",
                Until::Ended => "ended",
            };
            self.execute(sql!("edges_put"), params![edge.number, edge.needs, until, edge.satisfied])?;
        }
        Ok(())
    }

    fn dependants(&mut self, needs: &[Number]) -> Result<Vec<Edge>> {
        let mut edges = Vec::new();
        for needs in needs {
            edges.extend(self.all(sql!("edges_dependants"), [needs], edge)?);
        }
        Ok(edges)
    }

    fn needs(&mut self, number: Number) -> Result<Vec<(Edge, Option<State>)>> {
        self.all(sql!("edges_needs"), [number], |r| Ok((edge(r)?, r.get::<_, Option<Column<State>>>(4)?.map(|c| c.0))))
    }
}

fn edge(r: &Row) -> rusqlite::Result<Edge> {
    let until: String = r.get(2)?;
    Ok(Edge {
        number: r.get(0)?,
        needs: r.get(1)?,
        until: match until.as_str() {
            "ended" => Until::Ended,
            _ => Until::Done,
        },
        satisfied: r.get(3)?,
    })
}
