//! Whole members on a simulated network: what is cut, one-way, slow or restarted, and chance itself follow from a seed.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use turmoil::net::TcpStream;
use turmoil::{Builder, Sim};

use super::counters::Refusal;
use super::frame::{Decoder, MAX_FRAME, framed, read_frame};
use super::hello::Hello;
use super::key::{ClusterKey, KeyRing};
use super::member::{Config, Member, Pace};
use super::net::HELLO;
use super::peers::Peers;
use super::seal::Initiator;
use super::seeds::Seeds;
use crate::time::{BootTime, Clock, Timestamp};

const PORT: u16 = 7946;
/// All that is simulated happens in ticks.
const TICK: Duration = Duration::from_millis(20);

thread_local! {
    /// Where the chance of this thread has come to; zero: it is the system's.
    static CHANCE: Cell<u64> = const { Cell::new(0) };
}

/// Stands before the system's function of this name, for all that makes random numbers: `rand`, hash maps, UUIDs, Noise.
///
/// # Safety
/// As the system's: `buffer` has room for `len` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut libc::c_void, len: usize, flags: libc::c_uint) -> isize {
    let mut state = CHANCE.try_with(Cell::get).unwrap_or_default();
    if state == 0 {
        // SAFETY: what is asked of us is asked of the system.
        return unsafe { libc::syscall(libc::SYS_getrandom, buffer, len, flags) as isize };
    }
    for at in 0..len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        // SAFETY: `at` is less than `len`.
        unsafe { *buffer.cast::<u8>().add(at) = (state >> 32) as u8 };
    }
    CHANCE.set(state);
    len as isize
}

/// Runs a story on a thread of its own, whose chance follows from `seed`.
fn with_chance<T: Send + 'static>(seed: u64, story: impl FnOnce() -> T + Send + 'static) -> T {
    let told = std::thread::spawn(move || {
        CHANCE.set(seed | 1);
        story()
    });
    told.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// The wall clock of a member, which is so many days ahead.
struct SimClock(i64);

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        let since = turmoil::sim_elapsed().unwrap_or_default();
        Timestamp(1_700_000_000_000 + self.0 * 86_400_000 + since.as_millis() as i64)
    }

    fn boot(&self) -> BootTime {
        BootTime { boot: "simulated".into(), ms: self.now().0 }
    }
}

/// What happens in one run.
#[derive(Default)]
struct Book {
    members: BTreeMap<String, Member>,
    /// Each change of what a member sees, in order.
    trace: String,
}

struct Cluster {
    sim: Sim<'static>,
    book: Rc<RefCell<Book>>,
    keys: KeyRing,
    _dir: tempfile::TempDir,
}

impl Cluster {
    /// So many members, all told of the first, each a day ahead of the one before; links delay by up to `latency`.
    fn new(seed: u64, count: usize, latency: Duration) -> Self {
        let mut sim = Builder::new()
            .rng_seed(seed)
            .tick_duration(TICK)
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(latency)
            .simulation_duration(Duration::from_secs(3600))
            .tcp_capacity(1024)
            .build();
        let (book, dir) = (Rc::<RefCell<Book>>::default(), tempfile::tempdir().unwrap());
        let keys = KeyRing::of(ClusterKey::generate().unwrap());
        for (day, name) in (0..).zip((0..count).map(name)) {
            let (host, book, keys, path) = (name.clone(), Rc::clone(&book), keys.clone(), dir.path().to_owned());
            sim.host(name, move || {
                let (name, book, keys) = (host.clone(), Rc::clone(&book), keys.clone());
                let generation_file = path.join(&name);
                async move {
                    let config = Config {
                        id: name.clone(),
                        listen: ([0, 0, 0, 0], PORT).into(),
                        advertise: Some((turmoil::lookup(name.as_str()), PORT).into()),
                        seeds: Seeds { peers: vec![format!("{}:{PORT}", turmoil::lookup("n0"))], file: None },
                        label: "simulated".into(),
                        generation_file,
                        pace: Pace::default(),
                        clock: Arc::new(SimClock(day)),
                    };
                    let member = Member::start(config, keys).await?;
                    let mut peers = member.peers();
                    book.borrow_mut().members.insert(name.clone(), member);
                    loop {
                        book.borrow_mut().note(&name, &peers.borrow_and_update().clone());
                        if peers.changed().await.is_err() {
                            return Ok(());
                        }
                    }
                }
            });
        }
        Self { sim, book, keys, _dir: dir }
    }

