use std::sync::Arc;

use orx::engine::Try;
use orx::job::lanes::Offer;
use orx::ops::lease::Lease;
use orx::ops::nodes::{Announce, DrainNode, ListNodes, Retire};
use orx::ops::policies::ListPolicies;
use orx::ops::sharing::{ListHomes, ListWaiting, ShareQueue};
use orx::ops::{Caller, Scopes, Takes};
use orx::queue::Queue;
use orx::store::{Home, NewNode, PeerNode, PeerState, Waiting};
use orx::time::{Span, Timestamp};
use uuid::Uuid;

use super::support::*;

on_every_store! {
    async fn a_node_leases_from_shared_queues_only_and_is_told_of_no_others(f: Fixture) {
        f.add(r#""queue":"mine""#).await;
        let ours = f.add(r#""queue":"ours""#).await;
        f.add(r#""queue":"ours","require":{"gpu":"1"}"#).await;
        f.add(r#""queue":"ours","restart":"always""#).await;
        f.queue.call(ShareQueue { queue: "mine".into(), shared: false }).await.unwrap();
        let told = f.queue.call(ListWaiting {}).await.unwrap();
        let shown: Vec<_> = told.iter().map(|kind| (kind.queue.as_str(), kind.needs.key(), kind.pending)).collect();
        assert_eq!(shown, [("ours", String::new(), 1), ("ours", r#"{"labels":{"gpu":"1"}}"#.into(), 1)]);
        let queues = f.queue.call(ListPolicies {}).await.unwrap().queues;
        assert_eq!(queues.iter().filter(|q| !q.shared).map(|q| q.name.as_str()).collect::<Vec<_>>(), ["mine"]);

        let w = f.worker("peer-b", Offer::default()).await;
        let Queue::Local(engine) = &f.queue else { panic!("it is local") };
        let lease = |takes: Takes| {
            let caller = Caller { scopes: Scopes::WORK, takes, ..Caller::local("node b") };
            let offer = Offer { no_services: true, ..Offer::default() };
            let (worker, ttl) = (w.key.clone(), Span::from_secs(15));
            let op = Lease { worker, name: "peer-b".into(), offer, slots: 9, ttl, only: None };
            async move {
                let jobs = engine.call_as(Arc::new(caller), op, Try::First).await.unwrap().jobs;
                jobs.into_iter().map(|job| job.fence.number).collect::<Vec<_>>()
            }
        };
        assert!(lease(Takes::Nothing).await.is_empty());
        assert_eq!(lease(Takes::Shared).await, [ours]);
        f.queue.call(ShareQueue { queue: "mine".into(), shared: true }).await.unwrap();
        assert_eq!(lease(Takes::Shared).await.len(), 1);
        assert!(f.queue.call(ListWaiting {}).await.unwrap().iter().all(|kind| kind.needs.key().contains("gpu")));
    }

    async fn a_coordinator_tells_of_its_peers(f: Fixture) {
        let peer = PeerNode {
            name: "b".into(),
            state: PeerState::Live,
            since: Timestamp(1000),
            url: Some("http://b:7117".into()),
            version: "1".into(),
            started_at: None,
            slots: 4,
            free: 2,
            pending: 7,
            load: Some(0.5),
            clock_skew: Some(-1.5),
            key: Some("4bb06f8e4e3a7715".into()),
        };
        let mut node = NewNode {
            id: Uuid::now_v7(),
            name: "a".into(),
            host: "here".into(),
            pid: 1,
            address: None,
            version: "1".into(),
            load: 0.0,
            draining: false,
            peers: Vec::new(),
            homes: Vec::new(),
        };
        for peers in [vec![], vec![peer.clone()], vec![PeerNode { state: PeerState::Gone, ..peer }]] {
            node.peers.clone_from(&peers);
            f.queue.call(Announce { node: node.clone(), ttl: Span::from_secs(15) }).await.unwrap();
            assert_eq!(f.queue.call(ListNodes {}).await.unwrap()[0].peers, peers);
        }
    }

    async fn who_needs_help_is_told_to_workers_of_all_tenants_and_to_no_other_node(f: Fixture) {
        let waiting = vec![Waiting { queue: "q".into(), needs: Default::default(), pending: 3 }];
        let home = |node: &str, token: &str| Home {
            node: node.into(),
            helper: "a".into(),
            url: "http://10.0.0.2:7117".into(),
            token: token.into(),
            waiting: waiting.clone(),
            version: 7,
        };
        let node = |name: &str, homes: Vec<Home>| NewNode {
            id: Uuid::now_v7(),
            name: name.into(),
            host: "here".into(),
            pid: 1,
            address: None,
            version: "1".into(),
            load: 0.0,
            draining: false,
            peers: Vec::new(),
            homes,
        };
        let ttl = Span::from_secs(15);
        let mut first = node("a", vec![home("b", "old"), home("c", "c")]);
        f.queue.call(Announce { node: first.clone(), ttl }).await.unwrap();
        first.homes[0].token = "new".into();
        f.queue.call(Announce { node: first.clone(), ttl }).await.unwrap();
        let told = || async { f.queue.call(ListHomes {}).await.unwrap() };
        assert_eq!(told().await, first.homes);
        assert!(!format!("{:?}", told().await).contains("new"), "a token is not for logs");
        let shown = serde_json::to_string(&f.queue.call(ListNodes {}).await.unwrap()).unwrap();
        assert!(!shown.contains("new"), "{shown}");
        // Two coordinators of one store know the same nodes, each for itself.
        let second = node("a-2", vec![home("c", "c"), home("d", "d")]);
        f.queue.call(Announce { node: second.clone(), ttl }).await.unwrap();
        assert_eq!(told().await.iter().map(|home| home.node.as_str()).collect::<Vec<_>>(), ["b", "c", "d"]);

        let Queue::Local(engine) = &f.queue else { panic!("it is local") };
        let ask = |caller: Caller| engine.call_as(Arc::new(caller), ListHomes {}, Try::First);
        let works = |tenant: Option<&str>, takes| Caller {
            tenant: tenant.map(str::to_owned),
            scopes: Scopes::WORK,
            takes,
            ..Caller::local("w")
        };
        assert_eq!(ask(works(None, Takes::All)).await.unwrap().len(), 3);
        for caller in [works(Some("t"), Takes::All), works(None, Takes::Shared), works(None, Takes::Nothing)] {
            assert!(ask(caller).await.unwrap().is_empty());
        }
        // What a coordinator said ends with it.
        f.queue.call(Retire { id: first.id }).await.unwrap();
        f.queue.call(DrainNode { node: "a-2".into() }).await.unwrap();
        assert!(told().await.is_empty());
    }
}
