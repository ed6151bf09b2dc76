//! How fast news and deaths spread over real sockets, and what it costs; the bounds are loose, the figures are printed.

use orx::gossip::Member;

use super::*;

#[tokio::test]
async fn figures_for_three_and_ten_members() {
    for count in [3, 10] {
        measure(count).await;
    }
}

async fn measure(count: usize) {
    let lab = Lab::new();
    let plan = |n: usize| {
        let mut plan = lab.plan(&format!("node-{n}"));
        plan.config.pace = Pace::default();
        plan
    };
    let start = Instant::now();
    let mut members: Vec<Member> = vec![plan(0).start().await];
    for n in 1..count {
        let seed = members[0].address().to_string();
        members.push(plan(n).peers([seed]).start().await);
    }
    for member in &members {
        until(member, "sees all", |peers| peers.len() == count - 1).await;
    }
    let joined = start.elapsed();
    let start = Instant::now();
    members.iter().for_each(|member| member.set("load", vec![b'x'; 500]).unwrap());
    for member in &members {
        until(member, "has all values", |peers| peers.values().all(|peer| peer.values.contains_key("load"))).await;
    }
    let news = start.elapsed();
    let bytes = |members: &[Member]| members.iter().map(|m| m.counters().traffic().bytes_out).sum::<u64>();
    let (before, start) = (bytes(&members), Instant::now());
    // The rate is one over time: so much of it has to pass.
    let mut tick = tokio::time::interval_at(start + Duration::from_secs(8), Duration::from_secs(8));
    tick.tick().await;
    let rate = (bytes(&members) - before) as f64 / start.elapsed().as_secs_f64() / count as f64;
    let dead = members.pop().unwrap();
    let name = dead.id().to_owned();
    let start = Instant::now();
    drop(dead);
    let mut deaths = Vec::new();
    for member in &members {
        until(member, "sees it dead", |peers| !peers.contains_key(&name)).await;
        deaths.push(start.elapsed());
    }
    deaths.sort();
    let (first, last) = (deaths[0], deaths[deaths.len() - 1]);
    let connections = members.iter().map(Member::connections).sum::<usize>() / members.len();
    println!(
        "{count} members: joined {joined:.1?}, news {news:.1?}, death {first:.1?} to {last:.1?}, \
         {rate:.0} bytes/s a node, {connections} connections a node"
    );
    assert!(rate < 100_000.0, "{rate}");
}