    /// Runs until all of `nodes` see what they should, and gives how long that took.
    fn until(&mut self, nodes: &[usize], what: &str, holds: impl Fn(usize, &Peers) -> bool) -> Duration {
        let start = self.sim.elapsed();
        loop {
            let book = self.book.borrow();
            let sees = |n: &usize| book.members.get(&name(*n)).is_some_and(|m| holds(*n, &m.peers().borrow()));
            if nodes.iter().all(sees) {
                return self.sim.elapsed() - start;
            }
            let took = self.sim.elapsed() - start;
            assert!(took < Duration::from_secs(120), "{what}\n{}", book.trace);
            drop(book);
            self.sim.step().unwrap();
        }
    }

    fn sees_all(&mut self, nodes: &[usize], count: usize) -> Duration {
        self.until(nodes, "sees all", |_, peers| peers.len() == count - 1)
    }

    fn pass(&mut self, time: Duration) {
        let end = self.sim.elapsed() + time;
        while self.sim.elapsed() < end {
            self.sim.step().unwrap();
        }
    }

    fn say(&self, n: usize, value: &str) {
        self.book.borrow().members[&name(n)].set("word", value).unwrap();
    }

    /// Waits until all of `nodes` have heard the word of `from`.
    fn hear(&mut self, nodes: &[usize], from: usize, word: &str) -> Duration {
        let heard = |peers: &Peers| said(peers, from).is_some_and(|bytes| bytes == word.as_bytes());
        self.until(nodes, &format!("hears {word:?} of {from}"), |_, peers| heard(peers))
    }

    fn refused(&self, n: usize, why: Refusal) -> u64 {
        self.book.borrow().members[&name(n)].counters().refused(why)
    }
}

impl Drop for Cluster {
    /// Members end before the hosts on which they ran.
    fn drop(&mut self) {
        self.book.borrow_mut().members.clear();
    }
}

impl Book {
    fn note(&mut self, node: &str, peers: &Peers) {
        let at = turmoil::sim_elapsed().unwrap_or_default().as_millis();
        write!(self.trace, "{at} {node}:").unwrap();
        for peer in peers.values() {
            write!(self.trace, " {}@{}={}", peer.id, peer.generation, peer.version).unwrap();
        }
        self.trace.push('\n');
    }
}

fn name(n: usize) -> String {
    format!("n{n}")
}

fn said(peers: &Peers, n: usize) -> Option<&[u8]> {
    Some(&peers.get(&name(n))?.values.get("word")?.bytes)
}

const LATENCY: Duration = Duration::from_millis(40);

#[test]
fn what_is_parted_is_seen_gone_and_what_is_joined_again_knows_all() {
    with_chance(7, || {
        let mut cluster = Cluster::new(7, 5, LATENCY);
        let all = [0, 1, 2, 3, 4];
        cluster.sees_all(&all, 5);
        for far in [3, 4] {
            (0..3).for_each(|near| cluster.sim.partition(name(near), name(far)));
        }
        cluster.until(&[0, 1, 2], "sees the others gone", |_, peers| peers.len() == 2);
        cluster.until(&[3, 4], "sees the others gone", |_, peers| peers.len() == 1);
        cluster.say(0, "here");
        cluster.say(4, "there");
        cluster.hear(&[1, 2], 0, "here");
        cluster.hear(&[3], 4, "there");
        cluster.pass(Duration::from_secs(40));
        for far in [3, 4] {
            (0..3).for_each(|near| cluster.sim.repair(name(near), name(far)));
        }
        let healed = cluster.sees_all(&all, 5);
        cluster.hear(&[1, 2, 3, 4], 0, "here");
        cluster.hear(&[0, 1, 2, 3], 4, "there");
        assert!(healed < Duration::from_secs(60), "{healed:?}");
        for n in all {
            assert_eq!(cluster.refused(n, Refusal::SameId) + cluster.refused(n, Refusal::Forged), 0);
        }
    });
}

