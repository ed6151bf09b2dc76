//! What jobs wrote: little of it beside the outcome, the rest in the second file (S28).

use rusqlite::{Connection, Row, params};

use super::sql;
use super::tx::{Column, Reach, SqliteTx};
use crate::error::Result;
use crate::job::Fence;
use crate::job::output::{Chunk, Cut, Stream};
use crate::store::Outputs;
use crate::time::Timestamp;

impl Outputs for SqliteTx<'_> {
    fn put_output(&mut self, fence: Fence, chunks: &[Chunk]) -> Result<()> {
        let mut insert = self.file().prepare_cached(sql!("output_put"))?;
        for c in chunks {
            let stream = match c.stream {
                Stream::Stdout => 1,
                Stream::Stderr => 2,
            };
            insert.execute(params![
                fence.number,
                fence.attempt,
                c.seq,
                stream,
                c.at.0,
                i64::try_from(c.place).unwrap_or(i64::MAX),
                c.bytes
            ])?;
        }
        Ok(())
    }

    fn cut_output(&mut self, fence: Fence, cut: Cut) -> Result<()> {
        for statement in [sql!("output_drop"), sql!("output_trim")] {
            let to = i64::try_from(cut.to).unwrap_or(i64::MAX);
            let mut statement = self.file().prepare_cached(statement)?;
            statement.execute(params![fence.number, fence.attempt, cut.from, cut.below, to])?;
        }
        Ok(())
    }

    fn output(&mut self, fence: Fence, after: Option<u32>, max_bytes: usize) -> Result<Vec<Chunk>> {
        let mut chunks = Vec::new();
        let mut room = max_bytes;
        // What was stored live comes before what travelled with the outcome.
        if let Reach::Read(Some(output)) = self.reach {
            read(output, fence, after, &mut room, &mut chunks)?;
        }
        if room > 0 {
            read(self.queue, fence, after, &mut room, &mut chunks)?;
        }
        Ok(chunks)
    }
}

impl<'c> SqliteTx<'c> {
    /// Where this transaction writes output.
    fn file(&self) -> &'c Connection {
        match self.reach {
            Reach::Output(output) => output,
            _ => self.queue,
        }
    }
}

fn read(conn: &Connection, fence: Fence, after: Option<u32>, room: &mut usize, chunks: &mut Vec<Chunk>) -> Result<()> {
    let after = after.map_or(-1, i64::from);
    let mut select = conn.prepare_cached(sql!("output_read"))?;
    let rows = select.query_map(params![fence.number, fence.attempt, after], chunk)?;
    for chunk in rows {
        let chunk = chunk?;
        *room = room.saturating_sub(chunk.bytes.len().max(1));
        chunks.push(chunk);
        if *room == 0 {
            break;
        }
    }
    Ok(())
}

fn chunk(r: &Row) -> rusqlite::Result<Chunk> {
    Ok(Chunk {
        seq: r.get(0)?,
        stream: match r.get(1)? {
            2 => Stream::Stderr,
            _ => Stream::Stdout,
        },
        at: r.get::<_, Column<Timestamp>>(2)?.0,
        place: r.get::<_, i64>(3)?.unsigned_abs(),
        bytes: r.get(4)?,
    })
}
