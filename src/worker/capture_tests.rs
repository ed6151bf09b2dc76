use std::time::Instant;

use proptest::prelude::*;

use super::*;

const AT: Timestamp = Timestamp(0);

fn of(stream: Stream, chunks: &[Chunk]) -> Vec<u8> {
    let mine = chunks.iter().filter(|chunk| chunk.stream == stream);
    mine.flat_map(|chunk| chunk.bytes.clone()).collect()
}

fn all(chunks: &[Chunk]) -> Vec<u8> {
    chunks.iter().flat_map(|chunk| chunk.bytes.clone()).collect()
}

/// What the capture holds, as the allocator sees it: capacities, the queue, and 16 bytes a block.
fn memory(capture: &Capture) -> usize {
    let pieces = |pieces: &Pieces| {
        let blocks: usize = pieces.queue.iter().map(|piece| (piece.bytes.capacity() + 16).max(32)).sum();
        blocks + pieces.queue.capacity() * size_of::<Piece>()
    };
    pieces(&capture.live) + pieces(&capture.tail)
}

fn assert_well_formed(chunks: &[Chunk]) {
    for (index, chunk) in chunks.iter().enumerate() {
        assert_eq!(chunk.seq as usize, index);
        assert!(chunk.bytes.len() <= MAX_CHUNK);
    }
}

#[test]
fn neighbours_of_one_stream_are_one_chunk() {
    let mut capture = Capture::new(DEFAULT_CAP);
    for (at, stream, text) in
        [(1, Stream::Stdout, "a"), (2, Stream::Stdout, "b"), (3, Stream::Stderr, "c"), (4, Stream::Stdout, "d")]
    {
        capture.push(stream, Timestamp(at), text.as_bytes());
    }
    assert_eq!(capture.unsent_bytes(), 4);
    let chunks = capture.take_live();
    assert_eq!(capture.unsent_bytes(), 0);
    let seen: Vec<_> = chunks.iter().map(|chunk| (chunk.seq, chunk.at.0, chunk.bytes.as_slice())).collect();
    assert_eq!(seen, [(0, 1, &b"ab"[..]), (1, 3, b"c"), (2, 4, b"d")]);
    capture.push(Stream::Stdout, AT, b"e");
    assert_eq!(capture.finish()[0].seq, 3);
}

#[test]
fn over_the_cap_head_and_tail_are_exact_and_the_gap_is_told() {
    let text: Vec<u8> = (0..100_u8).collect();
    for step in [1, 3, 7, 20, 33, 100] {
        let mut capture = Capture::new(20);
        for piece in text.chunks(step) {
            capture.push(Stream::Stdout, AT, piece);
        }
        assert_eq!((capture.total(), capture.dropped()), (100, 80));
        let chunks = capture.finish();
        let gaps: Vec<_> = chunks.iter().map(|chunk| chunk.gap).collect();
        assert_eq!(gaps, [0, 80], "in steps of {step}");
        assert_eq!(chunks[0].bytes, text[..10]);
        assert_eq!(chunks[1].bytes, text[90..]);
    }
}

#[test]
fn a_cap_of_nothing_is_marked_too() {
    let mut capture = Capture::new(0);
    capture.push(Stream::Stderr, AT, b"lost");
    let chunks = capture.finish();
    assert_eq!((chunks.len(), chunks[0].gap), (1, 4));
    assert!(Capture::new(0).finish().is_empty());
}

#[test]
fn exactly_the_cap_has_no_gap() {
    let mut capture = Capture::new(7);
    capture.push(Stream::Stdout, AT, b"1234567");
    let chunks = capture.finish();
    assert_eq!(all(&chunks), b"1234567");
    assert!(chunks.iter().all(|chunk| chunk.gap == 0));
}

#[test]
fn a_huge_cap_overflows_nothing() {
    let mut capture = Capture::new(u64::MAX);
    capture.push(Stream::Stdout, AT, b"x");
    assert_eq!(all(&capture.finish()), b"x");
}