#[test]
fn where_nothing_comes_from_one_to_another_a_third_carries_the_word() {
    with_chance(11, || {
        let mut cluster = Cluster::new(11, 3, LATENCY);
        let all = [0, 1, 2];
        cluster.sees_all(&all, 3);
        cluster.sim.partition_oneway(name(1), name(2));
        // Longer than a connection may be silent: the half that is left of it has been given up.
        cluster.pass(Duration::from_secs(45));
        assert!(cluster.refused(2, Refusal::Silent) > 0, "the half-open connection is noticed");
        cluster.say(1, "around");
        cluster.say(2, "back");
        let (there, back) = (cluster.hear(&[0, 2], 1, "around"), cluster.hear(&[0, 1], 2, "back"));
        assert!(there.max(back) < Duration::from_secs(10), "{there:?} {back:?}");
        cluster.until(&all, "still sees all", |_, peers| peers.len() == 2);
        cluster.sim.repair_oneway(name(1), name(2));
        cluster.say(1, "again");
        cluster.hear(&[0, 2], 1, "again");
    });
}

#[test]
fn who_crashes_is_seen_gone_and_comes_back_as_a_new_generation() {
    with_chance(13, || {
        let mut cluster = Cluster::new(13, 4, LATENCY);
        let all = [0, 1, 2, 3];
        cluster.sees_all(&all, 4);
        let generation = |cluster: &Cluster| cluster.book.borrow().members["n1"].peers().borrow()["n0"].generation;
        let mut before = generation(&cluster);
        for _ in 0..3 {
            // The first, whom the others were told of.
            cluster.sim.crash(name(0));
            cluster.until(&all[1..], "sees it gone", |_, peers| peers.len() == 2);
            cluster.sim.bounce(name(0));
            let newer = move |peers: &Peers| peers.get("n0").is_some_and(|peer| peer.generation > before);
            cluster.until(&all[1..], "sees it again", move |_, peers| newer(peers));
            cluster.sees_all(&all, 4);
            before = generation(&cluster);
        }
        // At once again, before anybody sees it gone.
        cluster.sim.crash(name(2));
        cluster.sim.bounce(name(2));
        cluster.sees_all(&all, 4);
        for n in [0, 1, 3] {
            assert_eq!(cluster.refused(n, Refusal::SameId), 0, "a restart is no second node of that id");
        }
    });
}

#[test]
fn a_slow_node_stays_and_slows_nobody_else() {
    with_chance(17, || {
        let mut cluster = Cluster::new(17, 4, LATENCY);
        let all = [0, 1, 2, 3];
        cluster.sees_all(&all, 4);
        for n in 0..3 {
            cluster.sim.set_link_latency(name(n), name(3), Duration::from_millis(900));
        }
        cluster.pass(Duration::from_secs(12));
        cluster.say(0, "fast");
        let fast = cluster.hear(&[1, 2], 0, "fast");
        assert!(fast < Duration::from_secs(3), "{fast:?}");
        cluster.say(3, "slow");
        let slow = cluster.hear(&[0, 1, 2], 3, "slow");
        assert!(slow < Duration::from_secs(20), "{slow:?}");
        let seen = cluster.book.borrow().trace.clone();
        let last: Vec<&str> = seen.lines().rev().take(3).collect();
        assert!(last.iter().all(|line| line.matches('@').count() == 3), "nobody was given up: {last:?}");
    });
}

/// Connects to the first member as a process that says `hello` and then `message`, and listens on.
async fn speak(key: ClusterKey, hello: String, message: Vec<u8>) -> turmoil::Result {
    let mut stream = TcpStream::connect(("n0", PORT)).await?;
    let (initiator, first) = Initiator::begin(&key, "simulated")?;
    stream.write_all(&framed(&first)).await?;
    let mut decoder = Decoder::default();
    let answer = read_frame(&mut stream, &mut decoder, MAX_FRAME).await?;
    let (mut sealer, _) = initiator.end(&answer).map_err(|_| "the answer is not sealed")?;
    for message in [[&[HELLO], hello.as_bytes()].concat(), message] {
        stream.write_all(&framed(&sealer.seal(&message)?)).await?;
    }
    while read_frame(&mut stream, &mut decoder, MAX_FRAME).await.is_ok() {}
    Ok(())
}

