//! Bugs planted on purpose, to prove that the harness in `tests/crash` would see them.
//!
//! Only a build with `--cfg orx_mutants` contains them, and there the environment (`ORX_MUTANT`) says which one is active.
//! In every other build [`planted`] is a constant, and nothing is left of it. `tests/mutants` runs them all.

/// A bug, and the scenario that must catch it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// A renewal or a settle counts whichever attempt it is of: c2.
    NoFence,
    /// The engine answers before the commit: c1.
    AckBeforeCommit,
    /// A writing transaction begins as a reading one: c1.
    DeferredBegin,
    /// Leases are measured by the wall clock: c6.
    WallClockLease,
    /// A deposed leader goes on with the upkeep: c2.
    NoEpoch,
    /// Only the leader of a process tree is killed, with its group: c2.
    LeaderOnly,
    /// A lost lease is not counted: c1.
    LossUncounted,
    /// Every lease looks expired to the reaper: c1.
    LiveReaped,
    /// A worker does not look for processes that its predecessor left: eight.
    NoSweep,
    /// A drain counts as a failure: c9.
    DrainCounts,
    /// An idempotency key is not looked up: c1.
    KeyIgnored,
    /// After a time in which nobody could write, leases are not extended: c3.
    NoForgiveness,
}

/// Whether the bug is active.
#[cfg(not(orx_mutants))]
pub(crate) const fn planted(_: Mutant) -> bool {
    false
}

/// Whether the bug is active.
#[cfg(orx_mutants)]
pub(crate) fn planted(mutant: Mutant) -> bool {
    static ACTIVE: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    *ACTIVE.get_or_init(|| std::env::var("ORX_MUTANT").unwrap_or_default()) == format!("{mutant:?}")
}
