//! The task that connects to one address, for as long as somebody wants to send there.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::backoff::{Backoff, chance};
use super::counters::Refusal;
use super::link::{self, Failed, Link};
use super::net::Net;
use super::routes::{Message, QUEUE};

/// A task to which nothing was given for so long ends.
const IDLE_LIMIT: Duration = Duration::from_secs(60);
/// How long connecting may take, the handshake included.
const CONNECT_LIMIT: Duration = Duration::from_secs(6);

/// Connects to `to` and sends what comes from `waiting`, again and again; ends when nothing comes for a while.
pub(super) async fn run(net: Arc<Net>, to: SocketAddr, mut waiting: mpsc::Receiver<Message>) {
    let mut backoff = Backoff::default();
    loop {
        // The first message waits here, so that a connection is made only for something to say.
        let Ok(Some(mut message)) = timeout(IDLE_LIMIT, waiting.recv()).await else { return };
        match connect(&net, to).await {
            Ok(link) => {
                backoff = Backoff::default();
                // Gossip of before is stale: only its last word goes out.
                while let Ok(newer) = waiting.try_recv() {
                    message = newer;
                }
                carry(link, &net, to, message, &mut waiting).await;
            }
            Err(Failed::Own) => {
                net.routes().own(to);
                return net.counters.refuse(Refusal::OwnAddress, to);
            }
            Err(Failed::Unreachable | Failed::Refused | Failed::Unwanted) => {}
        }
        sleep(backoff.wait(chance())).await;
        // What came meanwhile was for then.
        while waiting.try_recv().is_ok() {}
    }
}

/// Lets the connection carry `first` and what comes after.
async fn carry(link: Link, net: &Arc<Net>, to: SocketAddr, first: Message, waiting: &mut mpsc::Receiver<Message>) {
    let (queue, mut outgoing) = mpsc::channel(QUEUE);
    let _ = queue.try_send(first); // the queue is empty
    let forward = async {
        // Only what was queued before the connection was known comes this way.
        while let Some(message) = waiting.recv().await {
            if queue.try_send(message).is_err() {
                net.counters.refuse(Refusal::QueueFull, format_args!("the queue for {to} is full"));
            }
        }
    };
    tokio::select! {
        () = link.run(net, Some(to), queue.clone(), &mut outgoing) => {}
        () = forward => {}
    }
}

/// Tries the current key, then, where the other side refused it, the one that it replaces.
async fn connect(net: &Arc<Net>, to: SocketAddr) -> Result<Link, Failed> {
    let keys = net.keys.borrow().keys().to_vec();
    for key in keys {
        match timeout(CONNECT_LIMIT, link::connect(to, key, net)).await {
            Ok(Err(Failed::Refused)) => {}
            Ok(done) => return done,
            Err(_) => return Err(Failed::Unreachable),
        }
    }
    let detail =
        format_args!("{to} hung up during the handshake: does it hold another cluster key, or have another label?");
    net.counters.refuse(Refusal::RefusedByPeer, detail);
    Err(Failed::Refused)
}
