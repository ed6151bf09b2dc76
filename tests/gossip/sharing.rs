//! Real coordinators that run each other's jobs.

use std::collections::BTreeMap;

use rustix::process::Signal;

use super::coordinators::coordinator;
use crate::cli::support::*;
use crate::cli::verbatim;

/// Coordinators that gossip with the first of them, each with a store of its own.
pub struct Cluster {
    pub homes: Vec<Orx>,
    pub nodes: Vec<Option<Running>>,
    key: String,
    first: String,
}

/// In milliseconds.
const LEASE: u128 = 2000;
const NAMES: [&str; 3] = ["a", "b", "c"];

impl Cluster {
    /// Starts one for each of `options`, and waits until all know all. Leases are short.
    pub fn start(options: &[&[&str]]) -> Self {
        Self::start_with(options, &format!("[worker]\nlease = \"{LEASE}ms\"\n"))
    }

    fn start_with(options: &[&[&str]], config: &str) -> Self {
        let homes: Vec<Orx> = options.iter().map(|_| Orx::file()).collect();
        homes.iter().for_each(|home| drop(home.write(".config/orx/config.toml", config)));
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

    /// Where the API of node `n` is.
    pub fn url(&self, n: usize) -> String {
        let said = self.running(n).stderr();
        said.split("url=").nth(1).unwrap().split_whitespace().next().unwrap().to_owned()
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
    pub fn audit(&self) {
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
    // Those that help first: they say good-bye to a home that is there.
    for mut node in cluster.nodes.into_iter().rev() {
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
fn a_job_of_a_helper_that_is_killed_runs_elsewhere_when_its_lease_has_ended() {
    let mut cluster = Cluster::start(&[&[], &["--slots", "1"], &["--slots", "1"]]);
    cluster.add(0, 1, &[], "60");
    eventually("a helper to run it", || cluster.ran(0).len() == 1);
    let victim = usize::from(cluster.ran(0).contains_key("peer-c")) + 1;
    let killed = std::time::Instant::now();
    cluster.nodes[victim].take().unwrap().kill();
    eventually("the other to run it", || cluster.ran(0).len() == 2);
    // Never sooner than the lease may last, and no later than two seconds after; more where the machine is busy.
    let took = killed.elapsed().as_millis();
    assert!((1000..LEASE + 2000 + 3000).contains(&took), "{took} ms");
    let job = cluster.homes[0].job("1");
    assert_eq!((&job["attempts"][0]["outcome"], &job["losses"]), (&"lost".into(), &1.into()), "{job}");
    cluster.homes[0].ok(&["cancel", "1"]);
    cluster.homes[0].wait_state("1", "cancelled");
    cluster.audit();
}

#[test]
fn a_home_that_is_killed_finds_its_jobs_and_their_ends_when_it_is_back() {
    let [api, gossip] = [super::free_address(), super::free_address()].map(|address| address.to_string());
    let fixed = ["--listen", &api, "--gossip-listen", &gossip];
    let mut cluster = Cluster::start_with(&[&fixed, &["--slots", "1"], &["--slots", "1"]], "");
    cluster.add(0, 2, &[], "1");
    eventually("the helpers to run both", || cluster.ran(0).values().sum::<usize>() == 2);
    cluster.nodes[0].take().unwrap().kill();
    // The others go on, with their own and each other's.
    cluster.add(1, 3, &[], "0");
    cluster.wait_done(1, 3);
    let again = cluster.node(0, &fixed);
    cluster.nodes[0] = Some(again);
    cluster.wait_done(0, 2);
    for number in ["1", "2"] {
        let job = cluster.homes[0].job(number);
        assert_eq!((job["attempt"].as_u64(), job["losses"].as_u64()), (Some(1), Some(0)), "{job}");
    }
    cluster.audit();
}

#[test]
fn a_banned_node_gets_no_jobs_and_is_seen_by_nobody() {
    let mut cluster = Cluster::start(&[&[], &["--slots", "2"]]);
    // What it runs now ends with its right to run it, and so do the processes that ran away from it.
    let script = "setsid sleep 60 & echo $! > away; echo $$ > pid; exec sleep 60";
    cluster.homes[0].ok(&["enqueue", "--cwd", cluster.homes[0].path("").to_str().unwrap(), "--", "sh", "-c", script]);
    let pids = ["pid", "away"].map(|file| cluster.homes[0].wait_pid(file));
    cluster.homes[0].run(&["cluster", "ban", "--file", &cluster.key, "b"]).expect(0, &["b is banned", "SIGHUP"]);
    cluster.running(0).signal(Signal::HUP);
    cluster.running(0).wait_stderr("a peer is gone peer=b");
    eventually("its job to be ended", || pids.iter().all(|pid| !is_alive(*pid)));
    eventually("the job to be back", || cluster.homes[0].state("1") == "pending");
    cluster.homes[0].ok(&["cancel", "1"]);
    cluster.add(0, 2, &[], "0");
    cluster.running(0).wait_stderr("b at 127.0.0.1");
    assert_eq!(cluster.homes[0].states(), "cancelled pending pending");
    cluster.homes[0].run(&["cluster", "unban", "--file", &cluster.key, "b"]).expect(0, &["banned no more"]);
    cluster.homes[0].run(&["cluster", "unban", "--file", &cluster.key, "b"]).expect(3, &["is not banned"]);
    cluster.running(0).signal(Signal::HUP);
    cluster.wait_done(0, 2);
    cluster.nodes.remove(1);
    cluster.audit();
}

#[test]
fn a_node_may_work_and_nothing_else_with_a_token_that_was_made_for_this_home() {
    use crate::http::support::request;
    use orx::gossip::KeyRing;
    use orx::time::{Clock as _, SystemClock, Timestamp};

    let mut orx = Orx::file();
    let key = orx.path("cluster.key");
    let file = key.to_str().unwrap().to_owned();
    orx.ok(&["cluster", "key", &file]);
    orx.ok(&["cluster", "rotate", &file]);
    orx.serve_at("127.0.0.1:0", &["--gossip-listen", "127.0.0.1:0", "--cluster-key-file", &file, "--name", "home"]);
    let ring = KeyRing::read(&key).unwrap();
    let good = ring.token("default", "helper", "home").unwrap();
    let old = KeyRing::of(ring.keys()[1].clone()).token("default", "helper", "home").unwrap();
    let (id, secret) = ("01987654-0000-7000-8000-000000000009", "ab".repeat(32));
    let key = format!(r#"{{"id":"{id}","secret":"{secret}"}}"#);
    let lease = &format!(r#"{{"worker":{key},"name":"w","offer":{{}},"slots":1,"ttl":15,"only":null}}"#);
    let post =
        |token: &str, op: &str, body: &str| request(&orx, Some(token), &format!("POST /api/v1/ops/{op}"), &[], body);
    post(&good, "lease", lease).expect(200);
    post(&old, "lease", lease).expect(200);
    // What a node lends its workers is good for a while, and leads no further.
    let until = |span: i64| {
        let until = Timestamp(SystemClock.now().0 + span);
        ring.token_until("default", "helper", "home", until).unwrap()
    };
    let lent = until(60_000);
    post(&lent, "lease", lease).expect(200);
    for token in [&good, &lent] {
        assert_eq!(post(token, "list_homes", "{}").expect(200).json(), serde_json::json!([]));
        post(token, "status", "{}").expect(403);
    }
    post(&until(-1), "lease", lease).expect(401);
    for (op, body) in [
        ("status", "{}"),
        ("list_nodes", "{}"),
        ("list_tokens", "{}"),
        ("cancel", r#"{"numbers":[1],"reason":null,"how":{"signal":null,"grace":null}}"#),
    ] {
        post(&good, op, body).expect(403);
    }
    let strangers = [
        ring.token("default", "helper", "other").unwrap(),
        ring.token("test", "helper", "home").unwrap(),
        KeyRing::of(super::key()).token("default", "helper", "home").unwrap(),
        format!("{good}0"),
        "orxnode_".into(),
    ];
    for token in strangers {
        post(&token, "lease", lease).expect(401);
    }
    orx.call(&["cluster", "ban", "--file", &file, "helper"]).run().expect(0, &["banned"]);
    orx.coordinator().signal(Signal::HUP);
    eventually("the ban to be obeyed", || {
        request(&orx, Some(&good), "POST /api/v1/ops/lease", &[], lease).status == 401
    });
    // Who is the node over HTTP is told in the trail.
    let store = orx.store().to_str().unwrap().to_owned();
    assert!(orx.ok(&["--store", &store, "events"]).contains("node helper"));
}

#[test]
fn an_address_that_peers_cannot_reach_is_refused_at_the_start() {
    let orx = Orx::file();
    let key = orx.path("cluster.key").to_str().unwrap().to_owned();
    orx.ok(&["cluster", "key", &key]);
    let gossip = ["coordinator", "--gossip-listen", "127.0.0.1:0", "--cluster-key-file", &key];
    let run = |more: &[&str]| orx.run(&[&gossip[..], more].concat());
    run(&["--listen", "127.0.0.1:0", "--advertise", "http://0.0.0.0:7"]).expect(2, &["cannot reach", "--advertise"]);
    run(&["--listen", "0.0.0.0:0", "--insecure-no-tls"]).expect(2, &["cannot reach", "--advertise"]);
    run(&["--listen", "127.0.0.1:0", "--share", "some"]).expect(2, &["none, take, give, both"]);
}

/// What a node says of itself may be wrong: that costs nobody anything but a question.
#[tokio::test]
async fn a_peer_that_lies_takes_nobody_down() {
    let lab = super::Lab::new();
    let orx = Orx::file();
    let key = orx.path("cluster.key");
    lab.keys.create(&key).unwrap();
    let (node, address) = coordinator(&orx, "b", key.to_str().unwrap(), &["--slots", "2"]);
    let mut liars = Vec::new();
    let nobody = super::free_address();
    let many = r#"[{"queue":"default","pending":4000000000}]"#;
    for (name, url, waiting) in [
        ("far", format!("\"http://{nobody}\""), many),
        ("nowhere", "\"http://0.0.0.0:1\"".into(), many),
        ("odd", "7".into(), "{\"queue\":7}"),
    ] {
        let mut plan = lab.plan(name).peers([address.clone()]);
        plan.config.label = "default".into();
        plan.config.pace = orx::gossip::Pace::default();
        let liar = plan.start().await;
        for (key, value) in
            [("url", url.as_str()), ("waiting", waiting), ("slots", "{\"total\":-1}"), ("load", "\"x\"")]
        {
            liar.set(key, value).unwrap();
        }
        liar.set("now", "\"2020-01-01T00:00:00Z\"").unwrap();
        liars.push(liar);
    }
    // Elsewhere than the liars, who must go on meanwhile.
    let rest = move || {
        node.wait_stderr("cannot help far");
        node.wait_stderr("nowhere says that its API is at");
        // It runs its own jobs all the same, and shows what the others said as far as it makes sense.
        orx.sh(&[], "exit 0");
        orx.wait_state("1", "done");
        eventually("all to be shown", || orx.json(&["nodes"])[0]["peers"].as_array().unwrap().len() == 3);
        let peers = orx.json(&["nodes"])[0]["peers"].clone();
        assert!(peers[0]["clock_skew"].as_f64().unwrap() < -86_400.0, "{peers}");
        assert_eq!((&peers[1]["url"], &peers[2]["slots"]), (&serde_json::Value::Null, &0.into()), "{peers}");
        assert_eq!(node.stderr().matches("cannot help far").count(), 1, "said once a minute at most");
        node.stop().expect(0, &[]);
    };
    tokio::task::spawn_blocking(rest).await.unwrap();
}

#[test]
fn a_peer_is_given_payloads_and_gives_results_as_they_were_written() {
    let values = verbatim::values(20);
    let config = format!("[worker]\nlease = \"{LEASE}ms\"\n{}", verbatim::handlers());
    let cluster = Cluster::start_with(&[&[], &["--slots", "4"]], &config);
    let home = &cluster.homes[0];
    home.ok(&["workflow", "submit", &home.write("w.json", verbatim::workflow(&values))]);
    cluster.wait_done(0, values.len() + 1);
    verbatim::arrived(home, &values);
    cluster.audit();
}
