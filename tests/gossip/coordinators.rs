//! Three real coordinators, each with its own store.

use rustix::process::Signal;

use crate::cli::support::*;

/// A coordinator with this key file and these further options, and the address at which it gossips.
pub fn coordinator(orx: &Orx, name: &str, key: &str, more: &[&str]) -> (Running, String) {
    let mut words = vec!["coordinator", "--name", name, "--cluster-key-file", key];
    for option in ["--listen", "--gossip-listen"] {
        if !more.contains(&option) {
            words.extend([option, "127.0.0.1:0"]);
        }
    }
    let running = orx.spawn(&[&words[..], more].concat());
    running.wait_stderr("ready");
    let log = running.stderr();
    let line = log.lines().find(|line| line.contains("gossips")).unwrap();
    let address = line.split("address=").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    (running, address)
}

#[test]
fn coordinators_tell_each_other_and_the_log_who_is_there() {
    let [a, b, c] = [Orx::file(), Orx::file(), Orx::file()];
    let key = a.path("cluster.key");
    let key = key.to_str().unwrap();
    a.ok(&["cluster", "key", key]);
    let (first, address) = coordinator(&a, "a", key, &[]);
    let (second, _) = coordinator(&b, "b", key, &["--peer", &address]);
    let (third, _) = coordinator(&c, "c", key, &["--peer", &address]);
    for (running, peers) in [(&first, ["b", "c"]), (&second, ["a", "c"]), (&third, ["a", "b"])] {
        for peer in peers {
            running.wait_stderr(&format!("a peer is there peer={peer}"));
        }
    }
    second.signal(Signal::KILL);
    third.signal(Signal::TERM);
    for peer in ["b", "c"] {
        first.wait_stderr(&format!("a peer is gone peer={peer}"));
    }
    first.stop().expect(0, &[]);
}

#[test]
fn another_key_is_said_on_both_sides_and_another_file_mode_refused() {
    let [a, b] = [Orx::file(), Orx::file()];
    let keys = [a.path("one.key"), a.path("other.key")].map(|path| path.to_str().unwrap().to_owned());
    keys.iter().for_each(|key| drop(a.ok(&["cluster", "key", key])));
    let (first, address) = coordinator(&a, "a", &keys[0], &[]);
    let (second, _) = coordinator(&b, "b", &keys[1], &["--peer", &address]);
    first.wait_stderr("holds another cluster key");
    second.wait_stderr("does it hold another cluster key");
    std::fs::set_permissions(&keys[0], std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let options = ["coordinator", "--listen", "127.0.0.1:0", "--gossip-listen", "127.0.0.1:0", "--name", "c"];
    let refused = b.run(&[&options[..], &["--cluster-key-file", &keys[0]]].concat());
    refused.expect(4, &["others can read", "chmod 600"]);
    b.run(&options).expect(2, &["--cluster-key-file"]);
}
