//! Peers: three coordinators run the jobs of one of them as fast as one process does, and a partition loses nothing.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::table::Table;
use super::verdict::{Copies, Told, judge, wait_all_ended};
use super::witness::{self, Mark};
use super::world::{LIMIT, Process, World, eventually, full};

const NAMES: [&str; 3] = ["a", "b", "c"];
/// How much longer than one process with as many slots.
const PROMISED: f64 = 1.25;

#[test]
fn peers_share_jobs_nearly_as_fast_as_one_process_with_their_slots_runs_them() {
    let jobs = if full() { 1000 } else { 90 };
    let mut table = Table::new(format!("Peers, {jobs} jobs of 50 ms: 3 coordinators × 2 slots, 1 × 6"));
    let one = World::on_file();
    let coordinator = one.spawn(&["coordinator", "--listen", "127.0.0.1:0", "--slots", "6"]);
    eventually("the coordinator to be ready", LIMIT, || coordinator.stderr().contains("ready"));
    let alone = time(&one, jobs, &mut table, "one process");
    coordinator.stop();

    let cluster = Cluster::start("15s", false);
    let together = time(&cluster.worlds[0], jobs, &mut table, "three nodes");
    let factor = together.as_secs_f64() / alone.as_secs_f64();
    match full() {
        true => table.at_most("factor", (factor * 100.0).round() / 100.0, PROMISED),
        false => table.fact("factor", format!("{factor:.2} (a short run: most of it is the first word)")),
    }
    cluster.judge(table, jobs, 20);
}

#[test]
fn peers_that_a_partition_parts_lose_nothing_and_double_only_what_was_lost() {
    let (jobs, cut) = if full() { (3000, Duration::from_secs(60)) } else { (160, Duration::from_secs(2)) };
    let mut table = Table::new(format!("Peers, {jobs} jobs of 50 ms, a partition of {} s", cut.as_secs()));
    let cluster = Cluster::start(if full() { "2s" } else { "1s" }, true);
    let world = &cluster.worlds[0];
    add(world, jobs);
    let wrote = |part: usize| eventually("jobs to end", LIMIT, || ends(world) >= jobs * part / 8);
    wrote(1);
    cluster.cut.store(true, Ordering::Relaxed);
    let until = Instant::now() + cut;
    eventually("the partition to be over", LIMIT, || Instant::now() >= until);
    let before = ends(world);
    table.fact("ended when it was healed", before);
    cluster.cut.store(false, Ordering::Relaxed);
    table.fact("ended after that", format!("{:.1} s", wait_all_ended(world, LIMIT).as_secs_f64()));
    cluster.judge(table, jobs, 1);
}

/// How long so many jobs take from the moment they are stored.
fn time(world: &World, jobs: usize, table: &mut Table, who: &str) -> Duration {
    add(world, jobs);
    let took = eventually("all jobs to end", LIMIT, || ends(world) >= jobs);
    wait_all_ended(world, LIMIT);
    table.fact(who, format!("{:.2} s", took.as_secs_f64()));
    took
}

fn add(world: &World, jobs: usize) {
    std::fs::write(world.path("list"), "50\n".repeat(jobs)).unwrap();
    let witness = world.witness();
    let command = ["--", witness::helper(), witness.to_str().unwrap(), "{}"];
    world.ok(&[&["-q", "enqueue", "--each-line", "list"][..], &command].concat());
}

fn ends(world: &World) -> usize {
    let text = std::fs::read_to_string(world.witness()).unwrap_or_default();
    text.lines().filter(|line| line.starts_with("end")).count()
}

/// Three coordinators with two slots each, each with a store of its own.
struct Cluster {
    worlds: Vec<World>,
    nodes: Vec<Process>,
    /// Whether nothing comes through between them.
    cut: Arc<AtomicBool>,
}

