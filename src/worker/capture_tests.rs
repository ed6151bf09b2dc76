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

/// How many bytes are missing between chunks.
fn missing(chunks: &[Chunk]) -> u64 {
    let mut seen = 0;
    let gaps = chunks.iter().map(|chunk| chunk.place - std::mem::replace(&mut seen, chunk.end()));
    gaps.sum()
}

fn assert_well_formed(chunks: &[Chunk]) {
    for (index, chunk) in chunks.iter().enumerate() {
        assert_eq!(chunk.seq as usize, index);
        assert!(chunk.bytes.len() <= MAX_CHUNK);
    }
}

#[test]
fn neighbours_of_one_stream_are_one_chunk() {
    let mut capture = Capture::new(DEFAULT_CAP, Beyond::AtEnd);
    for (at, stream, text) in
        [(1, Stream::Stdout, "a"), (2, Stream::Stdout, "b"), (3, Stream::Stderr, "c"), (4, Stream::Stdout, "d")]
    {
        capture.push(stream, Timestamp(at), text.as_bytes());
    }
    assert_eq!(capture.unsent_bytes(), 4);
    let chunks = capture.take(AT, usize::MAX).0;
    assert_eq!(capture.unsent_bytes(), 0);
    let seen: Vec<_> = chunks.iter().map(|chunk| (chunk.seq, chunk.at.0, chunk.bytes.as_slice())).collect();
    assert_eq!(seen, [(0, 1, &b"ab"[..]), (1, 3, b"c"), (2, 4, b"d")]);
    capture.push(Stream::Stdout, AT, b"e");
    assert_eq!(capture.finish().0[0].seq, 3);
}

#[test]
fn over_the_cap_head_and_tail_are_exact_and_the_gap_is_told() {
    let text: Vec<u8> = (0..100_u8).collect();
    for step in [1, 3, 7, 20, 33, 100] {
        let mut capture = Capture::new(20, Beyond::AtEnd);
        for piece in text.chunks(step) {
            capture.push(Stream::Stdout, AT, piece);
        }
        assert_eq!(capture.total(), 100);
        let chunks = capture.finish().0;
        let places: Vec<_> = chunks.iter().map(|chunk| chunk.place).collect();
        assert_eq!(places, [0, 90], "in steps of {step}");
        assert_eq!(chunks[0].bytes, text[..10]);
        assert_eq!(chunks[1].bytes, text[90..]);
    }
}

#[test]
fn a_cap_of_nothing_is_marked_too() {
    let mut capture = Capture::new(0, Beyond::AtEnd);
    capture.push(Stream::Stderr, AT, b"lost");
    let chunks = capture.finish().0;
    assert_eq!((chunks.len(), chunks[0].place), (1, 4));
    assert!(Capture::new(0, Beyond::AtEnd).finish().0.is_empty());
}

#[test]
fn exactly_the_cap_has_no_gap() {
    let mut capture = Capture::new(7, Beyond::AtEnd);
    capture.push(Stream::Stdout, AT, b"1234567");
    let chunks = capture.finish().0;
    assert_eq!(all(&chunks), b"1234567");
    assert_eq!(missing(&chunks), 0);
}

#[test]
fn a_huge_cap_overflows_nothing() {
    let mut capture = Capture::new(u64::MAX, Beyond::AtEnd);
    capture.push(Stream::Stdout, AT, b"x");
    assert_eq!(all(&capture.finish().0), b"x");
}

#[test]
fn single_bytes_by_turns_stay_within_memory_and_in_order() {
    const BYTES: u32 = 3_000_000;
    let cap = 1024 * 1024;
    let mut capture = Capture::new(cap, Beyond::AtEnd);
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
    let chunks = capture.finish().0;
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
    let mut capture = Capture::new(DEFAULT_CAP, Beyond::AtEnd);
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
    let chunks = capture.finish().0;
    assert_eq!(missing(&chunks), (1 << 30) - DEFAULT_CAP);
    assert_well_formed(&chunks);
    assert_eq!(all(&chunks).len() as u64, DEFAULT_CAP);
}

