//! Membership over TCP: which peers are there, and what each says of itself. Knows nothing of jobs.
//!
//! Gossip is a hint, never evidence. chitchat spreads the values and watches the heartbeats; this room carries
//! its messages over TCP, sealed with the cluster key, and keeps out whoever does not hold it.
//!
//! - [`Member`] — start, stop, say something of oneself, watch the others
//! - [`ClusterKey`], [`KeyRing`] — key files; `token` — what nodes show each other elsewhere; `seal` — Noise; `frame`, `hello` — what is on the wire
//! - `accept`, `dial`, `link` — connections; `routes` — which way to which peer; `guard` — what chitchat never gets to see
//! - [`Counters`] — what was refused, said once a minute at most
//!
//! Every queue has an end: what does not fit is dropped, as UDP would, and gossip says it again.

mod accept;
mod backoff;
mod counters;
mod dial;
mod driver;
mod frame;
mod generation;
mod guard;
mod hello;
mod key;
mod link;
mod member;
mod net;
mod peers;
mod routes;
mod seal;
mod seeds;
#[cfg(test)]
mod shuffle_tests;
#[cfg(test)]
mod sim_tests;
mod socket;
mod token;
mod transport;

pub use self::counters::{Counters, Refusal, Traffic};
pub use self::generation::next_generation;
pub use self::key::{ClusterKey, KeyRing, MAX_KEYS};
pub use self::member::{Config, Member, Pace};
pub use self::peers::{MAX_KEY, MAX_VALUES, Peer, Peers, Value, Values};
pub use self::seeds::Seeds;
pub use self::token::{NODE_TOKEN, Worthless};