impl Cluster {
    /// Starts them, `apart` behind doors that can be shut, and waits until all know all.
    fn start(lease: &str, apart: bool) -> Self {
        let worlds: Vec<World> = NAMES.iter().map(|_| World::on_file()).collect();
        let key = worlds[0].path("cluster.key");
        worlds[0].ok(&["cluster", "key", key.to_str().unwrap()]);
        let cut = Arc::new(AtomicBool::new(false));
        let mut first: Option<SocketAddr> = None;
        let mut nodes = Vec::new();
        for (world, name) in worlds.iter().zip(NAMES) {
            let config = world.path(".config/orx");
            std::fs::create_dir_all(&config).unwrap();
            std::fs::write(config.join("config.toml"), format!("[worker]\nlease = \"{lease}\"\n")).unwrap();
            let [api, gossip] = [Door::new(&cut), Door::new(&cut)];
            let mut words: Vec<String> =
                ["coordinator", "--slots=2", "--listen=127.0.0.1:0", "--gossip-listen=127.0.0.1:0"]
                    .map(Into::into)
                    .into();
            words.extend([format!("--name={name}"), format!("--cluster-key-file={}", key.display())]);
            if apart {
                words.push(format!("--advertise=http://{}", api.address));
                words.push(format!("--gossip-advertise={}", gossip.address));
            }
            words.extend(first.map(|first| format!("--peer={first}")));
            let node = world.spawn(&words.iter().map(String::as_str).collect::<Vec<_>>());
            eventually("a coordinator to be ready", LIMIT, || node.stderr().contains(" ready "));
            let said = node.stderr();
            let after = |word: &str| said.split(word).nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap();
            let own: SocketAddr = after(" listen=").parse().unwrap();
            api.lead_to(after("url=http://").parse().unwrap());
            first.get_or_insert(if apart { gossip.address } else { own });
            gossip.lead_to(own);
            nodes.push(node);
        }
        let knows = |node: &Process, name: &str| node.stderr().contains(&format!("a peer is there peer={name}"));
        eventually("all to know all", LIMIT, || {
            let pairs = nodes.iter().zip(NAMES).flat_map(|(node, me)| NAMES.map(|name| (node, me, name)));
            pairs.into_iter().all(|(node, me, name)| me == name || knows(node, name))
        });
        Self { worlds, nodes, cut }
    }

    /// All jobs were at the first; `least` of them must have been run by others.
    fn judge(mut self, mut table: Table, jobs: usize, least: usize) {
        let home = &self.worlds[0];
        let listed = home.ok(&["list", "--limit", "0", "--format", "{{id}} {{worker}}"]);
        let ids: Vec<String> = listed.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect();
        let helped =
            listed.lines().filter(|line| line.split(' ').nth(1).is_some_and(|w| w.starts_with("peer-"))).count();
        table.exactly("jobs", ids.len(), jobs);
        table.at_least("ended by other nodes", helped, least);
        let starts = home.lines().iter().filter(|line| line.mark == Mark::Start).count();
        table.fact("starts beyond the first", starts - jobs);
        for node in self.nodes.drain(..).rev() {
            node.stop();
        }
        judge(home, &Told::of(ids), Copies::Never, &mut table);
        for world in &self.worlds {
            world.ok(&["audit"]);
        }
        table.finish();
    }
}

/// A way to a place that is not known yet, through which nothing comes while `cut` is set.
struct Door {
    address: SocketAddr,
    target: Arc<OnceLock<SocketAddr>>,
}

impl Door {
    fn new(cut: &Arc<AtomicBool>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, target) = (listener.local_addr().unwrap(), Arc::new(OnceLock::new()));
        let (cut, place) = (Arc::clone(cut), Arc::clone(&target));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let Some(Ok(other)) = place.get().map(TcpStream::connect) else { continue };
                for (from, to) in [(&stream, &other), (&other, &stream)] {
                    let (from, to, cut) = (from.try_clone().unwrap(), to.try_clone().unwrap(), Arc::clone(&cut));
                    std::thread::spawn(move || carry(from, to, &cut));
                }
            }
        });
        Self { address, target }
    }

    fn lead_to(&self, target: SocketAddr) {
        self.target.set(target).unwrap();
    }
}

/// Carries bytes one way; while nothing comes through they wait, as they do for a network that is broken.
fn carry(mut from: TcpStream, mut to: TcpStream, cut: &AtomicBool) {
    let mut buffer = [0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        while cut.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(5));
        }
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Write); // it may be gone
}
