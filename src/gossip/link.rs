//! One connection: its handshake, then frames both ways until it ends, goes silent or its key is no longer good.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::counters::Refusal;
use super::frame::{Decoder, FrameError, HEADER, MAX_FRAME, MAX_HANDSHAKE, framed, read_frame};
use super::hello::{Hello, MAX_HELLO};
use super::key::ClusterKey;
use super::net::{ALIVE, GOSSIP, HELLO, Net};
use super::routes::Message;
use super::seal::{self, Initiator, Opener, Sealer};
use super::socket::{OwnedReadHalf, OwnedWriteHalf, TcpStream};

/// How long a connection may take until the other side has shown the key and said who it is.
pub(super) const HANDSHAKE_LIMIT: Duration = Duration::from_secs(3);
/// A peer that has nothing to say says so this often.
const ALIVE_EVERY: Duration = Duration::from_secs(10);
/// A peer that says nothing for so long is given up.
const SILENCE_LIMIT: Duration = Duration::from_secs(35);
/// How long a peer may take to read what was sent.
const WRITE_LIMIT: Duration = Duration::from_secs(10);

/// Why there is no connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failed {
    /// Nobody answers there, or not in time.
    Unreachable,
    /// Somebody is there, but the handshake failed: another key may do.
    Refused,
    /// This side does not want it; it has been counted.
    Unwanted,
    /// It leads back to this process.
    Own,
}

/// A connection whose other end has shown the key and said who it is.
pub(super) struct Link {
    pub(super) hello: Hello,
    key: ClusterKey,
    stream: TcpStream,
    decoder: Decoder,
    sealer: Sealer,
    opener: Opener,
}

/// Takes a connection that was made to this node.
pub(super) async fn answer(mut stream: TcpStream, from: SocketAddr, net: &Net) -> Result<Link, Failed> {
    let mut decoder = Decoder::default();
    let first = read_frame(&mut stream, &mut decoder, MAX_HANDSHAKE).await.map_err(|e| refused(net, from, &e))?;
    let keys = net.keys.borrow().clone();
    let Ok(answered) = seal::answer(&keys, &net.label, &first) else {
        let detail = format_args!("{from} was refused: it holds another cluster key, or has another label");
        net.counters.refuse(Refusal::WrongKey, detail);
        return Err(Failed::Unwanted);
    };
    stream.write_all(&framed(&answered.answer)).await.map_err(|_| Failed::Unreachable)?;
    let (sealer, opener) = (answered.sealer, answered.opener);
    introduce(stream, decoder, answered.key, (sealer, opener), from, net).await
}

/// Makes a connection to `to` with `key`.
pub(super) async fn connect(to: SocketAddr, key: ClusterKey, net: &Net) -> Result<Link, Failed> {
    let mut stream = TcpStream::connect(to).await.map_err(|_| Failed::Unreachable)?;
    let (initiator, first) = Initiator::begin(&key, &net.label).map_err(|_| Failed::Unreachable)?;
    stream.write_all(&framed(&first)).await.map_err(|_| Failed::Unreachable)?;
    let mut decoder = Decoder::default();
    let answer = read_frame(&mut stream, &mut decoder, MAX_HANDSHAKE).await.map_err(|_| Failed::Refused)?;
    let ends = initiator.end(&answer).map_err(|_| Failed::Refused)?;
    introduce(stream, decoder, key, ends, to, net).await
}

/// Says who this node is and hears who the other is. Only after this has the other side shown the key: the messages before
/// can be recorded and sent again.
async fn introduce(
    mut stream: TcpStream,
    mut decoder: Decoder,
    key: ClusterKey,
    (mut sealer, mut opener): (Sealer, Opener),
    remote: SocketAddr,
    net: &Net,
) -> Result<Link, Failed> {
    let _ = stream.set_nodelay(true);
    let ours = [&[HELLO][..], &net.me.encode()].concat();
    let sealed = sealer.seal(&ours).map_err(|_| Failed::Unreachable)?;
    stream.write_all(&framed(&sealed)).await.map_err(|_| Failed::Unreachable)?;
    let theirs = read_frame(&mut stream, &mut decoder, 2 * MAX_HELLO).await.map_err(|e| refused(net, remote, &e))?;
    let unwanted = |why, detail: std::fmt::Arguments<'_>| {
        net.counters.refuse(why, detail);
        Failed::Unwanted
    };
    let Ok(theirs) = opener.open(&theirs) else {
        return Err(unwanted(Refusal::Forged, format_args!("{remote} sent what is not sealed for this connection")));
    };
    let Some((&HELLO, theirs)) = theirs.split_first() else {
        return Err(unwanted(Refusal::BadHello, format_args!("{remote} did not say who it is")));
    };
    let hello = Hello::decode(theirs).map_err(|why| unwanted(why, format_args!("{remote} is not understood")))?;
    if hello.instance == net.me.instance {
        return Err(Failed::Own);
    }
    if hello.id == net.me.id {
        let (id, address) = (&hello.id, hello.advertise);
        return Err(unwanted(Refusal::SameId, format_args!("{address} is called {id} too, as this node is")));
    }
    if net.keys.borrow().bans(&hello.id) {
        let (id, address) = (&hello.id, hello.advertise);
        return Err(unwanted(Refusal::Banned, format_args!("{id} at {address} is banned")));
    }
    Ok(Link { hello, key, stream, decoder, sealer, opener })
}

