//! Real coordinators that run each other's jobs.

use std::collections::BTreeMap;

use rustix::process::Signal;

use super::coordinators::coordinator;
use crate::cli::support::*;

/// Coordinators that gossip with the first of them, each with a store of its own.
struct Cluster {
    homes: Vec<Orx>,
    nodes: Vec<Option<Running>>,
    key: String,
    first: String,
}

const NAMES: [&str; 3] = ["a", "b", "c"];

impl Cluster {
    /// Starts one for each of `options`, and waits until all know all.
    fn start(options: &[&[&str]]) -> Self {
        let homes: Vec<Orx> = options.iter().map(|_| Orx::file()).collect();
        let key = homes[0].path("cluster.key").to_str().unwrap().to_owned();
        homes[0].ok(&["cluster", "key", &key]);
        let mut cluster = Self { homes, nodes: Vec::new(), key, first: String::new() };
        for (n, options) in options.iter().enumerate() {
            let node = cluster.node(n, options);
            cluster.nodes.push(Some(node));
        }
        for (n, node) in cluster.nodes.iter().enumerate() {
            for (m, name) in NAMES.iter().enumerate().take(options.len()) {
                if n != m {
                    node.as_ref().unwrap().wait_stderr(&format!("a peer is there peer={name}"));
                }
            }
        }
        cluster
    }

    fn node(&mut self, n: usize, options: &[&str]) -> Running {
        let peer = self.first.clone();
        let peer: &[&str] = if peer.is_empty() { &[] } else { &["--peer", &peer] };
        let (node, address) = coordinator(&self.homes[n], NAMES[n], &self.key, &[peer, options].concat());
        if self.first.is_empty() {
            self.first = address;
        }
        node
    }

    fn running(&self, n: usize) -> &Running {
        self.nodes[n].as_ref().unwrap()
    }

    /// Which worker ran how many of the jobs of home `n`, by what the jobs wrote.
    fn ran(&self, n: usize) -> BTreeMap<String, usize> {
        let mut ran = BTreeMap::new();
        for line in self.homes[n].read("ran").lines() {
            *ran.entry(line.split(' ').nth(1).unwrap().to_owned()).or_default() += 1;
        }
        ran
    }

    /// Stores `count` jobs at home `n` that write who runs them, and take a while.
    fn add(&self, n: usize, count: usize, options: &[&str], seconds: &str) {
        let home = &self.homes[n];
        let list: String = (1..=count).map(|i| format!("{i}\n")).collect();
        let list = home.write("list", list);
        let script = format!("echo $ORX_JOB_ID $ORX_WORKER >> {}; sleep {seconds}", home.path("ran").display());
        let command = ["-q", "enqueue", "--each-line", &list];
        home.ok(&[&command[..], options, &["--", "sh", "-c", &script, "{}"]].concat());
    }

    fn wait_done(&self, n: usize, count: usize) {
        let done = || self.homes[n].states().split(' ').filter(|state| *state == "done").count();
        eventually("all jobs to be done", || done() == count);
    }

    /// Nothing at any home contradicts what must hold.
    fn audit(&self) {
        for home in &self.homes {
            home.ok(&["audit"]);
            home.ok(&["db", "check"]);
        }
    }
}

#[test]
fn three_coordinators_run_the_jobs_of_one_each_once() {
    let cluster = Cluster::start(&[&["--slots", "1"], &["--slots", "2"], &["--slots", "2"]]);
    cluster.add(0, 60, &[], "0.05");
    cluster.wait_done(0, 60);
    let lines = cluster.homes[0].read("ran");
    let mut jobs: Vec<&str> = lines.lines().map(|line| line.split(' ').next().unwrap()).collect();
    jobs.sort_unstable();
    jobs.dedup();
    let ran = cluster.ran(0);
    assert_eq!((jobs.len(), ran.values().sum::<usize>()), (60, 60), "{ran:?}");
    assert!(ran.keys().any(|worker| worker.starts_with("peer-")), "{ran:?}");
    cluster.audit();
    for mut node in cluster.nodes {
        node.take().unwrap().stop().expect(0, &[]);
    }
}

#[test]
fn a_queue_that_is_not_shared_and_a_node_that_does_not_give_keep_their_jobs() {
    let cluster = Cluster::start(&[&[], &["--slots", "2"], &["--share", "take"]]);
    cluster.homes[0].ok(&["queue", "set", "mine", "--share", "no"]);
    assert!(cluster.homes[0].ok(&["queue", "list"]).contains("not shared"));
    cluster.add(0, 3, &["--queue", "mine"], "0");
    cluster.add(2, 3, &[], "0");
    cluster.add(0, 3, &["--require", "arch=z80"], "0");
    // These are the last that are stored: when they are done, all others could have been.
    cluster.add(0, 3, &[], "0");
    eventually("what is shared to be done", || cluster.ran(0).values().sum::<usize>() == 3);
    assert_eq!(cluster.ran(0).keys().collect::<Vec<_>>(), ["peer-b"]);
    assert_eq!(cluster.homes[2].states(), "pending pending pending");
    cluster.homes[0].ok(&["queue", "set", "mine", "--share", "yes"]);
    eventually("the queue to be shared", || cluster.ran(0).values().sum::<usize>() == 6);
    assert_eq!(cluster.homes[2].states(), "pending pending pending");
    cluster.audit();
}

#[test]
fn jobs_of_a_helper_that_is_killed_are_back_home_within_their_lease() {
    let mut cluster = Cluster::start(&[&[], &["--slots", "2"]]);
    cluster.add(0, 2, &[], "60");
    eventually("the helper to run both", || cluster.ran(0).values().sum::<usize>() == 2);
    let killed = std::time::Instant::now();
    cluster.nodes[1].take().unwrap().kill();
    cluster.running(0).wait_stderr("a peer is gone peer=b");
    // Its successor on the same host owns the name, and so takes the jobs back at once (S8).
    let again = cluster.node(1, &["--slots", "2"]);
    cluster.nodes[1] = Some(again);
    eventually("both to run again", || cluster.ran(0).values().sum::<usize>() == 4);
    assert!(killed.elapsed().as_secs() < 17, "{:?}", killed.elapsed());
    cluster.homes[0].ok(&["cancel", "--all", "--yes"]);
    eventually("both to end", || cluster.homes[0].states() == "cancelled cancelled");
    cluster.audit();
}

#[test]
fn a_banned_node_gets_no_jobs_and_is_seen_by_nobody() {
    let mut cluster = Cluster::start(&[&[], &["--slots", "2"]]);
    cluster.homes[0].run(&["cluster", "ban", "--file", &cluster.key, "b"]).expect(0, &["b is banned", "SIGHUP"]);
    cluster.running(0).signal(Signal::HUP);
    cluster.running(0).wait_stderr("a peer is gone peer=b");
    cluster.add(0, 2, &[], "0");
    cluster.running(0).wait_stderr("b at 127.0.0.1");
    assert_eq!(cluster.homes[0].states(), "pending pending");
    cluster.homes[0].run(&["cluster", "unban", "--file", &cluster.key, "b"]).expect(0, &["banned no more"]);
    cluster.homes[0].run(&["cluster", "unban", "--file", &cluster.key, "b"]).expect(3, &["is not banned"]);
    cluster.running(0).signal(Signal::HUP);
    cluster.wait_done(0, 2);
    cluster.nodes.remove(1);
    cluster.audit();
}
