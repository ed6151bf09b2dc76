use std::process::{Command, Stdio};
use std::time::Instant;

use super::super::exit::{Exit, reap_orphans};
use super::super::kill::Left;
use super::super::sweep::sweep;
use super::super::testing::{Attempt, LIMIT, eventually, is_alive, read_line, read_pids};
use super::*;

#[tokio::test]
async fn a_plain_tree_is_found_and_killed() {
    let mut attempt = Attempt::shell("sleep 300 & sleep 300 & echo $$ $! ; wait").await;
    let pids = read_pids(&attempt.child.stdout);
    eventually("three members", || attempt.pids().len() == 3);
    assert!(attempt.pids().contains(&pids[0]) && attempt.pids().contains(&pids[1]));
    assert!(attempt.kill());
    assert_eq!(attempt.exit().await, Exit::Signal(libc::SIGKILL));
    assert!(attempt.pids().is_empty());
}

#[tokio::test]
async fn a_grandchild_in_its_own_session_is_found() {
    let mut attempt = Attempt::shell("setsid sh -c 'echo $$; exec sleep 300' & wait").await;
    let pid = read_pids(&attempt.child.stdout)[0];
    assert!(attempt.pids().contains(&pid));
    assert!(attempt.kill());
    assert!(!is_alive(pid));
}

#[tokio::test]
async fn a_daemon_is_found_by_its_marker_after_the_leader_was_reaped() {
    let script = "(setsid sh -c 'echo $$; exec sleep 300' &)";
    let mut attempt = Attempt::shell(script).await;
    let pid = read_pids(&attempt.child.stdout)[0];
    assert_eq!(attempt.exit().await, Exit::Code(0));
    eventually("it is adopted", || {
        let census = Census::take().unwrap();
        census.children(std::process::id() as i32).contains(&pid)
    });
    assert_eq!(attempt.pids(), [pid]);
    assert!(attempt.kill());
    assert!(!is_alive(pid));
}

#[tokio::test]
async fn a_grandchild_without_marker_is_found_by_its_group() {
    let mut attempt = Attempt::shell("env -i /bin/sleep 300 & echo $!").await;
    let pid = read_pids(&attempt.child.stdout)[0];
    assert_eq!(attempt.exit().await, Exit::Code(0));
    assert_eq!(attempt.pids(), [pid]);
    assert!(attempt.kill());
    assert!(!is_alive(pid));
}

#[tokio::test]
async fn a_member_seen_once_is_not_lost_when_it_breaks_every_tie() {
    // A second session, an empty environment, and after the first look no parent either.
    let mut attempt = Attempt::python(
        "import os,time\n\
         r, w = os.pipe()\n\
         if os.fork() == 0:\n\
         \tos.setsid()\n\
         \tif os.fork() == 0:\n\
         \t\tos.setsid()\n\
         \t\tprint(os.getpid(), os.getppid(), flush=True)\n\
         \t\tos.execve('/bin/sleep', ['sleep', '300'], {})\n\
         \ttime.sleep(300)\n\
         os.wait()",
    )
    .await;
    let pids = read_pids(&attempt.child.stdout);
    assert!(attempt.pids().contains(&pids[0]));
    let middle = Pid::from_raw(pids[1]).unwrap();
    rustix::process::kill_process(middle, Signal::KILL).unwrap();
    attempt.exit().await;
    eventually("only the daemon is left", || attempt.pids() == [pids[0]]);
    assert!(attempt.kill());
    assert!(!is_alive(pids[0]));
}

#[tokio::test]
async fn one_that_ignores_term_is_killed() {
    let mut attempt = Attempt::shell("trap '' TERM; echo ready; while :; do sleep 300; done").await;
    read_line(&attempt.child.stdout);
    attempt.tree.signal(Signal::TERM).unwrap();
    assert!(is_alive(attempt.child.pid));
    assert!(attempt.kill());
    assert_eq!(attempt.exit().await, Exit::Signal(libc::SIGKILL));
}

