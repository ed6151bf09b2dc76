//! Workers that are no coordinators help the peers of theirs.

use std::collections::BTreeSet;

use super::sharing::Cluster;
use crate::cli::support::*;

/// A job at `home` that says who runs it, and runs until there is a file.
fn waits(home: &Orx, file: &str, more: &[&str]) -> String {
    let script = format!("echo $ORX_WORKER; echo $ORX_WORKER >> who; until [ -e {file} ]; do sleep 0.02; done");
    let dir = home.path("");
    home.sh(&[&["--cwd", dir.to_str().unwrap()], more].concat(), &script)
}

/// Who has run jobs of `home`, once there were so many.
fn who(home: &Orx, count: usize) -> BTreeSet<String> {
    eventually(&format!("{count} jobs to be begun"), || home.read("who").lines().count() >= count);
    home.read("who").lines().map(str::to_owned).collect()
}

#[test]
fn workers_on_the_store_of_a_coordinator_and_behind_it_run_the_jobs_of_its_peers() {
    let cluster = Cluster::start(&[&[], &["--share", "take"], &["--share", "give"]]);
    let [a, b, c] = [0, 1, 2].map(|n| &cluster.homes[n]);
    let token = b.ok(&["token", "create", "--name", "w", "--scope", "work"]);
    let url = cluster.url(1);
    let worker = |home: &Orx, name: &str, more: &[&str]| {
        home.call(&[&["worker", "--slots", "1", "--drain-timeout", "50ms", "--name", name], more].concat())
    };
    let near = worker(b, "near", &[]).spawn();
    let far = worker(b, "far", &["--store", &url]).env("ORX_TOKEN", token.trim()).spawn();
    let other = worker(c, "other", &["--labels", "only=c"]).spawn();
    let for_nobody = a.sh(&["--require", "only=c"], "exit 0");

    // Each has one slot, so both are needed.
    let jobs = ["go", "go"].map(|file| waits(a, file, &[]));
    assert_eq!(who(a, 2), ["peer-b.far", "peer-b.near"].map(String::from).into());
    // Peers are told of the slots of both.
    eventually("the slots of b's workers to be shown at a", || {
        let nodes = a.json(&["nodes"]);
        let peers = nodes[0]["peers"].as_array().unwrap();
        peers.iter().any(|peer| peer["name"] == "b" && peer["slots"] == 2)
    });

    // A worker's own jobs come first: what waits at its home does not give way to what waits elsewhere.
    let next = waits(a, "go", &[]);
    let own = waits(b, "mine", &[]);
    a.ok(&["cancel", &jobs[0]]);
    a.wait_state(&jobs[0], "cancelled");
    who(b, 1);
    assert_eq!(a.state(&next), "pending");
    b.write("mine", "");
    b.wait_state(&own, "done");
    who(a, 3);
    a.write("go", "");
    for job in [&jobs[1], &next] {
        a.wait_state(job, "done");
        assert!(a.ok(&["tail", job]).starts_with("peer-b."));
    }

    // One that ends gives what it runs back to its home, and the other goes on with it.
    let last = waits(a, "end", &[]);
    who(a, 4);
    let first = a.read("who").lines().last().unwrap().to_owned();
    let (ends, stays) = if first == "peer-b.near" { (near, far) } else { (far, near) };
    ends.stop().expect(0, &[]);
    who(a, 5);
    assert_ne!(a.read("who").lines().last().unwrap(), first);
    let job = a.job(&last);
    assert_eq!((&job["attempt"], &job["interruptions"], &job["losses"]), (&2.into(), &1.into(), &0.into()), "{job}");
    a.write("end", "");
    a.wait_state(&last, "done");

    // The node of this one takes nothing from others, though the job would fit.
    assert_eq!(a.state(&for_nobody), "pending");
    for worker in [stays, other] {
        worker.stop().expect(0, &[]);
    }
    cluster.audit();
}

#[test]
fn jobs_of_a_helping_worker_that_dies_move_and_those_of_one_whose_coordinator_dies_go_on() {
    let mut cluster = Cluster::start(&[&[], &["--share", "take"]]);
    let (token, url) = (cluster.homes[1].ok(&["token", "create", "--name", "w", "--scope", "work"]), cluster.url(1));
    let options = ["worker", "--slots", "1", "--name"];
    let near = cluster.homes[1].call(&[&options[..], &["near"]].concat()).spawn();
    let far = cluster.homes[1].call(&[&options[..], &["far", "--store", &url]].concat());
    let far = far.env("ORX_TOKEN", token.trim()).spawn();
    let jobs = ["go", "go"].map(|file| waits(&cluster.homes[0], file, &[]));
    assert_eq!(who(&cluster.homes[0], 2).len(), 2);
    near.kill();
    let a = &cluster.homes[0];
    eventually("its job to be back", || a.states().contains("pending"));
    a.write("go", "");
    let losses = jobs.map(|job| {
        a.wait_state(&job, "done");
        a.job(&job)["losses"].as_u64().unwrap()
    });
    assert_eq!(losses.iter().sum::<u64>(), 1);

    let last = waits(a, "end", &[]);
    who(a, 4);
    cluster.nodes[1].take().unwrap().kill();
    // Later than its lease lasts without a renewal: the worker goes on, and its end is told at home.
    eventually("the node to be seen gone", || a.json(&["nodes"])[0]["peers"][0]["state"] == "gone");
    a.write("end", "");
    a.wait_state(&last, "done");
    let job = a.job(&last);
    assert_eq!((&job["worker"], &job["losses"]), (&"peer-b.far".into(), &0.into()), "{job}");
    drop(far);
    a.ok(&["audit"]);
}