#[test]
fn a_newer_version_is_refused_where_it_understands_us_no_more_and_its_news_are_passed_over() {
    with_chance(19, || {
        let mut cluster = Cluster::new(19, 2, LATENCY);
        cluster.sees_all(&[0, 1], 2);
        let connections = |cluster: &Cluster| cluster.book.borrow().members["n0"].connections();
        let (key, before) = (cluster.keys.current().clone(), connections(&cluster));
        let hello = |name: &str, oldest: u16| {
            let hello = Hello::new(name, ([192, 168, 9, 9], PORT).into());
            let hello = String::from_utf8(hello.encode()).unwrap();
            hello.replacen("{", "{\"more\":[1],", 1).replace("\"oldest\":1", &format!("\"oldest\":{oldest}"))
        };
        cluster.sim.client("newer", speak(key.clone(), hello("newer", 2), Vec::new()));
        cluster.sim.client("new", speak(key, hello("new", 1), b"\x4dnews".to_vec()));
        while cluster.refused(0, Refusal::NewerProtocol) == 0 || connections(&cluster) == before {
            assert!(cluster.sim.elapsed() < Duration::from_secs(60));
            cluster.sim.step().unwrap();
        }
        cluster.pass(Duration::from_secs(5));
        assert_eq!((connections(&cluster), cluster.refused(0, Refusal::NewerProtocol)), (before + 1, 1));
        assert_eq!(cluster.refused(0, Refusal::Malformed) + cluster.refused(0, Refusal::BadHello), 0);
        cluster.say(0, "on");
        cluster.hear(&[1], 0, "on");
    });
}

/// All that happens from this seed: who saw what, when, and what each counted.
fn story(seed: u64) -> String {
    let mut cluster = Cluster::new(seed, 4, Duration::from_millis(200));
    let all = [0, 1, 2, 3];
    cluster.sees_all(&all, 4);
    cluster.say(1, "first");
    cluster.sim.partition_oneway(name(0), name(2));
    cluster.pass(Duration::from_secs(5));
    (0..3).for_each(|near| cluster.sim.partition(name(near), name(3)));
    cluster.say(3, "apart");
    cluster.pass(Duration::from_secs(12));
    cluster.sim.crash(name(1));
    cluster.pass(Duration::from_secs(10));
    (0..3).for_each(|near| cluster.sim.repair(name(near), name(3)));
    cluster.sim.bounce(name(1));
    cluster.sees_all(&all, 4);
    let book = cluster.book.borrow();
    let counted = book.members.iter().map(|(name, member)| {
        let refusals: Vec<_> = member.counters().refusals().filter(|(_, times)| *times > 0).collect();
        format!("{name}: {:?} {refusals:?}\n", member.counters().traffic())
    });
    book.trace.clone() + &counted.collect::<String>()
}

/// What tells a process to write down the story of a seed, and where.
const SEED: &str = "ORX_TEST_STORY";

/// Each run is a process of its own: the runtime draws from a counter that only a new process begins anew.
#[test]
fn the_same_seed_gives_the_same_run_again_and_another_seed_another() {
    if let Ok(told) = std::env::var(SEED) {
        let (seed, path) = told.split_once(' ').unwrap();
        let seed = seed.parse().unwrap();
        return std::fs::write(path, with_chance(seed, move || story(seed))).unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    let run = |n: usize, seed: u64| {
        let path = dir.path().join(n.to_string());
        let test = "gossip::sim_tests::the_same_seed_gives_the_same_run_again_and_another_seed_another";
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        let child = child.args(["--exact", test]).env(SEED, format!("{seed} {}", path.display()));
        let output = child.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        std::fs::read_to_string(path).unwrap()
    };
    let [first, second, other] = std::thread::scope(|scope| {
        let run = &run;
        [(0, 3), (1, 3), (2, 4)].map(|(n, seed)| scope.spawn(move || run(n, seed))).map(|run| run.join().unwrap())
    });
    let differs = first.lines().zip(second.lines()).find(|(a, b)| a != b);
    assert_eq!(differs, None, "{} and {} lines", first.lines().count(), second.lines().count());
    assert_eq!(first, second);
    assert_ne!(first, other);
    assert!(first.lines().count() > 20, "{first}");
}