#[test]
fn single_bytes_by_turns_stay_within_memory_and_in_order() {
    const BYTES: u32 = 3_000_000;
    let cap = 1024 * 1024;
    let mut capture = Capture::new(cap);
    let begun = Instant::now();
    let mut most = 0;
    for number in 0..BYTES {
        let stream = [Stream::Stdout, Stream::Stderr][number as usize % 2];
        capture.push(stream, AT, &[(number / 2 % 251) as u8]);
        if number % 1009 == 0 {
            most = most.max(memory(&capture));
        }
    }
    println!("{BYTES} pushes of 1 byte in {:?}, {most} bytes", begun.elapsed());
    assert!(most <= cap as usize + 128 * 1024, "{most}");
    let chunks = capture.finish();
    assert_well_formed(&chunks);
    assert_eq!(all(&chunks).len() as u64, cap);
    for stream in [Stream::Stdout, Stream::Stderr] {
        let bytes = of(stream, &chunks);
        // The head of each stream is a run; so is the tail, up to the end.
        let breaks = bytes.windows(2).filter(|pair| pair[1] != (pair[0] + 1) % 251);
        assert!(breaks.count() <= 1);
        assert_eq!(*bytes.last().unwrap(), ((BYTES / 2 - 1) % 251) as u8);
    }
}

#[test]
fn a_gibibyte_is_fast_and_bounded() {
    let piece: Vec<u8> = (0..MAX_CHUNK).map(|byte| byte as u8).collect();
    let mut capture = Capture::new(DEFAULT_CAP);
    let begun = Instant::now();
    let mut most = 0;
    for number in 0..16_384 {
        let stream = [Stream::Stdout, Stream::Stderr][number / 3 % 2];
        capture.push(stream, AT, &piece);
        most = most.max(memory(&capture));
    }
    let rate = 1024.0 / begun.elapsed().as_secs_f64();
    println!("{rate:.0} MiB/s into the capture, at most {most} bytes");
    assert!(most <= DEFAULT_CAP as usize + 128 * 1024, "{most}");
    assert_eq!(capture.dropped(), (1 << 30) - DEFAULT_CAP);
    let chunks = capture.finish();
    assert_well_formed(&chunks);
    assert_eq!(all(&chunks).len() as u64, DEFAULT_CAP);
}

proptest! {
    #[test]
    fn nothing_is_lost_under_the_cap_and_the_ends_are_kept_over_it(
        cap in 0_u64..3000,
        pushes in prop::collection::vec((any::<bool>(), 0_usize..700, any::<bool>()), 0..60),
    ) {
        let mut capture = Capture::new(cap);
        let mut written = Vec::new();
        let mut chunks = Vec::new();
        for (number, (stdout, length, take)) in pushes.into_iter().enumerate() {
            let stream = if stdout { Stream::Stdout } else { Stream::Stderr };
            let bytes: Vec<u8> = (0..length).map(|byte| (byte + number * 7) as u8).collect();
            written.extend(bytes.iter().map(|byte| (stream, *byte)));
            capture.push(stream, AT, &bytes);
            if take {
                chunks.extend(capture.take_live());
            }
        }
        let (total, dropped) = (capture.total(), capture.dropped());
        chunks.extend(capture.finish());
        assert_well_formed(&chunks);
        prop_assert_eq!(total, written.len() as u64);
        prop_assert_eq!(dropped, total.saturating_sub(cap));
        prop_assert_eq!(chunks.iter().map(|chunk| chunk.gap).sum::<u64>(), dropped);
        // So few pieces are never merged, so even the order between the streams is exact.
        let kept: Vec<_> = chunks
            .iter()
            .flat_map(|chunk| chunk.bytes.iter().map(|byte| (chunk.stream, *byte)))
            .collect();
        let mut expected = written.clone();
        if dropped > 0 {
            let head = (cap / 2) as usize;
            expected.drain(head..head + dropped as usize);
        }
        prop_assert_eq!(kept, expected);
    }
}
