//! Three coordinators, each in a network namespace of its own: links that go down, and ways that end in a black hole.

use std::process::Command;

use crate::cli::support::*;

/// Three namespaces with an address each, on one switch in a fourth; away with their end.
struct Net {
    id: u32,
}

impl Net {
    /// Makes them; nothing, with the reason on stdout, where the machine does not allow it.
    fn make() -> Option<Self> {
        let net = Self { id: std::process::id() };
        let hub = net.name("hub");
        let mut steps = vec![format!("netns add {hub}"), format!("-n {hub} link add switch type bridge")];
        steps.push(format!("-n {hub} link set switch up"));
        for n in 0..3 {
            let ns = net.name(NAMES[n]);
            steps.push(format!("netns add {ns}"));
            steps.push(format!("-n {hub} link add port{n} type veth peer name eth0 netns {ns}"));
            steps.push(format!("-n {hub} link set port{n} master switch up"));
            steps.push(format!("-n {ns} address add {}/24 dev eth0", ADDRESSES[n]));
            steps.push(format!("-n {ns} link set lo up"));
            steps.push(format!("-n {ns} link set eth0 up"));
        }
        steps.push(format!("netns exec {hub} true"));
        for step in steps {
            if let Err(why) = ip(&step) {
                println!("skipped: this machine makes no network namespaces: ip {step}: {why}");
                return None;
            }
        }
        Some(net)
    }

    fn name(&self, of: &str) -> String {
        format!("orx-{}-{of}", self.id)
    }

    fn ip(&self, n: usize, command: &str) {
        ip(&format!("-n {} {command}", self.name(NAMES[n]))).unwrap();
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for of in NAMES.into_iter().chain(["hub"]) {
            let _ = ip(&format!("netns delete {}", self.name(of))); // it may not have been made
        }
    }
}

fn ip(words: &str) -> Result<(), String> {
    let output = Command::new("ip").args(words.split(' ')).output().map_err(|e| e.to_string())?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()) }
}

const NAMES: [&str; 3] = ["a", "b", "c"];
const ADDRESSES: [&str; 3] = ["10.77.0.1", "10.77.0.2", "10.77.0.3"];
const JOBS: usize = 40;

#[test]
fn a_network_that_falls_apart_and_heals_loses_no_job() {
    let Some(net) = Net::make() else { return };
    let homes = NAMES.map(|_| Orx::file());
    let key = homes[0].path("cluster.key").to_str().unwrap().to_owned();
    homes[0].ok(&["cluster", "key", &key]);
    let nodes = [0, 1, 2].map(|n| {
        let home = &homes[n];
        home.write(".config/orx/config.toml", "[worker]\nlease = \"1s\"\n");
        let (ns, at) = (net.name(NAMES[n]), ADDRESSES[n]);
        let (listen, gossip) = (format!("{at}:7117"), format!("{at}:7946"));
        let inside = ["netns", "exec", &ns, env!("CARGO_BIN_EXE_orx"), "coordinator", "--insecure-no-tls"];
        let options = ["--name", NAMES[n], "--slots", "2", "--cluster-key-file", &key, "--peer", "10.77.0.1:7946"];
        let listens = ["--listen", &listen, "--gossip-listen", &gossip];
        home.program("ip", &[&inside[..], &options, &listens].concat()).spawn()
    });
    for (node, own) in nodes.iter().zip(NAMES) {
        for name in NAMES.iter().filter(|name| **name != own) {
            node.wait_stderr(&format!("a peer is there peer={name}"));
        }
    }

    let home = &homes[0];
    let list: String = (1..=JOBS).map(|n| format!("{n}\n")).collect();
    let list = home.write("list", list);
    let script = format!("echo $ORX_JOB_ID $ORX_WORKER >> {}; sleep 0.2", home.path("ran").display());
    home.ok(&["-q", "enqueue", "--each-line", &list, "--", "sh", "-c", &script, "{}"]);
    let ran = |worker: &str| home.read("ran").lines().filter(|line| line.ends_with(worker)).count();
    eventually("both to help", || ran("peer-b") > 0 && ran("peer-c") > 0);

    // Of b nothing comes or goes any more. What c sends to a ends nowhere, though it hears a.
    net.ip(1, "link set eth0 down");
    net.ip(2, "route add blackhole 10.77.0.1/32");
    let lost = || home.events().iter().filter(|event| event["data"]["outcome"] == "lost").count();
    eventually("leases to be lost", || lost() > 0);
    let before = ran("");
    eventually("the home to go on alone", || ran("") > before + 1);
    net.ip(1, "link set eth0 up");
    net.ip(2, "route delete blackhole 10.77.0.1/32");

    eventually("all jobs to be done", || home.states() == ["done"; JOBS].join(" "));
    eventually("all to be there for all", || {
        homes.iter().all(|home| {
            let peers = home.json(&["nodes"])[0]["peers"].clone();
            let peers = peers.as_array().unwrap();
            peers.len() == 2 && peers.iter().all(|peer| peer["state"] == "live")
        })
    });
    // Begun twice was only what was taken from somebody.
    let losses: u64 = (1..=JOBS).map(|n| home.job(&n.to_string())["losses"].as_u64().unwrap()).sum();
    assert!(ran("") - JOBS <= losses as usize, "{} starts of {JOBS} jobs, {losses} lost leases", ran(""));
    for (home, node) in homes.iter().zip(nodes).rev() {
        home.ok(&["audit"]);
        home.ok(&["db", "check"]);
        node.stop().expect(0, &[]);
    }
}
