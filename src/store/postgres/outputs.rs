//! What jobs wrote (S28): one table, as no chatty job delays others here.

use super::conn::{Call, values};
use super::sql;
use super::tx::{PgTx, get, int};
use crate::error::Result;
use crate::job::Fence;
use crate::job::output::{Chunk, Cut, Stream};
use crate::store::Outputs;
use crate::time::Timestamp;

/// How many chunks are read at once.
const PAGE: i64 = 256;

impl Outputs for PgTx<'_> {
    fn put_output(&mut self, fence: Fence, chunks: &[Chunk]) -> Result<()> {
        self.buffer.put_output(fence, chunks);
        Ok(())
    }

    fn cut_output(&mut self, fence: Fence, cut: Cut) -> Result<()> {
        let to = i64::try_from(cut.to).unwrap_or(i64::MAX);
        let (from, below) = (i64::from(cut.from), i64::from(cut.below));
        let call = |sql| Call::new(sql, values![fence.number, int(fence.attempt), from, below, to]);
        // What is stored in this transaction comes before it.
        self.read(vec![call(sql!("output_drop")), call(sql!("output_trim"))])?;
        Ok(())
    }

    fn output(&mut self, fence: Fence, after: Option<u32>, max_bytes: usize) -> Result<Vec<Chunk>> {
        self.flush()?;
        let mut chunks: Vec<Chunk> = Vec::new();
        let mut room = max_bytes.max(1);
        while room > 0 {
            let after = chunks.last().map(|c| c.seq).or(after).map_or(-1, i64::from);
            let page = self.rows(sql!("output_read"), values![fence.number, int(fence.attempt), after, PAGE])?;
            for row in &page {
                let bytes: Vec<u8> = get(row, 4)?;
                room = room.saturating_sub(bytes.len().max(1));
                chunks.push(Chunk {
                    seq: u32::try_from(get::<i64>(row, 0)?).unwrap_or(u32::MAX),
                    stream: match get::<i16>(row, 1)? {
                        2 => Stream::Stderr,
                        _ => Stream::Stdout,
                    },
                    at: Timestamp(get(row, 2)?),
                    place: u64::try_from(get::<i64>(row, 3)?).unwrap_or_default(),
                    bytes,
                });
                if room == 0 {
                    break;
                }
            }
            if page.len() < PAGE as usize {
                break;
            }
        }
        Ok(chunks)
    }
}
