//! A caller that is bound to a tenant sees and touches nothing of another, whichever Op it uses.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt as _};
use orx::engine::{Engine, Try};
use orx::error::{Kind, Result};
use orx::job::WorkerKey;
use orx::job::lanes::Offer;
use orx::ops::catalog::{self, Visitor};
use orx::ops::tokens::Token;
use orx::ops::{Caller, Op, Scopes};
use orx::queue::Queue;
use orx::time::Clock as _;
use serde_json::{Value, json};
use uuid::Uuid;

use super::support::*;

/// What of another tenant must never be shown: it is part of everything that it has.
const MARK: &str = "acme";

type Call = fn(Arc<Engine>, Arc<Caller>, Value, Try) -> BoxFuture<'static, Result<Value>>;

/// Every Op, by name.
#[derive(Default)]
struct Ops(BTreeMap<&'static str, Call>);

impl Visitor for Ops {
    fn op<O: Op>(&mut self) {
        self.0.insert(O::NAME, |engine, caller, body, attempt| {
            async move {
                let op: O = serde_json::from_value(body.clone()).unwrap_or_else(|e| panic!("{}: {e}: {body}", O::NAME));
                Ok(serde_json::to_value(engine.call_as(caller, op, attempt).await?).unwrap())
            }
            .boxed()
        });
    }
}

pub struct World {
    ops: Ops,
    engine: Arc<Engine>,
}

fn bound(tenant: &str) -> Arc<Caller> {
    Arc::new(Caller {
        actor: format!("token {tenant}"),
        tenant: Some(tenant.into()),
        scopes: Scopes::ALL,
        ..Caller::local("")
    })
}

impl World {
    pub fn of(f: &Fixture) -> Self {
        let mut ops = Ops::default();
        catalog::each(&mut ops);
        let Queue::Local(engine) = &f.queue else { panic!("it is local") };
        Self { ops, engine: Arc::clone(engine) }
    }

    pub async fn try_as(&self, caller: &Arc<Caller>, op: &str, body: Value, attempt: Try) -> Result<Value> {
        self.ops.0[op](Arc::clone(&self.engine), Arc::clone(caller), body, attempt).await
    }

    pub async fn admin(&self, op: &str, body: Value) -> Value {
        let caller = Arc::new(Caller::local("admin"));
        self.try_as(&caller, op, body, Try::First).await.unwrap_or_else(|e| panic!("{op}: {e}"))
    }
}

fn job(tenant: &str, more: &str) -> Value {
    let comma = if more.is_empty() { "" } else { "," };
    json!(submission(&command(&format!(r#""tenant":"{tenant}"{comma}{more}"#))))
}

fn flow(tenant: &str) -> Value {
    let task = json!({ "name": format!("{tenant}-task"), "command": ["true"] });
    json!({ "name": format!("{tenant}-flow"), "defaults": { "tenant": tenant }, "task": [task] })
}

fn definition(tenant: &str) -> Value {
    let rule = json!({ "kind": "every", "expression": "1h", "tz": "UTC", "created_at": "1970-01-01T00:00:00Z" });
    json!({
        "rule": rule, "overlap": "allow", "catch_up": "last", "jitter": 0,
        "target": { "job": job(tenant, "")["spec"] }
    })
}

pub fn worker(key: &WorkerKey, name: &str) -> Value {
    json!({ "worker": {
        "id": key.id, "name": name, "host": "host", "pid": 1, "offer": Offer::default(), "slots": 8, "version": "0",
        "solo": false
    }, "secret": key.secret, "ttl": 15, "succeeds": [], "jitter": 0.5 })
}

fn key() -> WorkerKey {
    orx::worker::new_key().unwrap()
}

pub fn report(fence: &Value) -> Value {
    let ending = json!({ "cause": "itself", "exit_code": 0, "signal": null, "error": null });
    json!({ "fence": fence, "ending": ending, "started": null, "ran": 1, "after": 1, "output": [], "jitter": 0.5 })
}

fn token(id: Uuid, tenant: Option<&str>) -> Value {
    let hash = Token::new(id, [7; 32]).hash();
    json!({ "id": id, "hash": hash, "name": "acme-token", "scopes": ["read"], "tenant": tenant, "expires_in": null })
}

/// What the Op must say to a stranger.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Says {
    /// There is no such thing.
    Gone,
    /// It may not do this at all.
    Denied,
    /// Nothing of the other.
    Nothing,
}
use Says::*;

on_every_store! {
    async fn no_op_shows_or_changes_anything_of_another_tenant(f: Fixture) {
        let world = World::of(f);
        let (acme, bee) = (bound("acme"), bound("bee"));
        // What acme has: jobs in several states, a name, a limit, a run, a schedule, a token, a worker of its own.
        let more = r#""queue":"acme-queue","name":"acme-name","limit":"acme-key=1","idempotency_key":"k","label":{"a":"acme"}"#;
        let waits = job("acme", more);
        let stored = world.admin("enqueue", json!({ "jobs": [job("acme", ""), job("acme", "")] })).await;
        let [running, dead] = [&stored[0], &stored[1]].map(|j| j["number"].as_i64().unwrap());
        let w = f.worker("shared", Offer::default()).await;
        let fences = [w.take().await, w.take().await];
        assert_eq!(fences.map(|fence| fence.number), [running, dead]);
        w.exit(fences[1], 1).await;
        let waits = world.admin("enqueue", json!({ "jobs": [waits] })).await[0].clone();
        let pending = waits["number"].as_i64().unwrap();
        let fence = json!(fences[0]);
        let run = Uuid::now_v7();
        world.admin("submit_run", json!({ "id": run, "workflow": flow("acme") })).await;
        let ended = Uuid::now_v7();
        world.admin("submit_run", json!({ "id": ended, "workflow": flow("acme") })).await;
        world.admin("cancel_run", json!({ "run": { "id": ended }, "reason": null })).await;
        let schedule = Uuid::now_v7();
        let add = json!({ "id": schedule, "name": "acme-schedule", "definition": definition("acme") });
        world.admin("add_schedule", add.clone()).await;
        let token_id = Uuid::now_v7();
        world.admin("create_token", token(token_id, Some("acme"))).await;
        world.admin("set_tenant", json!({ "tenant": "acme", "change": { "max_queued": 1000 } })).await;
        let own = key();
        world.try_as(&acme, "register", worker(&own, "acme-worker"), Try::First).await.unwrap();
        world.admin("enqueue", json!({ "jobs": [job("bee", r#""queue":"hive""#)] })).await;
        // A caller of the tenant itself sees it all.
        let theirs = |op: &'static str, body: Value| {
            let (world, acme) = (&world, &acme);
            async move { world.try_as(acme, op, body, Try::First).await.unwrap().to_string() }
        };
        for (op, body) in [
            ("list_jobs", json!({ "limit": 9 })), ("list_runs", json!({ "limit": 9 })), ("list_schedules", json!({})),
            ("list_workers", json!({})), ("list_tokens", json!({})), ("status", json!({})), ("list_policies", json!({})),
            ("read_events", json!({ "after": 0, "limit": 999 })), ("list_letters", json!({ "limit": 9 })),
        ] {
            assert!(theirs(op, body).await.contains(MARK), "{op}");
        }

        let named = json!({ "tenant": "acme", "name": "acme-schedule" });
        let by_id = json!({ "name": schedule.to_string() });
        let number = json!({ "numbers": [pending] });
        let lease = json!({
            "worker": w.key, "name": "shared", "offer": Offer::default(), "slots": 9, "ttl": 15, "only": null
        });
        let limits = json!({ "max_running": 1 });
        let prefix: String = waits["id"].as_str().unwrap().replace('-', "").chars().take(31).collect();
        let run_prefix: String = run.simple().to_string().chars().take(31).collect();
        let rows: Vec<(&str, Value, Says)> = vec![
            ("append_output", json!({ "worker": key(), "fence": fence, "chunks": [] }), Gone),
            ("cancel", number.clone(), Gone),
            ("cancel", json!({ "numbers": [running] }), Gone),
            ("discard_letters", json!({ "numbers": [dead] }), Gone),
            ("group_letters", json!({}), Nothing),
            ("group_letters", json!({ "filter": { "tenant": "acme" } }), Nothing),
            ("list_letters", json!({ "limit": 9, "filter": { "tenant": "acme" } }), Nothing),
            ("enqueue", json!({ "jobs": [job("acme", "")] }), Denied),
            ("enqueue", json!({ "jobs": [job("bee", &format!(r#""after":{pending}"#))] }), Gone),
            ("enqueue", json!({ "jobs": [job("bee", r#""after":"@a=acme""#)] }), Gone),
            ("read_events", json!({ "after": 0, "limit": 999 }), Nothing),
            ("read_events", json!({ "after": 0, "limit": 1 }), Nothing),
            ("get_jobs", json!({ "numbers": [pending, running, dead], "detail": true }), Nothing),
            ("list_jobs", json!({ "limit": 9, "filter": { "tenant": "acme" } }), Nothing),
            ("lease", lease.clone(), Gone),
            ("lease", json!({ "worker": key(), "name": "bee", "offer": Offer::default(), "slots": 9, "ttl": 15,
                "only": { "job": pending } }), Nothing),
            ("lease", json!({ "worker": key(), "name": "bee", "offer": Offer::default(), "slots": 9, "ttl": 15,
                "only": { "run": run } }), Nothing),
            ("drain_node", json!({ "node": "n" }), Denied),
            ("list_nodes", json!({}), Nothing),
            ("read_output", json!({ "number": dead, "attempt": null, "after": null }), Gone),
            ("list_policies", json!({}), Nothing),
            ("pause_queue", json!({ "queue": "acme-queue", "paused": true }), Denied),
            ("set_limit", json!({ "tenant": "acme", "key": "acme-key", "max_running": 9 }), Denied),
            ("set_queue", json!({ "queue": "acme-queue", "change": limits }), Denied),
            ("set_tenant", json!({ "tenant": "acme", "change": limits }), Denied),
            ("set_tenant", json!({ "tenant": "bee", "change": limits }), Denied),
            ("drop_output", json!({ "numbers": [dead], "before": "2030-01-01T00:00:00Z", "dead": true }), Denied),
            ("prunable", json!({ "after": 0, "before": "2030-01-01T00:00:00Z", "dead": true }), Denied),
            ("prune_keys", json!({}), Denied),
            ("prune_ledger", json!({ "before": "2030-01-01T00:00:00Z" }), Denied),
            ("get_quarantine", json!({}), Denied),
            ("resume_quarantine", json!({}), Denied),
            ("get_retention", json!({}), Denied),
            ("set_retention", json!({ "retention": { "done_older_than": null, "max_size": null } }), Denied),
            ("prune", json!({ "numbers": [dead], "before": "2030-01-01T00:00:00Z", "dead": true }), Denied),
            ("deregister", json!({ "worker": w.key, "name": "shared" }), Gone),
            ("deregister", json!({ "worker": own, "name": "acme-worker" }), Gone),
            ("register", worker(&own, "acme-worker"), Gone),
            ("renew", json!({ "worker": w.key, "ttl": 15, "fences": [] }), Gone),
            ("renew", json!({ "worker": key(), "ttl": 15, "fences": [fence] }), Gone),
            ("heartbeat", json!({ "worker": w.key, "name": "shared", "ttl": 15 }), Gone),
            ("heartbeat", json!({ "worker": key(), "name": "bee", "ttl": 15,
                "started": [[fence, { "pid": 1, "at": "2030-01-01T00:00:00Z" }]] }), Gone),
            ("retry", json!({ "numbers": [dead] }), Gone),
            ("cancel_run", json!({ "run": { "id": run }, "reason": null }), Gone),
            ("cancel_run", json!({ "run": { "prefix": run_prefix }, "reason": null }), Gone),
            ("cancel_run", json!({ "run": "last", "reason": null }), Gone),
            ("get_run", json!({ "run": { "id": run } }), Gone),
            ("get_run", json!({ "run": "last" }), Gone),
            ("list_runs", json!({ "limit": 9, "filter": { "tenant": "acme" } }), Nothing),
            ("replay_run", json!({ "id": Uuid::now_v7(), "run": { "id": ended }, "from": null, "reason": null }), Gone),
            ("submit_run", json!({ "id": Uuid::now_v7(), "workflow": flow("acme") }), Denied),
            ("get_result", json!({ "worker": key(), "fence": fence, "number": dead }), Gone),
            ("say", json!({ "worker": key(), "fence": fence, "progress": null, "result": 1 }), Gone),
            ("add_schedule", json!({ "id": Uuid::now_v7(), "name": "x", "definition": definition("acme") }), Denied),
            ("add_schedule", json!({ "id": schedule, "name": "x", "definition": definition("bee") }), Denied),
            ("backfill", json!({ "id": Uuid::now_v7(), "schedule": named, "from": "2025-12-01T00:00:00Z",
                "to": "2025-12-02T00:00:00Z", "overlap": null }), Gone),
            ("history", json!({ "schedule": named, "to": null, "limit": 9, "jobs": true }), Gone),
            ("list_schedules", json!({ "filter": { "tenant": "acme" } }), Nothing),
            ("pause_schedule", json!({ "schedule": named, "paused": true }), Gone),
            ("pause_schedule", json!({ "schedule": by_id, "paused": true }), Gone),
            ("remove_schedule", json!({ "schedule": by_id }), Gone),
            ("show_schedule", json!({ "schedule": by_id }), Gone),
            ("trigger", json!({ "schedule": named, "run": Uuid::now_v7(), "overlap": null }), Gone),
            ("update_schedule", json!({ "schedule": by_id, "version": 1, "definition": definition("acme") }), Gone),
            ("select", json!({ "selectors": [{ "number": pending }], "all": null }), Gone),
            ("select", json!({ "selectors": [{ "id": waits["id"] }], "all": null }), Gone),
            ("select", json!({ "selectors": [{ "prefix": prefix }], "all": null }), Gone),
            ("select", json!({ "selectors": [{ "label": ["a", "acme"] }], "all": null }), Gone),
            ("select", json!({ "selectors": ["last"], "all": null }), Nothing),
            ("select", json!({ "selectors": [], "all": { "tenant": "acme" } }), Nothing),
            ("settle", json!({ "worker": key(), "reports": [report(&fence)] }), Gone),
            ("list_homes", json!({}), Nothing),
            ("list_holdings", json!({ "worker": Uuid::now_v7(), "offer": Offer::default(), "only": null }), Nothing),
            ("outstanding", json!({ "offer": Offer::default(), "within": "1h" }), Nothing),
            ("list_waiting", json!({}), Nothing),
            ("share_queue", json!({ "queue": "acme-queue", "shared": false }), Denied),
            ("status", json!({}), Nothing),
            ("create_token", token(Uuid::now_v7(), Some("acme")), Denied),
            ("create_token", token(Uuid::now_v7(), None), Denied),
            ("list_tokens", json!({}), Nothing),
            ("revoke_token", json!({ "token": "acme-token" }), Gone),
            ("revoke_token", json!({ "token": token_id.to_string() }), Gone),
            ("turn", json!({ "worker": key(), "reports": [report(&fence)], "lease": null }), Gone),
            ("turn", json!({ "worker": w.key, "reports": [], "lease": lease }), Gone),
            ("drain_worker", json!({ "worker": "acme-worker" }), Gone),
            ("drain_worker", json!({ "worker": "shared" }), Gone),
            ("list_workers", json!({}), Nothing),
            ("measure", json!({}), Denied),
            ("why", json!({ "number": pending }), Gone),
            ("why_schedule", json!({ "schedule": by_id }), Gone),
            ("why_schedule", json!({ "schedule": named }), Gone),
        ];
        for name in world.ops.0.keys() {
            assert!(rows.iter().any(|(op, ..)| op == name), "say what {name} does for a caller of another tenant");
        }

        // All that acme has, as it sees it itself, and all that nobody but an administrator sees.
        let snapshot = async || {
            let mut all = Vec::new();
            for (op, body) in [
                ("list_jobs", json!({ "limit": 1000 })), ("list_runs", json!({ "limit": 1000 })),
                ("list_schedules", json!({ "filter": { "removed": true } })), ("list_letters", json!({ "limit": 99 })),
                ("list_tokens", json!({})), ("list_workers", json!({})),
                ("read_events", json!({ "after": 0, "limit": 1000 })),
                ("history", json!({ "schedule": { "name": "acme-schedule" }, "to": null, "limit": 99 })),
                ("get_jobs", json!({ "numbers": [pending, running, dead], "detail": true })),
            ] {
                let seen = world.try_as(&acme, op, body, Try::First).await.unwrap();
                all.push(match seen {
                    Value::Array(mut rows) if op == "read_events" => {
                        rows.retain(|event| event["kind"] != "hidden");
                        rows.into()
                    }
                    other => other,
                });
            }
            all.push(world.admin("list_nodes", json!({})).await);
            all.push(world.admin("list_policies", json!({})).await["tenants"].clone());
            all.push(world.admin("status", json!({})).await["leader"].clone());
            all
        };
        let before = snapshot().await;
        let mut calls = 0;
        let secrets = [json!(waits["id"]), json!(run), json!(ended), json!(schedule), json!(token_id), json!(own.id)];
        for (op, body, says) in &rows {
            for attempt in [Try::First, Try::Again] {
                calls += 1;
                match world.try_as(&bee, op, body.clone(), attempt).await {
                    Ok(reply) => {
                        let text = reply.to_string();
                        assert!(*says == Nothing, "{op} {body} answers {text}");
                        assert!(!text.contains(MARK), "{op} {body} shows {text}");
                        for secret in &secrets {
                            assert!(!text.contains(secret.as_str().unwrap()), "{op} shows {secret}: {text}");
                        }
                    }
                    // Some Ops cannot be looked up at all.
                    Err(e) if attempt == Try::Again && e.kind() == Kind::Unknown => {}
                    Err(e) => {
                        let kind = match says {
                            Gone => Kind::NotFound,
                            Denied => Kind::Denied,
                            Nothing => panic!("{op} {body}: {e}"),
                        };
                        assert_eq!(e.kind(), kind, "{op} {body} {attempt:?}: {e}");
                    }
                }
                assert_eq!(snapshot().await, before, "{op} {body} changed something");
            }
        }
        assert!(calls > 150, "{calls}");
    }

    async fn what_a_caller_of_one_tenant_submits_belongs_to_it(f: Fixture) {
        let world = World::of(f);
        let bee = bound("bee");
        let ask = async |op: &str, body: Value| world.try_as(&bee, op, body, Try::First).await.unwrap();
        let keyed = |more: &str| json!({ "jobs": [submission(&command(&format!(r#""idempotency_key":"k"{more}"#)))] });
        let first = ask("enqueue", keyed("")).await;
        let again = ask("enqueue", keyed(r#","tenant":"bee""#)).await;
        assert_eq!((&again[0]["number"], &again[0]["existing"]), (&first[0]["number"], &json!(true)), "it is the same job");
        let task = json!([{ "name": "t", "command": ["true"] }]);
        ask("submit_run", json!({ "id": Uuid::now_v7(), "workflow": { "name": "w", "task": task } })).await;
        let mut definition = definition("bee");
        definition["target"] = json!({ "job": { "command": ["true"] } });
        let schedule = json!({ "id": Uuid::now_v7(), "name": "s", "definition": definition });
        ask("add_schedule", schedule).await;
        definition["target"] = json!({ "workflow": { "name": "w", "defaults": {}, "task": task } });
        ask("update_schedule", json!({ "schedule": { "name": "s" }, "version": 1, "definition": definition })).await;
        let of = |list: &Value, key: &str| -> Vec<Value> {
            list[key].as_array().unwrap().iter().map(|one| one["tenant"].clone()).collect()
        };
        let jobs = world.admin("list_jobs", json!({ "limit": 9 })).await;
        assert_eq!(of(&jobs, "jobs"), ["bee", "bee"]);
        let schedule = json!({ "schedule": { "tenant": "bee", "name": "s" } });
        assert_eq!(world.admin("show_schedule", schedule).await["view"]["tenant"], "bee");
        // Others are still others.
        let refused = world.try_as(&bee, "enqueue", json!({ "jobs": [job("default", "")] }), Try::First).await.unwrap_err();
        assert_eq!(refused.kind(), Kind::Denied);
    }

    async fn a_reader_of_one_tenant_does_not_learn_when_others_do_something(f: Fixture) {
        let world = World::of(f);
        let bee = bound("bee");
        let read = async |after: i64| {
            let body = json!({ "after": after, "limit": 1 });
            let seen = world.try_as(&bee, "read_events", body, Try::First).await.unwrap();
            seen.as_array().unwrap().clone()
        };
        let store = async |tenant: &str, count: usize| {
            let jobs: Vec<Value> = (0..count).map(|_| job(tenant, "")).collect();
            world.admin("enqueue", json!({ "jobs": jobs })).await
        };
        store("acme", 20).await;
        assert!(read(0).await.is_empty());
        let mine = store("bee", 1).await;
        store("acme", 20).await;
        let seen = read(0).await;
        assert_eq!((&seen[0]["kind"], &seen[0]["number"]), (&json!("enqueued"), &mine[0]["number"]));
        let place = seen[0]["seq"].as_i64().unwrap();
        assert!(read(place).await.is_empty());
        // Behind thousands of others it goes on in steps that say nothing of them.
        store("acme", 5000).await;
        let mine = store("bee", 1).await;
        let seen = read(place).await;
        assert_eq!((&seen[0]["kind"], seen.len()), (&json!("hidden"), 1));
        assert_eq!(seen[0]["at"], json!(f.clock.now()), "the time of the question");
        let seen = read(seen[0]["seq"].as_i64().unwrap()).await;
        assert_eq!(seen[0]["number"], mine[0]["number"]);
        // Nor does a lease tell when something of others is due.
        world.admin("enqueue", json!({ "jobs": [job("acme", r#""delay":"1h""#)] })).await;
        let lease = json!({ "worker": key(), "name": "w", "offer": {}, "slots": 0, "ttl": 15, "only": null });
        let leased = world.try_as(&bee, "lease", lease.clone(), Try::First).await.unwrap();
        assert_eq!(leased["next_timer"], Value::Null);
        assert_ne!(world.admin("lease", lease).await["next_timer"], Value::Null);
    }

    async fn a_worker_of_one_tenant_runs_its_jobs_only(f: Fixture) {
        let world = World::of(f);
        let bee = bound("bee");
        for tenant in ["acme", "bee", "acme", "bee"] {
            world.admin("enqueue", json!({ "jobs": [job(tenant, "")] })).await;
        }
        let key = key();
        world.try_as(&bee, "register", worker(&key, "w"), Try::First).await.unwrap();
        let lease = json!({ "worker": key, "name": "w", "offer": Offer::default(), "slots": 9, "ttl": 15, "only": null });
        let got = world.try_as(&bee, "lease", lease, Try::First).await.unwrap();
        let tenants: Vec<&str> = got["jobs"].as_array().unwrap().iter().map(|j| j["tenant"].as_str().unwrap()).collect();
        assert_eq!(tenants, ["bee", "bee"]);
        let reports: Vec<Value> = got["jobs"].as_array().unwrap().iter().map(|j| report(&j["fence"])).collect();
        world.try_as(&bee, "settle", json!({ "worker": key, "reports": reports }), Try::First).await.unwrap();
        let status = world.try_as(&bee, "status", json!({})  , Try::First).await.unwrap();
        assert_eq!(status["queues"][0]["counts"]["done"], 2);
        assert_eq!(status["queues"][0]["counts"]["pending"], 0);
        assert_eq!(status["workers"][0]["tenant"], "bee");
    }

    async fn a_reader_of_one_tenant_comes_to_the_end_of_the_trail(f: Fixture) {
        let world = World::of(f);
        let bee = bound("bee");
        let jobs: Vec<Value> = (0..40).map(|n| job(if n % 20 == 19 { "bee" } else { "acme" }, "")).collect();
        world.admin("enqueue", json!({ "jobs": jobs })).await;
        let (mut after, mut seen, mut calls) = (0, 0, 0);
        loop {
            let page = world.try_as(&bee, "read_events", json!({ "after": after, "limit": 1 }), Try::First).await.unwrap();
            let Some(last) = page.as_array().unwrap().last() else { break };
            seen += page.as_array().unwrap().iter().filter(|e| e["kind"] == "enqueued").count();
            after = last["seq"].as_i64().unwrap();
            calls += 1;
        }
        assert_eq!(seen, 2);
        assert!(calls <= 6, "{calls}");
    }
}
