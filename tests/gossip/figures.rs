//! How fast news and deaths spread over real sockets, and what it costs; the bounds are loose, the figures are printed.

use orx::gossip::Member;

use super::*;

/// What was measured of a cluster.
struct Figures {
    count: usize,
    joined: Duration,
    news: Duration,
    /// How long each of those that are left needed to see each of the dead.
    deaths: Vec<Duration>,
    /// Sent by a node in a second while nothing happens.
    bytes: f64,
    connections: usize,
}

/// Both at once: they mostly wait.
#[tokio::test]
async fn figures_for_three_and_ten_members() {
    let (three, ten) = tokio::join!(measure(3, 1), measure(10, 3));
    println!("nodes  joined  news   death p50  p99    bytes/s a node  connections a node");
    for figures in [&three, &ten] {
        let Figures { count, joined, news, deaths, bytes, connections } = figures;
        let (p50, p99) = (deaths[deaths.len() / 2], deaths[deaths.len() * 99 / 100]);
        println!("{count:5}  {joined:5.1?}  {news:5.1?}  {p50:6.1?}  {p99:6.1?}  {bytes:10.0}  {connections:6}");
        assert!(*bytes < 100_000.0, "{bytes}");
    }
    println!("each further node costs each {:.0} bytes/s", (ten.bytes - three.bytes) / 7.0);
}

async fn measure(count: usize, dying: usize) -> Figures {
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
    let sent = |members: &[Member]| members.iter().map(|m| m.counters().traffic().bytes_out).sum::<u64>();
    let (before, start) = (sent(&members), Instant::now());
    // The rate is one over time: so much of it has to pass.
    let mut tick = tokio::time::interval_at(start + Duration::from_secs(5), Duration::from_secs(5));
    tick.tick().await;
    let bytes = (sent(&members) - before) as f64 / start.elapsed().as_secs_f64() / count as f64;
    let connections = members.iter().map(Member::connections).sum::<usize>() / members.len();
    let dead: Vec<Member> = members.split_off(count - dying);
    let names: Vec<String> = dead.iter().map(|member| member.id().to_owned()).collect();
    let start = Instant::now();
    drop(dead);
    let pairs = members.iter().flat_map(|member| names.iter().map(move |name| (member, name)));
    let seen = pairs.map(|(member, name)| async move {
        until(member, "sees it dead", |peers| !peers.contains_key(name)).await;
        start.elapsed()
    });
    let mut deaths = futures_util::future::join_all(seen).await;
    deaths.sort();
    Figures { count, joined, news, deaths, bytes, connections }
}
