//! What a coordinator counts of its peers and of what is no peer, as `/metrics` shows it; and how often it says so.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use orx::gossip::KeyRing;
use orx::time::{Clock as _, Timestamp};

use super::*;
use crate::cli::support::{Orx, eventually};
use crate::http::metrics::figures;
use crate::http::support::request;

/// A coordinator that gossips, and where.
fn coordinator(lab: &Lab) -> (Orx, SocketAddr) {
    let mut orx = Orx::file();
    let key = orx.path("cluster.key");
    lab.keys.create(&key).unwrap();
    let token = orx.ok(&["token", "create", "--name", "all", "--admin"]);
    let own = free_address();
    // That the second leads to itself it learns only by connecting.
    let [listen, peer] = ["0.0.0.0", "127.0.0.2"].map(|ip| format!("{ip}:{}", own.port()));
    let gossip = ["--gossip-listen", &listen, "--gossip-advertise", &own.to_string(), "--peer", &peer];
    let key = ["--cluster-key-file", key.to_str().unwrap(), "--name", "home"];
    orx.serve_at("127.0.0.1:0", &[&gossip[..], &key].concat());
    let url = orx.url();
    orx.reach(&url, token.trim());
    (orx, own)
}

/// A member of the coordinator's cluster.
fn peer(lab: &Lab, id: &str, at: SocketAddr) -> Plan {
    let mut plan = lab.plan(id).peers([at.to_string()]);
    plan.config.label = "default".into();
    plan.config.pace = Pace::default();
    plan
}

/// What the coordinator refused for this reason.
fn refused(orx: &Orx, why: Refusal) -> f64 {
    figures(orx).sum("orx_gossip_refusals_total", &[("reason", why.as_str())])
}

#[tokio::test]
async fn the_figures_of_gossip_are_those_of_what_happened() {
    let lab = Lab::new();
    let (orx, at) = coordinator(&lab);
    let [a, b] = [peer(&lab, "a", at).start().await, peer(&lab, "b", at).start().await];
    sees(&a, &["b", "home"]).await;
    sees(&b, &["a", "home"]).await;
    let shown = move || {
        eventually("both to be counted", || figures(&orx).sum("orx_gossip_peers", &[]) == 2.0);
        let before = figures(&orx);
        let sum = |name: &str, direction: &str| before.sum(name, &[("direction", direction)]);
        let open = before.sum("orx_gossip_connections", &[]);
        assert!((2.0..=8.0).contains(&open) && before.sum("orx_gossip_connections_total", &[]) >= open, "{before:?}");
        for direction in ["in", "out"] {
            let (frames, bytes) = (sum("orx_gossip_frames_total", direction), sum("orx_gossip_bytes_total", direction));
            // Each is sealed, and has its length before it.
            assert!(frames >= 2.0 && bytes >= 20.0 * frames, "{direction}: {frames} frames of {bytes} bytes");
        }
        eventually("more to be said", || {
            figures(&orx).sum("orx_gossip_bytes_total", &[]) > before.sum("orx_gossip_bytes_total", &[])
        });
        // All reasons are there from the beginning, and of all of this nothing was refused.
        for why in Refusal::ALL {
            let times = refused(&orx, why);
            assert!(times == 0.0 || [Refusal::OwnAddress, Refusal::QueueFull].contains(&why), "{why:?} {times}");
        }
        orx
    };
    let orx = tokio::task::spawn_blocking(shown).await.unwrap();
    a.stop().await;
    drop(b);
    let gone = move || eventually("both to be gone", || figures(&orx).sum("orx_gossip_peers", &[]) == 0.0);
    tokio::task::spawn_blocking(gone).await.unwrap();
}

#[tokio::test]
async fn what_is_refused_is_counted_each_time_and_said_once() {
    let lab = Lab::new();
    let (mut orx, at) = coordinator(&lab);
    let stranger = peer(&lab, "stranger", at).keys(KeyRing::of(key())).start().await;
    let twin = peer(&lab, "home", at).start().await;
    let nowhere = peer(&lab, "nowhere", at).start().await;
    nowhere.set("url", "\"http://0.0.0.0:1\"").unwrap();
    let ring = lab.keys.clone();
    let rest = move || {
        let at_once = |bytes: &[u8]| {
            let mut stream = TcpStream::connect(at).unwrap();
            stream.write_all(bytes).unwrap();
            stream
        };
        let half = at_once(b"\0\0\0\x30half");
        for n in 1..=5 {
            let mut stream = at_once(b"\xff\xff\xff\xff");
            let _ = stream.read(&mut [0]); // it is hung up on
            eventually("it to be counted", || refused(&orx, Refusal::FrameTooLong) == f64::from(n));
        }
        // What a node's worker shows over HTTP may be too old, or of another key.
        let over = Timestamp(SystemClock.now().0 - 1);
        let old = ring.token_until("default", "helper", "home", over).unwrap();
        let other = KeyRing::of(key()).token("default", "helper", "home").unwrap();
        let ask = |token: &str| request(&orx, Some(token), "POST /api/v1/ops/list_homes", &[], "{}");
        assert!(ask(&old).expect(401).body.contains("has ended"));
        ask(&other).expect(401);
        assert_eq!(refused(&orx, Refusal::ExpiredToken), 1.0);
        for (why, times) in [
            (Refusal::WrongKey, 3.0),
            (Refusal::SameId, 2.0),
            (Refusal::BadAddress, 1.0),
            (Refusal::OwnAddress, 1.0),
            (Refusal::HandshakeTimedOut, 1.0),
        ] {
            eventually(&format!("{why:?} to be counted"), || refused(&orx, why) >= times);
        }
        drop(half);
        let said = orx.coordinator().stderr();
        for why in [
            Refusal::FrameTooLong,
            Refusal::WrongKey,
            Refusal::SameId,
            Refusal::BadAddress,
            Refusal::HandshakeTimedOut,
            Refusal::ExpiredToken,
        ] {
            let lines = said.lines().filter(|line| line.contains(&format!("reason=\"{}\"", why.as_str()))).count();
            assert_eq!(lines, 1, "{why:?} in {said}");
        }
        assert!(!said.contains("own_address"), "nobody needs to hear of it: {said}");
        // And it does its work.
        assert_eq!(orx.state(&orx.sh(&[], "exit 0")), "pending");
    };
    tokio::task::spawn_blocking(rest).await.unwrap();
    assert!(stranger.peers().borrow().is_empty() && twin.peers().borrow().get("home").is_none());
    assert!(nowhere.peers().borrow().contains_key("home"));
}
