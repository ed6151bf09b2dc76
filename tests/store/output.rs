use orx::job::Fence;
use orx::job::lanes::Offer;
use orx::job::output::{Chunk, Stream};
use orx::job::state::{Cause, Ending};
use orx::ops::append_output::{AppendOutput, Appended};
use orx::ops::output::ReadOutput;
use orx::ops::settle::{Report, Settle};
use orx::time::{Span, Timestamp};

use super::support::*;

fn chunk(seq: u32, text: &str) -> Chunk {
    Chunk { seq, stream: Stream::Stdout, at: Timestamp(0), gap: 0, bytes: text.into() }
}

async fn read(f: &Fixture, fence: Fence, after: Option<u32>) -> (String, bool) {
    let op = ReadOutput { number: fence.number, attempt: Some(fence.attempt), after };
    let reply = f.queue.call(op).await.unwrap();
    let bytes: Vec<u8> = reply.chunks.into_iter().flat_map(|c| c.bytes).collect();
    (String::from_utf8(bytes).unwrap(), reply.ended)
}

on_every_store! {
    async fn s28_live_output_and_what_travels_with_the_outcome_read_as_one(f: Fixture) {
        f.add("").await;
        let w = f.worker("w", Offer::default()).await;
        let fence = w.take().await;
        assert_eq!(read(f, fence, None).await, (String::new(), false));
        let append = |chunks| AppendOutput { worker: w.key.clone(), fence, chunks };
        let stored = f.queue.call(append(vec![chunk(0, "one "), chunk(1, "two ")])).await.unwrap();
        assert_eq!(stored, Appended::Stored);
        assert_eq!(read(f, fence, Some(0)).await, ("two ".into(), false));
        let ending = Ending { cause: Cause::Itself, exit_code: Some(0), signal: None, error: None };
        let report = Report {
            fence, ending, started: None, ran: Span::ZERO, after: Span::MAX, output: vec![chunk(2, "three")], jitter: 0.0, in_run: false
        };
        f.queue.call(Settle { worker: w.key.clone(), reports: vec![report] }).await.unwrap();
        assert_eq!(read(f, fence, None).await, ("one two three".into(), true));
        let late = f.queue.call(append(vec![chunk(9, "late")])).await.unwrap();
        assert_eq!(late, Appended::Stale);
        assert_eq!(read(f, fence, Some(2)).await, (String::new(), true));
    }
}
