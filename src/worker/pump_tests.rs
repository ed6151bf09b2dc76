use std::future::{pending, ready};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::super::capture::{Beyond, Capture, DEFAULT_CAP};
use super::super::exit;
use super::super::testing::{Attempt, LIMIT, read_pids};
use super::*;
use crate::time::Timestamp;

/// Pumps an attempt to its end and returns what it wrote to each stream.
async fn pump_attempt(attempt: &Attempt, drain: Duration) -> (Pumped, Vec<u8>, Vec<u8>) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let pumping = pump(
        attempt.child.stdout.try_clone().unwrap(),
        attempt.child.stderr.try_clone().unwrap(),
        async { exit::ended(attempt.child.pidfd.as_fd()).await.unwrap() },
        drain,
        || ready(()),
        |stream, bytes| match stream {
            Stream::Stdout => out.extend_from_slice(bytes),
            Stream::Stderr => err.extend_from_slice(bytes),
        },
    );
    let pumped = tokio::time::timeout(LIMIT, pumping).await.unwrap().unwrap();
    (pumped, out, err)
}

#[tokio::test]
async fn both_streams_are_read_to_their_end() {
    let attempt = Attempt::shell("echo out; echo err >&2; echo more").await;
    let (pumped, out, err) = pump_attempt(&attempt, DEFAULT_DRAIN).await;
    assert!(!pumped.cut);
    assert_eq!((out.as_slice(), err.as_slice()), (&b"out\nmore\n"[..], &b"err\n"[..]));
}

#[tokio::test]
async fn what_the_kernel_does_not_watch_is_read_to_its_end_too() {
    let attempt = Attempt::shell("echo out; sleep 0.1; echo err >&2").await;
    let mut pipes = Pipes {
        stdout: Some(Pipe::Unwatched(attempt.child.stdout.try_clone().unwrap())),
        stderr: Some(Pipe::Unwatched(attempt.child.stderr.try_clone().unwrap())),
    };
    let mut said = Vec::new();
    let reading = async {
        while pipes.stdout.is_some() || pipes.stderr.is_some() {
            let stream = pipes.ready().await.unwrap();
            pipes.read(stream, READS_PER_TURN, &mut |_, bytes: &[u8]| said.extend_from_slice(bytes)).unwrap();
        }
    };
    tokio::time::timeout(LIMIT, reading).await.unwrap();
    assert_eq!(said, b"out\nerr\n");
    tokio::time::timeout(LIMIT, exit::look_until_ended(attempt.child.pidfd.as_fd())).await.unwrap();
}

#[tokio::test]
async fn pipes_that_are_closed_early_do_not_hold_the_pump() {
    let attempt = Attempt::shell("exec >/dev/null 2>&1; exec sleep 300").await;
    let pumping = pump(
        attempt.child.stdout.try_clone().unwrap(),
        attempt.child.stderr.try_clone().unwrap(),
        pending(),
        DEFAULT_DRAIN,
        || ready(()),
        |_, _| (),
    );
    let pumped = tokio::time::timeout(LIMIT, pumping).await.unwrap().unwrap();
    assert!(!pumped.cut);
}

#[tokio::test]
async fn a_daemon_that_holds_the_pipe_is_cut_off() {
    let attempt = Attempt::shell("sleep 300 & echo before").await;
    let begun = Instant::now();
    let (pumped, out, _) = pump_attempt(&attempt, Duration::from_millis(100)).await;
    assert!(pumped.cut);
    assert_eq!(out, b"before\n");
    assert!(begun.elapsed() >= Duration::from_millis(100));
}

#[tokio::test]
async fn a_daemon_that_never_stops_writing_is_cut_off() {
    let attempt = Attempt::shell("yes & exit 3").await;
    let (pumped, out, _) = pump_attempt(&attempt, Duration::from_millis(100)).await;
    assert!(pumped.cut);
    assert!(!out.is_empty());
}

