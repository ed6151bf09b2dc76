//! What comes over the network and is no gossip: refused, counted, and nobody is taken down.

use std::net::SocketAddr;

use orx::gossip::{Member, Refusal};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::*;

/// Two members that see each other.
async fn pair(lab: &Lab) -> (Member, Member) {
    let a = lab.start("a", None).await;
    let b = lab.start("b", Some(&a)).await;
    sees(&a, &["b"]).await;
    sees(&b, &["a"]).await;
    (a, b)
}

/// Both hear each other now.
async fn are_well(a: &Member, b: &Member) {
    let word = format!("word {}", a.counters().traffic().bytes_in);
    a.set("word", word.clone()).unwrap();
    b.set("word", word.clone()).unwrap();
    until(a, "hears the word", |peers| said(peers, b.id(), "word") == Some(word.as_bytes())).await;
    until(b, "hears the word", |peers| said(peers, a.id(), "word") == Some(word.as_bytes())).await;
}

/// Waits until the other side has hung up.
async fn hangs_up(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    let ended = timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "the connection stays open");
}

#[tokio::test]
async fn noise_is_hung_up_on() {
    let lab = Lab::new();
    let (a, b) = pair(&lab).await;
    let handshake = [&48u32.to_be_bytes()[..], &[7; 48]].concat();
    let cases: [(&[u8], Refusal); 4] = [
        (b"\xff\xff\xff\xff", Refusal::FrameTooLong),
        (b"GET / HTTP/1.1\r\n\r\n", Refusal::FrameTooLong),
        (&handshake, Refusal::WrongKey),
        (b"\0\0\0\0", Refusal::WrongKey),
    ];
    for (noise, why) in cases {
        let before = a.counters().refused(why);
        let mut stream = TcpStream::connect(a.address()).await.unwrap();
        stream.write_all(noise).await.unwrap();
        hangs_up(&mut stream).await;
        refuses(&a, why, before + 1).await;
    }
    are_well(&a, &b).await;
}

#[tokio::test]
async fn connections_that_say_nothing_or_half_of_it_are_given_up() {
    let lab = Lab::new();
    let (a, b) = pair(&lab).await;
    let mut silent = TcpStream::connect(a.address()).await.unwrap();
    let mut half = TcpStream::connect(a.address()).await.unwrap();
    half.write_all(b"\0\0\0\x30half").await.unwrap();
    hangs_up(&mut silent).await;
    hangs_up(&mut half).await;
    refuses(&a, Refusal::HandshakeTimedOut, 2).await;
    are_well(&a, &b).await;
}

#[tokio::test]
async fn a_thousand_connections_at_once_leave_room_for_others() {
    let lab = Lab::new();
    let (a, b) = pair(&lab).await;
    let mut held = Vec::new();
    for _ in 0..1000 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.9:0".parse().unwrap()).unwrap();
        held.push(socket.connect(a.address()).await.unwrap());
    }
    refuses(&a, Refusal::TooManyConnections, 500).await;
    // From another address somebody new still gets in, while the thousand are held.
    let c = lab.start("c", Some(&a)).await;
    sees(&c, &["a", "b"]).await;
    assert!(a.connections() < 20);
    are_well(&a, &b).await;
    drop(held);
}

/// A wire to a member that changes what goes there, frame by frame.
async fn wire(
    to: SocketAddr,
    mut change: impl FnMut(usize, Vec<u8>) -> Vec<Vec<u8>> + Send + Clone + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let Ok(server) = TcpStream::connect(to).await else { continue };
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
            for n in 0.. {
                let Ok(len) = from_client.read_u32().await else { break };
                let mut body = vec![0; len as usize];
                if from_client.read_exact(&mut body).await.is_err() {
                    break;
                }
                for body in change(n, body) {
                    let frame = [&(body.len() as u32).to_be_bytes()[..], &body].concat();
                    let _ = to_server.write_all(&frame).await;
                }
            }
        }
    });
    address
}

/// Frame 0 is the handshake, 1 the introduction, 2 the first gossip.
const FIRST_GOSSIP: usize = 2;

#[tokio::test]
async fn a_flipped_bit_ends_the_connection_and_not_the_member() {
    for (frame, why) in [(0, Refusal::WrongKey), (1, Refusal::Forged), (FIRST_GOSSIP, Refusal::Forged)] {
        let lab = Lab::new();
        let a = lab.start("a", None).await;
        let flip = move |n: usize, mut body: Vec<u8>| {
            if n == frame {
                let middle = body.len() / 2;
                body[middle] ^= 1;
            }
            vec![body]
        };
        let wire = wire(a.address(), flip).await;
        let b = lab.plan("b").peers([wire.to_string()]).start().await;
        refuses(&a, why, 1).await;
        assert!(b.peers().borrow().is_empty());
        let c = lab.start("c", Some(&a)).await;
        sees(&a, &["c"]).await;
        are_well(&a, &c).await;
    }
}

#[tokio::test]
async fn a_frame_that_is_sent_twice_ends_the_connection_and_counts_once() {
    let lab = Lab::new();
    let a = lab.start("a", None).await;
    let twice = |n: usize, body: Vec<u8>| if n == FIRST_GOSSIP { vec![body.clone(), body] } else { vec![body] };
    let wire = wire(a.address(), twice).await;
    let b = lab.plan("b").peers([wire.to_string()]).start().await;
    refuses(&a, Refusal::Forged, 1).await;
    // They know each other's address by now, and the way without the wire is open.
    sees(&a, &["b"]).await;
    sees(&b, &["a"]).await;
    are_well(&a, &b).await;
}

#[tokio::test]
async fn a_recorded_connection_that_is_played_again_opens_nothing() {
    let lab = Lab::new();
    let a = lab.start("a", None).await;
    let tape = Arc::new(std::sync::Mutex::new(Vec::new()));
    let (recorder, limit) = (tape.clone(), 6);
    let record = move |_: usize, body: Vec<u8>| {
        let mut tape = recorder.lock().unwrap();
        if tape.len() < limit {
            tape.push(body.clone());
        }
        vec![body]
    };
    let wire = wire(a.address(), record).await;
    let b = lab.plan("b").peers([wire.to_string()]).start().await;
    sees(&a, &["b"]).await;
    until(&b, "sees a", |peers| peers.contains_key("a")).await;
    let deadline = Instant::now() + PATIENCE;
    while tape.lock().unwrap().len() < 3 {
        assert!(Instant::now() < deadline, "nothing was recorded");
        sleep(Duration::from_millis(20)).await;
    }
    let (connections, forged) = (a.counters().traffic().connections, a.counters().refused(Refusal::Forged));
    let mut stream = TcpStream::connect(a.address()).await.unwrap();
    let recorded = tape.lock().unwrap().clone();
    for body in recorded {
        let frame = [&(body.len() as u32).to_be_bytes()[..], &body].concat();
        let _ = stream.write_all(&frame).await;
    }
    hangs_up(&mut stream).await;
    refuses(&a, Refusal::Forged, forged + 1).await;
    assert_eq!(a.counters().traffic().connections, connections);
    are_well(&a, &b).await;
}
