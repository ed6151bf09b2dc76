//! Who is no member: another key, another label, another node under the same id; and keys that change.

use orx::gossip::{KeyRing, Refusal};

use super::*;

#[tokio::test]
async fn another_key_stays_outside_and_both_sides_say_so() {
    let lab = Lab::new();
    let a = lab.start("a", None).await;
    let stranger = lab.plan("stranger").keys(KeyRing::of(key())).peers([a.address().to_string()]).start().await;
    refuses(&a, Refusal::WrongKey, 2).await;
    refuses(&stranger, Refusal::RefusedByPeer, 2).await;
    let b = lab.start("b", Some(&a)).await;
    sees(&a, &["b"]).await;
    sees(&b, &["a"]).await;
    assert!(stranger.peers().borrow().is_empty());
    assert_eq!(stranger.counters().traffic().connections, 0);
}

#[tokio::test]
async fn the_same_key_with_another_label_stays_outside() {
    let lab = Lab::new();
    let a = lab.start("a", None).await;
    let mut plan = lab.plan("production").peers([a.address().to_string()]);
    plan.config.label = "production".into();
    let other = plan.start().await;
    refuses(&a, Refusal::WrongKey, 2).await;
    refuses(&other, Refusal::RefusedByPeer, 2).await;
    assert!(a.peers().borrow().is_empty() && other.peers().borrow().is_empty());
}

#[tokio::test]
async fn a_rotation_one_node_after_the_other_leaves_no_gap() {
    let lab = Lab::new();
    let (old, new) = (lab.keys.clone(), lab.keys.rotated(key()));
    let a = lab.start("a", None).await;
    let b = lab.start("b", Some(&a)).await;
    let c = lab.start("c", Some(&a)).await;
    sees(&a, &["b", "c"]).await;
    sees(&b, &["a", "c"]).await;
    sees(&c, &["a", "b"]).await;
    b.set_keys(new.clone());
    let address = b.address().to_string();
    b.stop().await;
    sees(&a, &["c"]).await;
    // The one that has rotated connects to those that have not, with its second key.
    let b = lab.plan("b").keys(new.clone()).listen(&address).peers([a.address().to_string()]).start().await;
    sees(&b, &["a", "c"]).await;
    sees(&a, &["b", "c"]).await;
    a.set_keys(new.clone());
    c.set_keys(new.clone());
    let next = new.rotated(key());
    assert!(!next.keys().contains(old.current()));
    for (n, member) in [&a, &b, &c].into_iter().enumerate() {
        member.set_keys(next.clone());
        member.set("rotated", n.to_string()).unwrap();
    }
    for member in [&a, &b, &c] {
        let all = |peers: &Peers| peers.len() == 2 && peers.values().all(|peer| peer.values.contains_key("rotated"));
        until(member, "hears the others after the rotation", all).await;
    }
    // The first key is good no more.
    let late = lab.plan("late").keys(old).peers([a.address().to_string()]).start().await;
    refuses(&a, Refusal::WrongKey, 1).await;
    assert!(late.peers().borrow().is_empty());
}

#[tokio::test]
async fn a_key_that_is_taken_away_ends_connections() {
    let lab = Lab::new();
    let a = lab.start("a", None).await;
    let b = lab.start("b", Some(&a)).await;
    sees(&a, &["b"]).await;
    a.set_keys(KeyRing::of(key()));
    sees(&a, &[]).await;
    sees(&b, &[]).await;
    refuses(&a, Refusal::WrongKey, 1).await;
}

#[tokio::test]
async fn two_nodes_with_one_id_are_noticed_by_themselves_and_by_others() {
    let lab = Lab::new();
    let a = lab.start("a", None).await;
    let first = lab.start("twin", Some(&a)).await;
    sees(&a, &["twin"]).await;
    let second = lab.start("twin", Some(&a)).await;
    refuses(&a, Refusal::SameId, 1).await;
    refuses(&first, Refusal::SameId, 1).await;
    refuses(&second, Refusal::SameId, 1).await;
    let b = lab.start("b", Some(&a)).await;
    sees(&a, &["b", "twin"]).await;
    sees(&b, &["a", "twin"]).await;
}
