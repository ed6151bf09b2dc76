//! Takes connections, so many at once and no more, and few from one address before it has shown the key.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{sleep, timeout};

use super::counters::Refusal;
use super::hello::plain;
use super::link::{self, Failed, HANDSHAKE_LIMIT};
use super::net::Net;
use super::routes::QUEUE;
use super::socket::{TcpListener, TcpStream};

/// Open connections that others made.
const MAX_INBOUND: usize = 512;
/// Of these, before the other side has shown the key.
const MAX_STRANGERS: usize = 128;
/// And from one address, so that one stranger leaves room for others.
const MAX_FROM_ONE: usize = 32;
/// When the process has no file descriptor left, others may give one back.
const REST: Duration = Duration::from_millis(100);

/// Takes connections for as long as the member lives.
pub(super) async fn run(net: Arc<Net>, listener: TcpListener) {
    let doors = Doors::default();
    loop {
        match listener.accept().await {
            Ok((stream, from)) => {
                let from = plain(from);
                match doors.enter(from.ip()) {
                    Some(stranger) => net.spawn(take(net.clone(), stream, from, stranger)),
                    None => {
                        let detail = format_args!("{from} was turned away: too many connections");
                        net.counters.refuse(Refusal::TooManyConnections, detail);
                    }
                }
            }
            Err(error) => {
                net.counters.refuse(Refusal::TooManyConnections, format_args!("cannot take a connection: {error}"));
                sleep(REST).await;
            }
        }
    }
}

async fn take(net: Arc<Net>, stream: TcpStream, from: SocketAddr, stranger: Stranger) {
    let link = match timeout(HANDSHAKE_LIMIT, link::answer(stream, from, &net)).await {
        Ok(Ok(link)) => link,
        Ok(Err(Failed::Unreachable | Failed::Refused | Failed::Unwanted | Failed::Own)) => return,
        Err(_) => {
            let detail = format_args!("{from} connected and did not finish its handshake");
            return net.counters.refuse(Refusal::HandshakeTimedOut, detail);
        }
    };
    let _inside = stranger.known();
    let (queue, mut waiting) = mpsc::channel(QUEUE);
    link.run(&net, None, queue, &mut waiting).await;
}

/// Counts who is in.
struct Doors {
    inside: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
    from: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Default for Doors {
    fn default() -> Self {
        let semaphore = |permits| Arc::new(Semaphore::new(permits));
        Self { inside: semaphore(MAX_INBOUND), strangers: semaphore(MAX_STRANGERS), from: Arc::default() }
    }
}

/// A connection whose other side has not shown the key.
struct Stranger {
    ip: IpAddr,
    from: Arc<Mutex<HashMap<IpAddr, usize>>>,
    inside: Option<OwnedSemaphorePermit>,
    _stranger: OwnedSemaphorePermit,
}

impl Doors {
    fn enter(&self, ip: IpAddr) -> Option<Stranger> {
        let inside = self.inside.clone().try_acquire_owned().ok()?;
        let stranger = self.strangers.clone().try_acquire_owned().ok()?;
        let mut from = self.from.lock().unwrap_or_else(PoisonError::into_inner);
        let count = from.entry(ip).or_default();
        if *count >= MAX_FROM_ONE {
            return None;
        }
        *count += 1;
        Some(Stranger { ip, from: self.from.clone(), inside: Some(inside), _stranger: stranger })
    }
}

impl Stranger {
    /// It is no stranger any more: only its place inside is kept.
    fn known(mut self) -> Option<OwnedSemaphorePermit> {
        self.inside.take()
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let mut from = self.from.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = from.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                from.remove(&self.ip);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_cannot_take_all_places_and_known_peers_give_theirs_back() {
        let doors = Doors::default();
        let ip = |n: u8| IpAddr::from([10, 0, 0, n]);
        let mut strangers: Vec<Stranger> = (0..1000).filter_map(|_| doors.enter(ip(1))).collect();
        assert_eq!(strangers.len(), MAX_FROM_ONE);
        strangers.extend((2..200).flat_map(|n| [doors.enter(ip(n)), doors.enter(ip(n))]).flatten());
        assert_eq!(strangers.len(), MAX_STRANGERS);
        let known: Vec<_> = strangers.drain(..).map(Stranger::known).collect();
        assert_eq!(doors.from.lock().unwrap().len(), 0);
        assert!(doors.enter(ip(1)).is_some());
        drop(known);
        assert_eq!(doors.inside.available_permits(), MAX_INBOUND);
        assert_eq!(doors.strangers.available_permits(), MAX_STRANGERS);
    }
}