#[tokio::test]
async fn a_stopped_process_gets_term() {
    let mut attempt = Attempt::shell("trap 'echo got; exit 7' TERM; echo ready; kill -STOP $$").await;
    read_line(&attempt.child.stdout);
    eventually("it is stopped", || is_stopped(attempt.child.pid));
    attempt.tree.signal(Signal::TERM).unwrap();
    assert_eq!(attempt.exit().await, Exit::Code(7));
    assert_eq!(read_line(&attempt.child.stdout), "got");
}

#[tokio::test]
async fn a_signal_is_delivered_once_to_each() {
    // A real-time signal, for of a standard one two that are pending count as one. Blocked until both have come.
    let python = "import os,signal\n\
        counted = signal.SIGRTMIN + 3\n\
        signal.pthread_sigmask(signal.SIG_BLOCK, [counted, signal.SIGUSR2])\n\
        if os.fork() == 0: os.setsid()\n\
        print('ready', flush=True)\n\
        signal.sigwait([signal.SIGUSR2])\n\
        n = 0\n\
        while signal.sigtimedwait([counted], 0): n += 1\n\
        print('count', n, flush=True)\n\
        signal.pause()";
    let mut attempt = Attempt::python(python).await;
    read_line(&attempt.child.stdout);
    read_line(&attempt.child.stdout);
    // SAFETY: the number is within the real-time range and not one the C library uses.
    let counted = unsafe { Signal::from_raw_unchecked(libc::SIGRTMIN() + 3) };
    assert_eq!(attempt.tree.signal(counted).unwrap(), 2);
    attempt.tree.signal(Signal::USR2).unwrap();
    assert_eq!(read_line(&attempt.child.stdout), "count 1");
    assert_eq!(read_line(&attempt.child.stdout), "count 1");
}

#[tokio::test]
async fn an_exec_chain_stays_one_member() {
    let script = "exec sh -c 'exec sh -c \"echo done; exec sleep 300\"'";
    let mut attempt = Attempt::shell(script).await;
    read_line(&attempt.child.stdout);
    assert_eq!(attempt.pids(), [attempt.child.pid]);
    assert!(attempt.kill());
}

#[tokio::test]
async fn a_fork_loop_is_beaten() {
    // Each generation leaves its session and dies at once: no pid is there for long, no group holds two. At most two
    // thousand generations, and no wider than three, so a failing test is no disaster.
    let python = "import os,time\n\
        for branch in range(3):\n\
        \tif os.fork() == 0:\n\
        \t\tprint('ready', flush=True)\n\
        \t\tfor generation in range(2000):\n\
        \t\t\tif os.fork(): os._exit(0)\n\
        \t\t\tos.setsid()\n\
        \t\t\ttime.sleep(0.002)\n\
        \t\ttime.sleep(300)\n\
        os._exit(0)";
    let mut attempt = Attempt::python(python).await;
    let Marker::Adopted(marker) = &attempt.tree.marker else { unreachable!() };
    let marker = marker.clone();
    for _ in 0..3 {
        read_line(&attempt.child.stdout);
    }
    assert!(attempt.kill());
    let left = Census::take().unwrap();
    let marked = |pid| census::mark_of(pid, |entry| entry == marker) == Mark::Has;
    assert_eq!(left.iter().filter(|(pid, _)| marked(*pid)).count(), 0);
}

#[tokio::test]
async fn a_look_never_says_nobody_while_a_fork_loop_runs() {
    // As above, and twice as fast; it stops after some seconds, whatever the test does.
    let python = "import os,time\n\
        if os.fork() == 0:\n\
        \tfor generation in range(3000):\n\
        \t\tif os.fork(): os._exit(0)\n\
        \t\tos.setsid()\n\
        \t\ttime.sleep(0.001)\n\
        \ttime.sleep(300)\n\
        os._exit(0)";
    let mut attempt = Attempt::python(python).await;
    assert_eq!(attempt.exit().await, Exit::Code(0));
    let begun = Instant::now();
    let mut missed = 0;
    while begun.elapsed() < std::time::Duration::from_secs(1) {
        let look = attempt.tree.look();
        assert_ne!(look, Left::Nobody);
        missed += usize::from(look == Left::Unsure);
        reap_orphans().unwrap();
    }
    if missed == 0 {
        println!("this machine was too busy for the loop to escape a single look");
    }
    assert!(attempt.kill());
    assert_eq!(attempt.tree.look(), Left::Nobody);
}