fn refused(net: &Net, from: SocketAddr, error: &FrameError) -> Failed {
    match error {
        FrameError::TooLong(_) => {
            net.counters.refuse(Refusal::FrameTooLong, format_args!("{from} sent {error}"));
            Failed::Unwanted
        }
        FrameError::Stream(_) => Failed::Refused,
    }
}

/// An open connection among the routes, for as long as this lives.
struct Entered<'a> {
    net: &'a Net,
    number: u64,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.net.routes().leave(self.number);
    }
}

impl Link {
    /// Carries frames until the connection ends. What comes from `waiting` goes out; `queue` is its other end.
    pub(super) async fn run(
        self,
        net: &Arc<Net>,
        dialled: Option<SocketAddr>,
        queue: mpsc::Sender<Message>,
        waiting: &mut mpsc::Receiver<Message>,
    ) {
        let Self { hello, key, stream, decoder, sealer, opener } = self;
        let number = net.routes().enter(hello.clone(), dialled, queue, Instant::now());
        let Some(number) = number else {
            let (id, address) = (&hello.id, hello.advertise);
            let detail = format_args!("{id} at {address} has connections enough");
            return net.counters.refuse(Refusal::TooManyConnections, detail);
        };
        let _entered = Entered { net, number };
        net.counters.connected();
        tracing::debug!(peer = %hello.id, address = %hello.advertise, key = %key.fingerprint(), "gossip: connected");
        let mut keys = net.keys.subscribe();
        let (reader, writer) = stream.into_split();
        tokio::select! {
            () = read(reader, decoder, opener, &hello, net) => {}
            () = write(writer, sealer, waiting, net) => {}
            _ = keys.wait_for(|ring| !ring.keys().contains(&key) || ring.bans(&hello.id)) => {}
        }
        tracing::debug!(peer = %hello.id, address = %hello.advertise, "gossip: disconnected");
    }
}

async fn read(mut stream: OwnedReadHalf, mut decoder: Decoder, mut opener: Opener, hello: &Hello, net: &Net) {
    let (id, address) = (&hello.id, hello.advertise);
    loop {
        let frame = match timeout(SILENCE_LIMIT, read_frame(&mut stream, &mut decoder, MAX_FRAME)).await {
            Ok(Ok(frame)) => frame,
            Ok(Err(FrameError::Stream(_))) => return,
            Ok(Err(error)) => {
                return net.counters.refuse(Refusal::FrameTooLong, format_args!("{id} at {address} sent {error}"));
            }
            Err(_) => {
                let detail = format_args!("{id} at {address} said nothing for {SILENCE_LIMIT:?}");
                return net.counters.refuse(Refusal::Silent, detail);
            }
        };
        net.counters.received(HEADER + frame.len());
        let Ok(message) = opener.open(&frame) else {
            let detail = format_args!("{id} at {address} sent what is not sealed for this place in the connection");
            return net.counters.refuse(Refusal::Forged, detail);
        };
        if let Some((&GOSSIP, body)) = message.split_first() {
            net.receive(hello, body);
        }
    }
}

async fn write(mut stream: OwnedWriteHalf, mut sealer: Sealer, waiting: &mut mpsc::Receiver<Message>, net: &Net) {
    loop {
        let message = match timeout(ALIVE_EVERY, waiting.recv()).await {
            Ok(Some(message)) => message,
            Ok(None) => return,
            Err(_) => vec![ALIVE],
        };
        let Ok(sealed) = sealer.seal(&message) else { return };
        let frame = framed(&sealed);
        match timeout(WRITE_LIMIT, stream.write_all(&frame)).await {
            Ok(Ok(())) => net.counters.sent(frame.len()),
            Ok(Err(_)) | Err(_) => return,
        }
    }
}
