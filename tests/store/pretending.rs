//! Who names a worker and shows the secret of another gets nothing, and changes nothing.

use std::sync::Arc;

use orx::engine::Try;
use orx::error::Kind;
use orx::job::WorkerKey;
use orx::job::lanes::Offer;
use orx::ops::Caller;
use serde_json::{Value, json};

use super::support::*;
pub use super::tenants::{World, report, worker};

/// What somebody may try who holds the key `by`: to pass for the worker `of`, or to use the fence of its job.
pub fn tries(of: &WorkerKey, fence: &Value, by: &WorkerKey) -> Vec<(&'static str, Value)> {
    let pretended = WorkerKey { id: of.id, secret: by.secret.clone() };
    let lease = |key: &WorkerKey| json!({ "worker": key, "name": "w", "offer": Offer::default(), "slots": 9, "ttl": 15, "only": null });
    let chunk = json!({ "seq": 9, "stream": "stdout", "at": "2030-01-01T00:00:00Z", "place": 0, "bytes": "c2FpZA==" });
    let started = json!([[fence, { "pid": 1, "at": "2030-01-01T00:00:00Z" }]]);
    let mut tries = Vec::new();
    for key in [&pretended, by] {
        let said = json!({ "worker": key, "fence": fence, "progress": [50, "said"], "result": 1 });
        let ends = json!([report(fence)]);
        tries.extend([
            ("append_output", json!({ "worker": key, "fence": fence, "chunks": [chunk] })),
            ("say", said),
            ("get_result", json!({ "worker": key, "fence": fence, "number": fence["number"] })),
            ("settle", json!({ "worker": key, "reports": ends })),
            ("turn", json!({ "worker": key, "reports": ends, "lease": null })),
            ("turn", json!({ "worker": key, "reports": ends, "lease": null, "pass_over": true })),
            ("turn", json!({ "worker": key, "reports": ends, "lease": lease(key) })),
            ("renew", json!({ "worker": key, "ttl": 3600, "fences": [fence] })),
            ("heartbeat", json!({ "worker": key, "name": "w", "ttl": 3600, "started": started })),
        ]);
    }
    let mut successor = worker(by, "w");
    successor["worker"]["id"] = json!(uuid::Uuid::now_v7());
    successor["succeeds"] = json!([pretended]);
    tries.extend([
        ("lease", lease(&pretended)),
        ("turn", json!({ "worker": by, "reports": [], "lease": lease(&pretended) })),
        ("heartbeat", json!({ "worker": pretended, "name": "w", "ttl": 3600, "draining": true })),
        ("deregister", json!({ "worker": pretended, "name": "w" })),
        ("register", worker(&pretended, "w")),
        ("register", successor),
    ]);
    tries
}

on_every_store! {
    async fn s1_nobody_passes_for_another_worker(f: Fixture) {
        let world = World::of(f);
        let caller = Arc::new(Caller::local("token"));
        let (number, waits) = (f.add("").await, f.add("").await);
        let (w, other) = (f.worker("w", Offer::default()).await, f.worker("other", Offer::default()).await);
        let fence = w.take().await;
        assert_eq!(fence.number, number);
        let snapshot = async || {
            let mut all = Vec::new();
            for (op, body) in [
                ("get_jobs", json!({ "numbers": [number, waits], "detail": true })),
                ("list_holdings", json!({ "worker": other.id, "offer": Offer::default(), "only": null })),
                ("list_workers", json!({})),
                ("read_output", json!({ "number": number, "attempt": null, "after": null })),
                ("read_events", json!({ "after": 0, "limit": 1000 })),
            ] {
                all.push(world.admin(op, body).await);
            }
            all
        };
        let before = snapshot().await;
        let mut cells = 0;
        for (op, body) in tries(&w.key, &json!(fence), &other.key) {
            for attempt in [Try::First, Try::Again] {
                cells += 1;
                let kind = world.try_as(&caller, op, body.clone(), attempt).await.map_err(|e| e.kind());
                // A job that waits is not handed out.
                let refused = matches!(&kind, Err(Kind::Denied | Kind::Conflict));
                assert!(refused, "{op} {body} {attempt:?}: {kind:?}");
                assert_eq!(snapshot().await, before, "{op} {body} {attempt:?} changed something");
            }
        }
        println!("{cells} cells, 0 breaches");

        // The worker itself is hindered by none of it.
        w.renew(fence).await;
        let settle = |key: &WorkerKey| json!({ "worker": key, "reports": [report(&json!(fence))] });
        let ended = world.try_as(&caller, "settle", settle(&w.key), Try::First).await.unwrap();
        assert_eq!(ended, json!([{ "accepted": "done" }]));
        let again = world.try_as(&caller, "settle", settle(&w.key), Try::Again).await.unwrap();
        assert_eq!(again, ended, "its answer got lost");
        // Nor is anybody else told how it ended.
        let pretended = WorkerKey { id: w.id, secret: other.key.secret.clone() };
        let refused = world.try_as(&caller, "settle", settle(&pretended), Try::Again).await.unwrap_err();
        assert_eq!(refused.kind(), Kind::Denied);
        let nobody = orx::worker::new_key().unwrap();
        for key in [&other.key, &nobody] {
            let told = world.try_as(&caller, "settle", settle(key), Try::Again).await.unwrap();
            assert_eq!(told, json!(["stale"]));
        }
        // A second registration with the same secret is the same worker.
        assert!(w.register(&[]).await.is_empty());
        assert_eq!(w.lease_numbers(1).await, [waits]);
    }
}