#[tokio::test]
async fn all_are_stopped_before_anybody_is_killed() {
    let mut attempt = Attempt::shell("setsid sh -c 'echo $$; exec sleep 300' & wait").await;
    let pid = read_pids(&attempt.child.stdout)[0];
    attempt.tree.freeze(Instant::now() + LIMIT);
    for pid in [pid, attempt.child.pid] {
        eventually("it is stopped", || is_stopped(pid));
    }
    assert!(attempt.kill());
}

#[tokio::test]
async fn a_wide_fork_bomb_is_beaten() {
    let python = "import os,time\n\
        print('ready', flush=True)\n\
        for generation in range(8):\n\
        \tos.fork()\n\
        \tos.setpgid(0, 0)\n\
        time.sleep(300)";
    let mut attempt = Attempt::python(python).await;
    read_line(&attempt.child.stdout);
    assert!(attempt.kill());
    assert!(attempt.pids().is_empty());
}

#[tokio::test]
async fn a_process_whose_main_thread_ended_is_alive() {
    let python = "import ctypes,os,threading,time\n\
        os.setsid() if os.getpid() != os.getpgrp() else None\n\
        threading.Thread(target=time.sleep, args=(300,)).start()\n\
        print('ready', flush=True)\n\
        ctypes.CDLL(None).pthread_exit(None)";
    let mut attempt = Attempt::python(python).await;
    read_line(&attempt.child.stdout);
    eventually("the main thread ends", || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", attempt.child.pid)).unwrap();
        stat.contains(") Z ")
    });
    assert_eq!(attempt.pids(), [attempt.child.pid]);
    assert!(attempt.kill());
    assert_eq!(attempt.exit().await, Exit::Signal(libc::SIGKILL));
}

#[tokio::test]
async fn a_recycled_pid_is_never_hit() {
    let mut attempt = Attempt::shell("echo ready; exec sleep 300").await;
    read_line(&attempt.child.stdout);
    let process = attempt.tree.members().unwrap()[0];
    let other = Process { start_time: process.start_time + 1, ..process };
    assert!(open(process).is_some());
    assert!(open(other).is_none());
}

#[tokio::test]
async fn orphans_are_reaped_and_leaders_are_not() {
    let mut attempt = Attempt::shell("(setsid sh -c 'echo $$' &)").await;
    let orphan = read_pids(&attempt.child.stdout)[0];
    let gone = || census::start_time(orphan).is_err();
    eventually("the orphan is reaped", || {
        reap_orphans().unwrap();
        gone()
    });
    assert!(attempt.child.started().is_ok(), "the leader is a zombie yet");
    assert_eq!(attempt.exit().await, Exit::Code(0));
    assert!(attempt.kill());
}

#[tokio::test]
async fn one_tree_does_not_see_another() {
    let mut one = Attempt::shell("sleep 300 & echo $!; wait").await;
    let mut other = Attempt::shell("(setsid sleep 300 &); echo; wait").await;
    read_line(&one.child.stdout);
    read_line(&other.child.stdout);
    assert!(one.kill());
    eventually("the daemon runs", || !other.pids().is_empty());
    assert!(other.pids().iter().all(|pid| !one.pids().contains(pid)));
    assert!(other.kill());
}

fn is_stopped(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.contains(") T ")
}

#[test]
fn a_marker_without_a_name_marks_nobody() {
    for nameless in ["", "ORX", "=", "=x"] {
        for marker in [Marker::Adopted(nameless.into()), Marker::Anywhere(vec![nameless.into()])] {
            for entry in ["", "ORX", "ORX=1", "=", "=x"] {
                assert!(!marker.accepts(entry.as_bytes()), "{marker:?} {entry:?}");
            }
        }
    }
    assert!(Marker::Adopted(b"A=1".to_vec()).accepts(b"A=1"));
    assert!(!Marker::Adopted(b"A=1".to_vec()).accepts(b"A=12"));
    assert!(Marker::Anywhere(vec![b"B=1".to_vec(), b"A=1".to_vec()]).accepts(b"A=12"));
}

