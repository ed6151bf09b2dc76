//! The harness that proves what docs/semantics.md promises (I1 to I14): real processes, real signals, work in flight.
//!
//! Each scenario is a function that hurts a queue and hands back a [`table::Table`]; a promise that is broken fails it, and
//! so does a run that did not hurt enough. As tests they have the size of CI; `tests/chaos --full` runs them on a release
//! build in full size. `ORX_CHAOS_SEED` repeats a run: what is decided by chance follows from the seed, what the machine
//! decides (who gets which job) does not.

mod asker;
mod calamity;
mod chance;
mod client;
mod clock;
mod clocks;
mod crowd;
mod drains;
mod eight;
mod faults;
mod fleet;
mod front;
pub mod full_disk;
mod hindered;
mod kills;
mod latency;
mod leaders;
mod losses;
mod nth_client;
mod nth_worker;
mod outages;
mod pace;
mod peers;
mod races;
mod runs;
mod schedules;
mod soak;
mod stopped;
mod table;
mod tenants;
mod tree;
mod trees;
mod verdict;
mod witness;
mod world;
