//! A coordinator in front of a world's store, behind a proxy that loses answers.

use std::ffi::OsString;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::world::{LIMIT, Process, World, eventually};
use crate::proxy::Proxy;

/// Of so many answers one is lost.
const LOSE: usize = 16;

/// The coordinator that everybody in a world talks to.
pub struct Front {
    /// The store itself.
    pub store: OsString,
    pub token: String,
    proxy: Proxy,
    /// Where the coordinator listens, again after each kill.
    listen: String,
    coordinator: Mutex<Process>,
    kills: AtomicUsize,
}

impl Front {
    /// Starts a coordinator of the world's store, and a proxy in front of it.
    pub fn start(world: &World) -> Self {
        let token = world.ok(&["token", "create", "--admin"]).trim().to_owned();
        let coordinator = world.spawn(&["coordinator", "--name", "front", "--listen", "127.0.0.1:0"]);
        let listen = wait_ready(&coordinator);
        let proxy = Proxy::start(&listen, LOSE);
        Self {
            store: world.store().to_owned(),
            token,
            proxy,
            listen,
            coordinator: Mutex::new(coordinator),
            kills: AtomicUsize::new(0),
        }
    }

    pub fn url(&self) -> &str {
        self.proxy.url()
    }

    /// kill -9 of the coordinator, whatever it does; another one takes its place.
    pub fn kill(&self, world: &World) {
        let mut coordinator = self.coordinator.lock().unwrap();
        assert!(coordinator.kill(), "the coordinator had ended by itself: {}", coordinator.stderr());
        let args =
            ["coordinator", "--store", self.store.to_str().unwrap(), "--name", "front", "--listen", &self.listen];
        *coordinator = world.spawn(&args);
        self.kills.fetch_add(1, Ordering::Relaxed);
        wait_ready(&coordinator);
    }

    pub fn kills(&self) -> usize {
        self.kills.load(Ordering::Relaxed)
    }

    /// How many answers were lost.
    pub fn lost(&self) -> usize {
        self.proxy.lost()
    }
}

/// Waits until a coordinator listens; gives where.
fn wait_ready(coordinator: &Process) -> String {
    let mut url = None;
    eventually("the coordinator to be ready", LIMIT, || {
        let said = coordinator.stderr();
        assert!(coordinator.is_alive(), "the coordinator ended: {said}");
        let ready = said.lines().find(|line| line.contains(" ready "));
        url = ready.and_then(|line| line.split_once("url=http://")).map(|(_, url)| url.trim().to_owned());
        url.is_some()
    });
    url.unwrap()
}
