use orx::job::Fence;
use orx::job::lanes::Offer;
use orx::job::output::{Chunk, Cut, Stream};
use orx::job::state::{Cause, Ending};
use orx::ops::append_output::{AppendOutput, Appended};
use orx::ops::output::ReadOutput;
use orx::ops::settle::{Report, Settle};
use orx::time::{Span, Timestamp};

use super::support::*;

fn chunk(seq: u32, text: &str) -> Chunk {
    Chunk { seq, stream: Stream::Stdout, at: Timestamp(0), place: 0, bytes: text.into() }
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
        let append = |chunks| AppendOutput { worker: w.key.clone(), fence, chunks, cut: None };
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

    async fn s28_what_lies_before_a_place_is_kept_no_more(f: Fixture) {
        f.add("").await;
        let w = f.worker("w", Offer::default()).await;
        let fence = w.take().await;
        let texts: [&[u8]; 4] = [b"head", b"\0\xff\0\xff", b"\xfe\0t\0", b"three"];
        let chunks = texts.iter().zip([(0, 0), (1, 4), (2, 8), (3, 12)]);
        let chunks = chunks.map(|(bytes, (seq, place))| Chunk { place, bytes: bytes.to_vec(), ..chunk(seq, "") });
        let op = |chunks, cut| AppendOutput { worker: w.key.clone(), fence, chunks, cut };
        let first = op(chunks.collect(), Some(Cut { from: 1, below: 3, to: 10 }));
        for _ in 0..2 {
            // Said once more it changes nothing.
            assert_eq!(f.queue.call(first.clone()).await.unwrap(), Appended::Stored);
            let kept: [(u32, u64, &[u8]); 3] = [(0, 0, b"head"), (2, 10, b"t\0"), (3, 12, b"three")];
            assert_eq!(places(f, fence).await, kept.map(|(seq, place, bytes)| (seq, place, bytes.to_vec())));
        }
        let more = Chunk { place: 17, ..chunk(4, "more") };
        f.queue.call(op(vec![more], Some(Cut { from: 2, below: 4, to: 17 }))).await.unwrap();
        assert_eq!(places(f, fence).await, [(0, 0, b"head".to_vec()), (4, 17, b"more".to_vec())]);
        f.queue.call(op(Vec::new(), Some(Cut { from: 0, below: u32::MAX, to: u64::MAX }))).await.unwrap();
        assert!(places(f, fence).await.is_empty());
    }
}

async fn places(f: &Fixture, fence: Fence) -> Vec<(u32, u64, Vec<u8>)> {
    let op = ReadOutput { number: fence.number, attempt: None, after: None };
    let chunks = f.queue.call(op).await.unwrap().chunks;
    chunks.into_iter().map(|chunk| (chunk.seq, chunk.place, chunk.bytes)).collect()
}
