//! Which way to which peer: the connections that are open, and the tasks that open one.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::Instant;
use uuid::Uuid;

use super::hello::Hello;

/// Messages that wait for one peer; more are dropped.
pub(super) const QUEUE: usize = 16;
/// How many connections one process may have with this one: one that each side opened, and the same again while they are
/// replaced.
const MAX_LINKS: usize = 4;
/// How many addresses are dialled at once.
const MAX_DIALERS: usize = 1024;
/// What the old process sent before it died may be read after the new one has come.
const SUCCESSION: Duration = Duration::from_secs(1);

/// A message for a peer, with its kind before it.
pub(super) type Message = Vec<u8>;

/// Where a message went.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// Into a queue.
    Queued,
    /// Nowhere: the queue is full, or there is no room for another.
    Dropped,
    /// Nowhere: it is for this process itself.
    Own,
}

struct Link {
    number: u64,
    hello: Hello,
    dialled: Option<SocketAddr>,
    since: Instant,
    queue: mpsc::Sender<Message>,
}

/// The connections and the dialers. Plain state: no sockets, no tasks.
#[derive(Default)]
pub(super) struct Routes {
    links: Vec<Link>,
    dialers: HashMap<SocketAddr, mpsc::Sender<Message>>,
    own: HashSet<SocketAddr>,
    last: u64,
}

impl Routes {
    /// From now on nothing is sent to this address: it is this process.
    pub(super) fn own(&mut self, address: SocketAddr) {
        self.own.insert(address);
    }

    /// Sends by an open connection, or else by a dialer; `dial` starts one for the queue it is given.
    pub(super) fn send(
        &mut self,
        to: SocketAddr,
        message: Message,
        dial: impl FnOnce(mpsc::Receiver<Message>),
    ) -> Sent {
        if self.own.contains(&to) {
            return Sent::Own;
        }
        let open = self.links.iter().rev().find(|link| link.leads_to(to)).map(|link| &link.queue);
        let message = match open.or(self.dialers.get(&to)) {
            Some(queue) => match queue.try_send(message) {
                Ok(()) => return Sent::Queued,
                Err(TrySendError::Full(_)) => return Sent::Dropped,
                Err(TrySendError::Closed(message)) => message,
            },
            None => message,
        };
        self.dialers.retain(|_, queue| !queue.is_closed());
        if self.dialers.len() >= MAX_DIALERS || self.dialers.contains_key(&to) {
            return Sent::Dropped;
        }
        let (queue, waiting) = mpsc::channel(QUEUE);
        let _ = queue.try_send(message); // the queue is empty
        self.dialers.insert(to, queue);
        dial(waiting);
        Sent::Queued
    }

    /// A connection is open; returns its number, or nothing when that process has enough of them.
    pub(super) fn enter(
        &mut self,
        hello: Hello,
        dialled: Option<SocketAddr>,
        queue: mpsc::Sender<Message>,
        now: Instant,
    ) -> Option<u64> {
        if self.links.iter().filter(|link| link.hello.instance == hello.instance).count() >= MAX_LINKS {
            return None;
        }
        self.last += 1;
        self.links.push(Link { number: self.last, hello, dialled, since: now, queue });
        Some(self.last)
    }

    /// A connection has ended.
    pub(super) fn leave(&mut self, number: u64) {
        self.links.retain(|link| link.number != number);
    }

    /// The address of another process with this one's id, if it came after this one, which still speaks: two nodes have one
    /// id. A restarted node is no such case, because its predecessor is silent.
    pub(super) fn rival(&self, speaks: &Hello, now: Instant) -> Option<SocketAddr> {
        let first = |instance: Uuid| self.links.iter().find(|link| link.hello.instance == instance).map(|l| l.since);
        let since = first(speaks.instance)?;
        let of_that_id = self.links.iter().filter(|l| l.hello.id == speaks.id && l.hello.instance != speaks.instance);
        of_that_id
            .filter(|link| link.since >= since && now.duration_since(link.since) > SUCCESSION)
            .map(|link| link.hello.advertise)
            .next()
    }

