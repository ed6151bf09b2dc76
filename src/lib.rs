//! orx: a durable job queue and orchestrator for the shell, systemd and CI.
//!
//! The rooms, and the one direction of imports (a room imports only what stands left of it):
//!
//! `error, time ← {job, gossip} ← store ← ops ← hub ← {engine, remote} ← queue ← {client, worker, http} ← daemon ← cli ← main`
//!
//! - `mutant` — bugs for the harness to catch, compiled into no release; below everything else
//! - `hex` — bytes as digits; `beat` — one rhythm for what a process does now and then; they need nothing
//! - `schema` — schemas of types that write themselves; beside [`error`]
//! - [`error`] — one error with a kind, a message and a hint; [`time`] — instants and the only clocks
//! - [`job`] — the core: what a job is and what may happen to it; pure
//! - [`gossip`] — which peers are there and what each says of itself, over TCP; knows nothing of jobs
//! - [`store`] — statements by role, on SQLite and PostgreSQL; knows no policy
//! - [`ops`] — use cases, each a value: what the CLI, the worker and an API have in common
//! - [`hub`] — tells the tasks of a process what changed
//! - [`engine`] — runs Ops in transactions, many to one commit; wakes whoever waits
//! - [`remote`] — the same Ops, sent to a coordinator
//! - [`queue`] — the front door: `Queue::call`
//! - [`client`] — the same for programs: [`Client`], typed and async
//! - [`worker`] — leases, spawns, captures, renews, settles; knows only the queue
//! - [`http`] — the coordinator's API: every Op is a route
//! - [`daemon`] — workers and coordinators as processes: upkeep, signals, systemd
//! - [`cli`] — one file per command; only it prints

mod beat;
pub mod cli;
pub mod client;
pub mod daemon;
pub mod engine;
pub mod error;
pub mod gossip;
mod hex;
pub mod http;
pub mod hub;
pub mod job;
mod mutant;
pub mod ops;
pub mod queue;
pub mod remote;
mod schema;
pub mod store;
pub mod time;
pub mod worker;

pub use client::Client;
