//! The conformance suite: what every store must do, through `Queue` only.
//!
//! Each case runs on a SQLite file, on SQLite in memory and on PostgreSQL.

mod checks;
mod dependencies;
mod keys;
mod leases;
mod limits;
mod metrics;
mod model;
mod output;
pub mod pretending;
mod pruning;
mod races;
mod restored;
mod runs;
mod schedule_runs;
pub mod schedules;
mod settling;
mod sharing;
mod soak;
mod sqlite;
mod support;
mod tenants;
mod turns;
mod unreadable;
mod why;
