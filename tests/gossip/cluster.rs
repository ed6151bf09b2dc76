//! Members of one cluster: finding each other, values, restarts, good-byes, lists of peers.

use orx::error::Kind;
use orx::gossip::{MAX_VALUES, Member, Refusal};

use super::*;

#[tokio::test]
async fn three_members_find_each_other_and_hear_what_each_says() {
    let lab = Lab::new();
    let a = lab.start("a", None).await;
    let b = lab.start("b", Some(&a)).await;
    let c = lab.start("c", Some(&b)).await; // is never told of a
    sees(&a, &["b", "c"]).await;
    sees(&b, &["a", "c"]).await;
    sees(&c, &["a", "b"]).await;
    c.set("load", "5").unwrap();
    c.set("raw", vec![0, 255]).unwrap();
    until(&a, "hears both", |p| said(p, "c", "load") == Some(b"5") && said(p, "c", "raw") == Some(&[0, 255])).await;
    let before = a.peers().borrow()["c"].values["load"].version;
    c.set("load", "6").unwrap();
    c.unset("raw");
    until(&a, "hears the change", |p| said(p, "c", "load") == Some(b"6") && said(p, "c", "raw").is_none()).await;
    assert!(a.peers().borrow()["c"].values["load"].version > before);
    assert_eq!(a.peers().borrow()["b"].address, b.address());
    assert_eq!(c.set("big", vec![0; MAX_VALUES]).unwrap_err().kind(), Kind::Limit);
    c.set("load", vec![b'x'; MAX_VALUES - 4]).unwrap();
    until(&a, "hears the most there may be", |p| said(p, "c", "load").is_some_and(|v| v.len() == MAX_VALUES - 4)).await;
    for member in [&a, &b, &c] {
        for (why, times) in member.counters().refusals() {
            assert!(times == 0 || [Refusal::QueueFull, Refusal::OwnAddress].contains(&why), "{why:?} {times}");
        }
    }
}

#[tokio::test]
async fn it_works_over_ipv6() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        println!("skipped: this machine has no IPv6");
        return;
    }
    let lab = Lab::new();
    let a = lab.plan("a").listen("[::1]:0").start().await;
    let b = lab.plan("b").listen("[::1]:0").peers([a.address().to_string()]).start().await;
    sees(&a, &["b"]).await;
    sees(&b, &["a"]).await;
    assert!(b.address().is_ipv6());
}

#[tokio::test]
async fn who_dies_is_seen_dead_and_comes_back_as_a_new_generation() {
    let lab = Lab::new();
    let a = lab.start("a", None).await;
    let b = lab.start("b", Some(&a)).await;
    let c = lab.start("c", Some(&a)).await;
    sees(&a, &["b", "c"]).await;
    sees(&c, &["a", "b"]).await;
    let before = a.peers().borrow()["b"].generation;
    let address = b.address().to_string();
    drop(b); // without a good-bye
    sees(&a, &["c"]).await;
    sees(&c, &["a"]).await;
    let b = lab.plan("b").listen(&address).start().await; // is told of nobody: the others remember it
    sees(&b, &["a", "c"]).await;
    until(&a, "sees the new b", |peers| peers.get("b").is_some_and(|b| b.generation > before)).await;
    until(&c, "sees the new b", |peers| peers.get("b").is_some_and(|b| b.generation > before)).await;
    assert_eq!(a.counters().refused(Refusal::SameId) + c.counters().refused(Refusal::SameId), 0);
}

#[tokio::test]
async fn a_good_bye_is_heard_before_a_death_would_be_seen() {
    let lab = Lab::new();
    let slow = |id: &str| {
        let mut plan = lab.plan(id);
        plan.config.pace.phi = 100_000.0; // nobody is seen dead in this test
        plan
    };
    let a = slow("a").start().await;
    let b = slow("b").peers([a.address().to_string()]).start().await;
    let c = slow("c").peers([a.address().to_string()]).start().await;
    sees(&a, &["b", "c"]).await;
    sees(&b, &["a", "c"]).await;
    c.stop().await;
    sees(&a, &["b"]).await;
    sees(&b, &["a"]).await;
}

#[tokio::test]
async fn peers_come_from_a_list_that_is_read_again_and_from_names() {
    let lab = Lab::new();
    let list = lab.path("peers");
    std::fs::write(&list, "# nobody yet\n").unwrap();
    let mut plan = lab.plan("a");
    plan.config.seeds.file = Some(list.clone());
    let a = plan.start().await;
    let b = lab.start("b", None).await;
    std::fs::write(&list, format!("localhost:{} # by name\n", b.address().port())).unwrap();
    sees(&a, &["b"]).await;
    sees(&b, &["a"]).await;
}

#[tokio::test]
async fn peers_that_are_not_there_yet_are_tried_again() {
    let lab = Lab::new();
    let address = free_address().to_string();
    let a = lab.plan("a").peers([address.clone(), "no-such-host.invalid:1".into()]).start().await;
    refuses(&a, Refusal::Unresolved, 2).await;
    assert!(a.peers().borrow().is_empty());
    let b = lab.plan("b").listen(&address).start().await;
    sees(&a, &["b"]).await;
    sees(&b, &["a"]).await;
}

#[tokio::test]
async fn ones_own_address_among_the_peers_is_passed_over() {
    let lab = Lab::new();
    let plan = lab.plan("a").listen("0.0.0.0:0");
    let mut plan = plan;
    plan.config.advertise = Some("127.0.0.1:0".parse().unwrap());
    let list = lab.path("peers");
    std::fs::write(&list, "").unwrap();
    plan.config.seeds.file = Some(list.clone());
    let a = plan.start().await;
    // The first is the address it advertises; of the second it learns only by connecting that it leads to itself.
    std::fs::write(&list, format!("{}\n127.0.0.2:{}\n", a.address(), a.address().port())).unwrap();
    refuses(&a, Refusal::OwnAddress, 1).await;
    let b = lab.start("b", Some(&a)).await;
    sees(&a, &["b"]).await;
    sees(&b, &["a"]).await;
    assert_eq!(a.counters().refused(Refusal::SameId), 0);
}

#[tokio::test]
async fn what_cannot_work_is_said_at_the_start() {
    let lab = Lab::new();
    let refused = |plan: Plan| async move { Member::start(plan.config, plan.keys).await.err().unwrap() };
    let error = refused(lab.plan("a").listen("0.0.0.0:0")).await;
    assert!(error.hint_text().unwrap().contains("--gossip-advertise"));
    assert_eq!(refused(lab.plan("a b")).await.kind(), Kind::Usage);
    assert_eq!(refused(lab.plan("a").peers(["host".into()])).await.kind(), Kind::Usage);
    let a = lab.start("a", None).await;
    assert_eq!(refused(lab.plan("b").listen(&a.address().to_string())).await.kind(), Kind::Unavailable);
    let mut plan = lab.plan("a");
    plan.config.generation_file = lab.path("missing/generation");
    assert_eq!(refused(plan).await.kind(), Kind::Failed);
}
