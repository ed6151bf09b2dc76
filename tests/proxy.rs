//! A proxy in front of a coordinator that loses answers after they were given, and can be cut.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};

/// A proxy that lives as long as the process.
#[derive(Clone)]
pub struct Proxy(Arc<State>);

struct State {
    url: String,
    target: String,
    /// Of so many answers one is lost, with its connection.
    every: AtomicUsize,
    answers: AtomicUsize,
    lost: AtomicUsize,
    cut: AtomicBool,
    /// Words in answers, and those as long that stand for them.
    rewritten: Mutex<Option<(String, String)>>,
    /// What is carried now, to be cut: for each client its two connections. Those that ended are let go, or a long run has
    /// no descriptors left.
    carried: Mutex<Vec<Weak<[TcpStream; 2]>>>,
}

impl Proxy {
    /// One in front of `target`, which loses one of `every` answers; 0: none.
    pub fn start(target: &str, every: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (answers, lost, cut) = Default::default();
        let (target, every) = (target.to_owned(), AtomicUsize::new(every));
        let (rewritten, carried) = Default::default();
        let state = State { url, target, every, answers, lost, cut, rewritten, carried };
        let proxy = Self(Arc::new(state));
        let accepting = proxy.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let proxy = accepting.clone();
                std::thread::spawn(move || proxy.carry(client));
            }
        });
        proxy
    }

    /// What clients call.
    pub fn url(&self) -> &str {
        &self.0.url
    }

    /// How many answers were lost.
    pub fn lost(&self) -> usize {
        self.0.lost.load(Ordering::Relaxed)
    }

    /// Loses one of `every` answers from now on; 0: none.
    pub fn lose(&self, every: usize) {
        self.0.every.store(every, Ordering::SeqCst);
    }

    /// From now on answers have `to` for `from`, which is as long.
    pub fn rewrite(&self, from: &str, to: &str) {
        assert_eq!(from.len(), to.len());
        *self.0.rewritten.lock().unwrap() = Some((from.to_owned(), to.to_owned()));
    }

    fn rewritten(&self, answer: &mut [u8]) {
        let Some((from, to)) = &*self.0.rewritten.lock().unwrap() else { return };
        for at in 0..(answer.len() + 1).saturating_sub(from.len()) {
            if answer[at..].starts_with(from.as_bytes()) {
                answer[at..at + to.len()].copy_from_slice(to.as_bytes());
            }
        }
    }

    /// Ends all connections and carries nothing more, or carries again.
    pub fn cut(&self, cut: bool) {
        self.0.cut.store(cut, Ordering::SeqCst);
        let carried: Vec<_> = self.0.carried.lock().unwrap().drain(..).filter_map(|pair| pair.upgrade()).collect();
        for stream in carried.iter().flat_map(|pair| pair.iter()).filter(|_| cut) {
            let _ = stream.shutdown(Shutdown::Both); // it may be closed
        }
    }

    fn carry(&self, mut client: TcpStream) {
        let Ok(mut server) = TcpStream::connect(&self.0.target) else { return }; // it is dead just now
        let pair = Arc::new([client.try_clone().unwrap(), server.try_clone().unwrap()]);
        {
            let mut carried = self.0.carried.lock().unwrap();
            if self.0.cut.load(Ordering::SeqCst) {
                return;
            }
            carried.retain(|pair| pair.strong_count() > 0);
            carried.push(Arc::downgrade(&pair));
        }
        let asked = Arc::new(AtomicBool::new(false));
        let (mut from, mut to, asks) = (client.try_clone().unwrap(), server.try_clone().unwrap(), Arc::clone(&asked));
        std::thread::spawn(move || {
            let mut buffer = [0; 64 * 1024];
            while let Ok(count @ 1..) = from.read(&mut buffer) {
                asks.store(true, Ordering::SeqCst);
                if to.write_all(&buffer[..count]).is_err() {
                    break;
                }
            }
            let _ = to.shutdown(Shutdown::Write); // it may be closed
        });
        let mut buffer = [0; 64 * 1024];
        while let Ok(count @ 1..) = server.read(&mut buffer) {
            // Only the beginning of an answer: it was given, so what was asked for was done.
            if asked.swap(false, Ordering::SeqCst) && self.loses() {
                break;
            }
            self.rewritten(&mut buffer[..count]);
            if client.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        for stream in pair.iter() {
            let _ = stream.shutdown(Shutdown::Both); // it may be closed
        }
    }

    fn loses(&self) -> bool {
        let every = self.0.every.load(Ordering::SeqCst);
        let lose = every > 0 && self.0.answers.fetch_add(1, Ordering::Relaxed).is_multiple_of(every);
        self.0.lost.fetch_add(usize::from(lose), Ordering::Relaxed);
        lose
    }
}
