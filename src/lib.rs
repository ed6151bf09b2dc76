//! orx: a durable job queue and orchestrator for the shell, systemd and CI.
//!
//! The crate is made of rooms; a room is a file or a folder of `src/`. This is their order from the bottom up: a room
//! imports only from lines above its own, and rooms of one line do not import each other.
//!
//! ```text
//! mutant hex beat bounded private hide
//! schema certs
//! error time
//! job gossip
//! store
//! ops
//! hub outage
//! engine remote
//! queue
//! client worker http
//! daemon
//! cli
//! ```
//!
//! `tests/tidy.rs` holds that order, and `docs/architecture.md` explains it. Why each room is there:
//!
//! - `mutant` — bugs that the test harness must catch; no release contains them
//! - `hex` — bytes as digits
//! - `beat` — one rhythm for what a process does now and then, so that an idle one wakes seldom
//! - `bounded` — files that somebody names, read within bounds
//! - `private` — files and directories for their owner alone, so that no umask opens them
//! - `hide` — secrets in the environment and memory of this process, out of sight of its jobs
//! - `certs` — certificates and keys in such files
//! - `schema` — JSON Schemas of types that write themselves
//! - [`error`] — one error with a kind, a message and a hint, so that exit codes and HTTP statuses follow from it
//! - [`time`] — instants, durations and the only reading of the clocks, so that tests can turn them
//! - [`job`] — what a job, run or schedule is and what may happen to it; pure, so that it is tested without a store
//! - [`gossip`] — which peers are there and what each says of itself, over TCP; knows nothing of jobs
//! - [`store`] — statements by role on SQLite and PostgreSQL, so that nothing above knows which database it is
//! - [`ops`] — the use cases, each a value: what the command line, workers and the API have in common
//! - [`hub`] — tells the tasks of a process what changed, so that they need not poll
//! - [`outage`] — whether the store can be used, and how often that is worth a line of the log
//! - [`engine`] — runs Ops in transactions, many to one commit, and answers after it
//! - [`remote`] — sends the same Ops to a coordinator, and finds out what a lost answer means
//! - [`queue`] — the front door: `Queue::call`, whether the store is here or at a coordinator
//! - [`client`] — the front door for programs: [`Client`], typed and async
//! - [`worker`] — leases, spawns, captures, renews, settles; knows only the queue
//! - [`http`] — the coordinator's API: every Op is a route
//! - [`daemon`] — workers and coordinators as processes: names, upkeep, signals, systemd, peers
//! - [`cli`] — one file for each command; only it prints

mod beat;
mod bounded;
mod certs;
pub mod cli;
pub mod client;
pub mod daemon;
pub mod engine;
pub mod error;
pub mod gossip;
mod hex;
mod hide;
pub mod http;
pub mod hub;
pub mod job;
mod mutant;
pub mod ops;
pub mod outage;
mod private;
pub mod queue;
pub mod remote;
mod schema;
pub mod store;
pub mod time;
pub mod worker;

pub use client::Client;