#[tokio::test]
async fn what_was_written_before_the_time_was_up_is_kept() {
    let attempt = Attempt::shell("head -c 60000 /dev/zero; sleep 300 & echo $! >&2").await;
    let daemon = read_pids(&attempt.child.stderr);
    assert_eq!(daemon.len(), 1);
    exit::ended(attempt.child.pidfd.as_fd()).await.unwrap();
    // The last read alone: through `pump` the runtime's clock may leave time for an ordinary one.
    let mut pipes = Pipes {
        stdout: Some(Pipe::watch(attempt.child.stdout.try_clone().unwrap()).unwrap()),
        stderr: Some(Pipe::watch(attempt.child.stderr.try_clone().unwrap()).unwrap()),
    };
    let mut length = 0;
    let pumped = pipes.read_last(&mut |_, bytes: &[u8]| length += bytes.len());
    assert!(pumped.unwrap().cut);
    assert_eq!(length, 60_000);
}

#[tokio::test]
async fn a_pipe_that_is_never_empty_lets_other_tasks_run() {
    const BYTES: usize = 1 << 20;
    let full = || {
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).unwrap();
        rustix::pipe::fcntl_setpipe_size(&write, BYTES).unwrap();
        assert_eq!(rustix::io::write(&write, &vec![b'x'; BYTES]).unwrap(), BYTES);
        read
    };
    static TURNS: AtomicU64 = AtomicU64::new(0);
    let other = tokio::spawn(async {
        loop {
            TURNS.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
    });
    let (mut length, mut turns_before_the_last) = (0, 0);
    let pumping = pump(
        full(),
        full(),
        pending(),
        DEFAULT_DRAIN,
        || ready(()),
        |_, bytes| {
            length += bytes.len();
            turns_before_the_last = TURNS.load(Ordering::Relaxed);
        },
    );
    assert!(!pumping.await.unwrap().cut);
    other.abort();
    assert_eq!(length, 2 * BYTES);
    let expected = (2 * BYTES / CAPACITY / READS_PER_TURN - 1) as u64;
    assert!(turns_before_the_last >= expected, "{turns_before_the_last} of {expected}");
}

#[tokio::test]
async fn a_gibibyte_passes_near_pipe_speed_and_others_run_meanwhile() {
    let attempt = Attempt::shell("head -c 1073741824 /dev/zero").await;
    static TURNS: AtomicU64 = AtomicU64::new(0);
    // On this single-threaded runtime it runs only when the pump lets it.
    let other = tokio::spawn(async {
        loop {
            TURNS.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
    });
    let mut capture = Capture::new(DEFAULT_CAP, Beyond::AtEnd);
    let begun = Instant::now();
    let mut unsent = 0;
    let pumping = pump(
        attempt.child.stdout.try_clone().unwrap(),
        attempt.child.stderr.try_clone().unwrap(),
        async { exit::ended(attempt.child.pidfd.as_fd()).await.unwrap() },
        DEFAULT_DRAIN,
        || ready(()),
        |stream, bytes| {
            capture.push(stream, Timestamp(0), bytes);
            unsent = unsent.max(capture.unsent_bytes());
        },
    );
    let pumped = tokio::time::timeout(LIMIT, pumping).await.unwrap().unwrap();
    let rate = 1024.0 / begun.elapsed().as_secs_f64();
    let turns = TURNS.load(Ordering::Relaxed);
    other.abort();
    println!("{rate:.0} MiB/s through the pump, {turns} turns of another task");
    assert!(!pumped.cut);
    assert_eq!(capture.total(), 1 << 30);
    assert!(turns > 100, "{turns}");
}

#[tokio::test]
async fn who_has_no_room_is_given_no_more_until_the_time_is_up() {
    let (stdout, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).unwrap();
    let (stderr, _open) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).unwrap();
    let written = rustix::io::write(&write, &[0; CAPACITY]).unwrap();
    let (room, given) = (std::cell::Cell::new(1), std::cell::Cell::new(0));
    let leader_ended = async {
        while given.get() == 0 {
            tokio::task::yield_now().await;
        }
        rustix::io::write(&write, b"more").unwrap();
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        assert_eq!(given.get(), written, "there was room once");
    };
    let has_room = || {
        let left = room.replace(0);
        async move {
            if left == 0 {
                pending().await
            }
        }
    };
    let take = |_, bytes: &[u8]| given.set(given.get() + bytes.len());
    let pumping = pump(stdout, stderr, leader_ended, Duration::ZERO, has_room, take);
    assert!(tokio::time::timeout(LIMIT, pumping).await.unwrap().unwrap().cut);
    assert_eq!(given.get(), written + "more".len(), "what was written before the time was up is not lost");
}
