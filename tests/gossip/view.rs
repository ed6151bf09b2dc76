//! One view of all nodes: `orx nodes` and `--cluster`.

use serde_json::Value;

use super::coordinators::coordinator;
use crate::cli::support::*;

#[test]
fn one_command_shows_and_ends_the_jobs_of_all_nodes() {
    let [a, b, c] = [Orx::file(), Orx::file(), Orx::file()];
    let key = a.path("cluster.key").to_str().unwrap().to_owned();
    a.ok(&["cluster", "key", &key]);
    a.make();
    let alone = a.run(&["status", "--cluster"]);
    alone.expect(6, &["no coordinator of this store"]);
    let (first, address) = coordinator(&a, "a", &key, &["--share", "none"]);
    let (second, _) = coordinator(&b, "b", &key, &["--peer", &address, "--share", "none"]);
    let secret = a.ok(&["token", "create", "--name", "ops", "--admin"]);
    b.call(&["token", "create", "--name", "ops", "--admin", "--from", "-"])
        .stdin(secret.clone())
        .run()
        .expect(0, &["good here too"]);
    first.wait_stderr("a peer is there peer=b");
    second.wait_stderr("a peer is there peer=a");
    let ask = |args: &[&str]| a.call(args).env("ORX_TOKEN", secret.trim()).run();
    let json = |args: &[&str]| {
        let out = ask(&[&["-o", "json"], args].concat());
        serde_json::from_str::<Value>(out.expect(0, &[]).stdout().as_str()).unwrap()
    };
    eventually("b to be shown at a", || json(&["nodes"])[0]["peers"][0]["state"] == "live");

    // Each node tells of the other.
    let node = json(&["nodes"])[0].clone();
    let peer = &node["peers"][0];
    assert_eq!((&peer["name"], &peer["version"]), (&"b".into(), &env!("CARGO_PKG_VERSION").into()), "{peer}");
    assert_eq!(peer["key"].as_str().map(str::len), Some(16), "{peer}");
    eventually("its clock to be known", || {
        json(&["nodes"])[0]["peers"][0]["clock_skew"].as_f64().is_some_and(|s| s.abs() < 5.0)
    });
    let shown = a.ok(&["nodes"]);
    assert!(shown.contains("PEER") && shown.contains("live") && shown.contains("0 of 0"), "{shown}");

    // A job at each, both shown; a number is of one node, an id of the whole cluster.
    let here = a.ok(&["enqueue", "--name", "here", "--", "true"]).trim().to_owned();
    let there = b.ok(&["enqueue", "--name", "there", "--", "true"]).trim().to_owned();
    let jobs = json(&["list", "--cluster"]);
    let mut listed: Vec<_> =
        jobs.as_array().unwrap().iter().map(|j| (j["node"].as_str().unwrap(), j["name"].as_str().unwrap())).collect();
    listed.sort_unstable();
    assert_eq!(listed, [("a", "here"), ("b", "there")]);
    let status = json(&["status", "--cluster"]);
    let pending: Vec<_> = status
        .as_array()
        .unwrap()
        .iter()
        .map(|n| (n["node"].as_str().unwrap(), n["queues"][0]["counts"]["pending"].as_i64().unwrap()))
        .collect();
    assert_eq!(pending, [("a", 1), ("b", 1)]);
    let shown = |format: &[&str]| ask(&[&["status", "--cluster"], format].concat()).stdout();
    assert_eq!(shown(&["--format", "{{node}}"]), "a\nb\n");
    let lines = lines_of_json(&shown(&["-o", "ndjson"]));
    assert_eq!(lines.iter().map(|line| &line["node"]).collect::<Vec<_>>(), ["a", "b"]);
    ask(&["status", "--cluster", "1"]).expect(2, &["a and b", "use the id"]);
    ask(&["status", &there]).expect(3, &[]);
    assert_eq!(json(&["status", "--cluster", &there])["name"], "there");
    assert_eq!(json(&["status", "--cluster", &here])["name"], "here");
    ask(&["status", "--cluster", "01987654-0000-7000-8000-000000000009"]).expect(3, &["at one node"]);
    ask(&["why", "--cluster", &there]).expect(0, &[]);
    ask(&["wait", "--cluster", "--timeout", "10ms", &there]).expect(75, &[]);
    ask(&["cancel", "--cluster", "--all", "--yes"]).expect(2, &["--all"]);
    ask(&["cancel", "--cluster", &there]).expect(0, &[]);
    assert_eq!(b.states(), "cancelled");
    ask(&["tail", "--cluster", &there]).expect(0, &[]);

    // A node that does not answer is named, and matters unless said otherwise.
    let (third, _) = coordinator(&c, "c", &key, &["--peer", &address]);
    first.wait_stderr("a peer is there peer=c");
    eventually("c to be shown", || json(&["nodes"])[0]["peers"].as_array().unwrap().len() == 2);
    ask(&["list", "--cluster"]).expect(6, &["node c does not answer", "1 node did not answer: c", "--partial"]);
    // What is to be done about it is said, whether the token is unknown there or there is none.
    ask(&["list", "--cluster"]).expect(6, &["c does not answer: the token is unknown", "orx token create --from FILE"]);
    let none = a.run(&["status", "--cluster"]);
    none.expect(6, &["b does not answer: a token is needed", "2 nodes did not answer: b, c", "ORX_TOKEN"]);
    ask(&["list", "--cluster", "--partial"]).expect(0, &["node c does not answer"]);
    ask(&["status", "--cluster", "--partial"]).expect(0, &["node c does not answer"]);
    ask(&["status", "--cluster", &there]).expect(0, &["node c does not answer"]);
    ask(&["status", "--cluster", "01987654-0000-7000-8000-000000000009"]).expect(6, &["did not answer: c"]);
    third.stop().expect(0, &[]);
    first.wait_stderr("a peer is gone peer=c");
    eventually("c to be shown as gone", || json(&["nodes"])[0]["peers"][1]["state"] == "gone");
    ask(&["list", "--cluster"]).expect(0, &["node c is gone since"]);
}