    /// Whether a connection to this address is open, or it is this process.
    pub(super) fn reaches(&self, address: SocketAddr) -> bool {
        self.own.contains(&address) || self.links.iter().any(|link| link.leads_to(address))
    }

    /// How many connections are open.
    pub(super) fn links(&self) -> usize {
        self.links.len()
    }
}

impl Link {
    fn leads_to(&self, address: SocketAddr) -> bool {
        self.hello.advertise == address || self.dialled == Some(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u8) -> SocketAddr {
        ([10, 0, 0, n], 7946).into()
    }

    fn hello(id: &str, n: u8) -> Hello {
        Hello::new(id, address(n))
    }

    #[test]
    fn a_message_takes_the_open_connection_or_else_a_dialer() {
        let (mut routes, now) = (Routes::default(), Instant::now());
        let mut dialled = Vec::new();
        assert_eq!(routes.send(address(1), vec![1], |queue| dialled.push(queue)), Sent::Queued);
        assert_eq!(routes.send(address(1), vec![2], |_| panic!("one dialer is enough")), Sent::Queued);
        assert_eq!(dialled[0].try_recv(), Ok(vec![1]));
        let (queue, mut inbound) = mpsc::channel(1);
        let number = routes.enter(hello("a", 1), Some(address(9)), queue, now).unwrap();
        for to in [1, 9] {
            assert!(routes.reaches(address(to)));
            assert_eq!(routes.send(address(to), vec![to], |_| panic!()), Sent::Queued);
            assert_eq!(inbound.try_recv(), Ok(vec![to]));
        }
        routes.leave(number);
        assert!(!routes.reaches(address(1)) && routes.links() == 0);
        assert_eq!(routes.send(address(1), vec![3], |_| panic!()), Sent::Queued);
        dialled.clear();
        assert_eq!(
            routes.send(address(1), vec![4], |queue| dialled.push(queue)),
            Sent::Queued,
            "the dialer has retired"
        );
        assert_eq!(dialled[0].try_recv(), Ok(vec![4]));
    }

    #[test]
    fn full_queues_drop_and_nothing_is_sent_to_oneself() {
        let mut routes = Routes::default();
        let mut queues = Vec::new();
        let sent = (0..QUEUE + 3).map(|_| routes.send(address(1), vec![], |queue| queues.push(queue)));
        assert_eq!(sent.filter(|sent| *sent == Sent::Dropped).count(), 3);
        routes.own(address(2));
        assert_eq!(routes.send(address(2), vec![], |_| panic!()), Sent::Own);
        for port in 1..=MAX_DIALERS as u16 {
            routes.send(([10, 0, 0, 3], port).into(), vec![], |queue| queues.push(queue));
        }
        assert_eq!(routes.send(address(4), vec![], |_| panic!()), Sent::Dropped, "enough is dialled");
    }

    #[test]
    fn a_process_has_a_few_connections_at_most() {
        let (mut routes, hello) = (Routes::default(), hello("a", 1));
        let mut enter = || routes.enter(hello.clone(), None, mpsc::channel(1).0, Instant::now());
        assert!((0..MAX_LINKS).all(|_| enter().is_some()));
        assert_eq!(enter(), None);
    }

    #[test]
    fn two_processes_with_one_id_are_seen_but_a_restart_is_none() {
        let (mut routes, start) = (Routes::default(), Instant::now());
        let [old, new, other] = [hello("a", 1), hello("a", 2), hello("b", 3)];
        let at = |ms| start + Duration::from_millis(ms);
        let mut enter = |hello: &Hello, ms| routes.enter(hello.clone(), None, mpsc::channel(1).0, at(ms)).unwrap();
        enter(&old, 0);
        enter(&other, 0);
        enter(&new, 5_000);
        assert_eq!(routes.rival(&new, at(60_000)), None, "the successor speaks");
        assert_eq!(routes.rival(&old, at(5_500)), None, "what was under way");
        assert_eq!(routes.rival(&old, at(6_500)), Some(address(2)));
        assert_eq!(routes.rival(&other, at(60_000)), None);
    }
}