#[tokio::test]
async fn a_tree_without_marker_leaves_the_orphans_of_others() {
    let mut attempt = Attempt::shell("(setsid sh -c 'echo $$; exec sleep 300' &)").await;
    let orphan = read_pids(&attempt.child.stdout)[0];
    attempt.exit().await;
    eventually("it is adopted", || attempt.pids() == [orphan]);
    let stranger = Attempt::shell("exec sleep 300").await;
    let pidfd = stranger.child.pidfd.try_clone().unwrap();
    let mut unmarked = Tree::new(stranger.child.pid, pidfd, Vec::new());
    unmarked.snatch(Instant::now() + LIMIT);
    assert!(unmarked.kill_all(Instant::now() + LIMIT));
    assert!(is_alive(orphan));
    assert!(attempt.kill());
}

#[tokio::test]
async fn an_orphan_is_snatched_by_its_marker() {
    let mut attempt = Attempt::shell("(setsid sh -c 'echo $$; exec sleep 300' &)").await;
    let orphan = read_pids(&attempt.child.stdout)[0];
    attempt.exit().await;
    eventually("it is adopted", || attempt.pids() == [orphan]);
    attempt.tree.snatch(Instant::now() + LIMIT);
    eventually("it dies", || !is_alive(orphan));
}

/// Kills what a test started outside the spawner, and everything below it.
struct Leftover(std::process::Child);

impl Drop for Leftover {
    fn drop(&mut self) {
        let pid = self.0.id() as i32;
        let pidfd = pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).unwrap();
        Tree::new(pid, pidfd, Vec::new()).kill_all(Instant::now() + LIMIT);
        let _ = self.0.wait();
    }
}

#[test]
fn a_sweep_kills_the_predecessors_trees_and_nobody_else() {
    let prefix = format!("ORX_SWEPT={}/", std::process::id());
    let start = |value: &str| {
        let child = Command::new("sh")
            .args(["-c", "env -i setsid sleep 300 & echo $!; wait"])
            .env("ORX_SWEPT", value)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        Leftover(child.unwrap())
    };
    let mut marked = start(&format!("{}/7/1", std::process::id()));
    let other = start(&format!("{}0/7/1", std::process::id()));
    let unmarked_child = read_pids(&marked.0.stdout.take().unwrap().into())[0];
    let swept = sweep(vec![b"ORX_SWEPT=none".to_vec(), prefix.into_bytes()], Instant::now() + LIMIT);
    assert!(swept.found >= 2, "{swept:?}");
    assert!(!is_alive(unmarked_child));
    assert!(!is_alive(marked.0.id() as i32));
    assert!(is_alive(other.0.id() as i32));
}

#[test]
fn a_sweep_without_a_variable_name_matches_nobody() {
    assert_eq!(sweep(vec![b"".to_vec(), b"ORX".to_vec()], Instant::now() + LIMIT).found, 0);
}

#[tokio::test]
async fn a_sweep_spares_the_living_attempts_of_this_process() {
    let mut attempt = Attempt::shell("sleep 300 & echo $!; wait").await;
    let pid = read_pids(&attempt.child.stdout)[0];
    let Marker::Adopted(mark) = &attempt.tree.marker else { unreachable!() };
    assert_eq!(sweep(vec![mark.clone()], Instant::now() + LIMIT).found, 0);
    assert!(is_alive(pid));
    assert!(attempt.kill());
}

#[tokio::test]
async fn a_deadline_in_the_past_still_kills_once_and_returns() {
    let mut attempt = Attempt::shell("echo ready; exec sleep 300").await;
    read_line(&attempt.child.stdout);
    attempt.tree.kill_all(Instant::now());
    assert_eq!(attempt.exit().await, Exit::Signal(libc::SIGKILL));
}

#[test]
fn the_cost_of_a_census() {
    let begun = Instant::now();
    let census = Census::take().unwrap();
    println!("{} processes in {:?}", census.iter().count(), begun.elapsed());
}