proptest! {
    #[test]
    fn nothing_is_lost_under_the_cap_and_the_ends_are_kept_over_it(
        cap in 0_u64..3000,
        pushes in prop::collection::vec((any::<bool>(), 0_usize..700, any::<bool>()), 0..60),
    ) {
        let mut capture = Capture::new(cap, Beyond::AtEnd);
        let mut written = Vec::new();
        let mut chunks = Vec::new();
        for (number, (stdout, length, take)) in pushes.into_iter().enumerate() {
            let stream = if stdout { Stream::Stdout } else { Stream::Stderr };
            let bytes: Vec<u8> = (0..length).map(|byte| (byte + number * 7) as u8).collect();
            written.extend(bytes.iter().map(|byte| (stream, *byte)));
            capture.push(stream, AT, &bytes);
            if take {
                chunks.extend(capture.take(AT, usize::MAX).0);
            }
        }
        let total = capture.total();
        chunks.extend(capture.finish().0);
        let dropped = missing(&chunks);
        assert_well_formed(&chunks);
        prop_assert_eq!(total, written.len() as u64);
        prop_assert_eq!(dropped, total.saturating_sub(cap));
        // So few pieces are never merged, so even the order between the streams is exact.
        let kept: Vec<_> = chunks
            .iter()
            .flat_map(|chunk| chunk.bytes.iter().map(|byte| (chunk.stream, *byte)))
            .collect();
        prop_assert_eq!(kept, halves(&written, cap));
    }

    #[test]
    fn what_is_stored_live_misses_nothing_and_ends_as_the_halves(
        cap in 0_u64..3000,
        pushes in prop::collection::vec((any::<bool>(), 0_usize..300, 0_i64..4000), 0..60),
    ) {
        let mut capture = Capture::new(cap, Beyond::Live);
        let (mut written, mut now, mut read) = (Vec::new(), 0, 0);
        let mut stored: Vec<(Chunk, i64)> = Vec::new();
        for (number, (stdout, length, pause)) in pushes.into_iter().enumerate() {
            let stream = if stdout { Stream::Stdout } else { Stream::Stderr };
            // More would be pushed out of the ring before it can be stored.
            let length = length.min((cap - cap / 2) as usize);
            let bytes: Vec<u8> = (0..length).map(|byte| (byte + number * 7) as u8).collect();
            written.extend(bytes.iter().map(|byte| (stream, *byte)));
            now += pause;
            capture.push(stream, Timestamp(now), &bytes);
            loop {
                let (chunks, cut) = capture.take(Timestamp(now), 70);
                for chunk in &chunks {
                    prop_assert_eq!(chunk.place, read, "whoever keeps up misses nothing");
                    read = chunk.end();
                }
                stored.extend(chunks.into_iter().map(|chunk| (chunk, now)));
                if let Some(cut) = cut {
                    for (chunk, at) in &stored {
                        let goes = cut.from <= chunk.seq && chunk.seq < cut.below && chunk.place < cut.to;
                        let is_much = read - chunk.place + cap / PARTS + 300 > 4 * cap;
                        prop_assert!(!goes || (chunk.end() + (cap - cap / 2) <= read && (is_much || now - at > 10_000)));
                    }
                }
                apply(&mut stored, cut);
                if capture.unsent_bytes() == 0 {
                    break;
                }
            }
            let kept: u64 = stored.iter().map(|(chunk, _)| chunk.bytes.len() as u64).sum();
            prop_assert!(kept <= cap / 2 + 4 * cap + cap / PARTS + 300, "{} bytes", kept);
        }
        let (chunks, cut) = capture.finish();
        stored.extend(chunks.into_iter().map(|chunk| (chunk, now)));
        apply(&mut stored, cut);
        let kept: Vec<_> =
            stored.iter().flat_map(|(chunk, _)| chunk.bytes.iter().map(|byte| (chunk.stream, *byte))).collect();
        prop_assert_eq!(kept, halves(&written, cap));
        let chunks: Vec<Chunk> = stored.into_iter().map(|(chunk, _)| chunk).collect();
        prop_assert_eq!(missing(&chunks), (written.len() as u64).saturating_sub(cap));
    }
}

const PARTS: u64 = 64;

/// The first and the last half of a cap.
fn halves(written: &[(Stream, u8)], cap: u64) -> Vec<(Stream, u8)> {
    let mut kept = written.to_vec();
    let dropped = written.len().saturating_sub(cap as usize);
    if dropped > 0 {
        let head = (cap / 2) as usize;
        kept.drain(head..head + dropped);
    }
    kept
}

/// What the store does.
fn apply(stored: &mut Vec<(Chunk, i64)>, cut: Option<Cut>) {
    let Some(cut) = cut else { return };
    let keeps = |chunk: &mut Chunk| {
        if chunk.seq < cut.from || chunk.seq >= cut.below || chunk.place >= cut.to {
            return true;
        }
        if chunk.end() <= cut.to {
            return false;
        }
        chunk.bytes.drain(..(cut.to - chunk.place) as usize);
        chunk.place = cut.to;
        true
    };
    stored.retain_mut(|(chunk, _)| keeps(chunk));
}

/// Where the store is slower than the job, the oldest is lost in memory, and memory stays bounded.
#[test]
fn what_is_taken_too_seldom_loses_its_oldest_bytes_and_says_so() {
    let mut capture = Capture::new(20, Beyond::Live);
    capture.push(Stream::Stdout, AT, &[1; 30]);
    let (chunks, cut) = capture.take(AT, usize::MAX);
    assert_eq!(chunks.iter().map(|chunk| (chunk.place, chunk.bytes.len())).collect::<Vec<_>>(), [(0, 10), (20, 10)]);
    assert_eq!(cut, None);
    capture.push(Stream::Stdout, AT, &[2; 5]);
    let (chunks, cut) = capture.finish();
    assert_eq!((chunks[0].place, chunks[0].bytes.len()), (30, 5));
    assert_eq!(cut, Some(Cut { from: 1, below: 2, to: 25 }));
}
