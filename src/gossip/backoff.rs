//! How long to wait before the next try: longer each time, up to a cap, and not all at the same instant.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(250);
const CAP: Duration = Duration::from_secs(10);

/// The waits between tries that fail.
#[derive(Debug)]
pub(super) struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(FIRST)
    }
}

impl Backoff {
    /// The next wait; `chance` is from 0 to 1.
    pub(super) fn wait(&mut self, chance: f64) -> Duration {
        let wait = spread(self.0, chance);
        self.0 = (self.0 * 2).min(CAP);
        wait
    }
}

/// Between half of `wait` and all of it.
pub(super) fn spread(wait: Duration, chance: f64) -> Duration {
    wait.mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0)
}

/// A number from 0 to 1.
pub(super) fn chance() -> f64 {
    f64::from(uuid::Uuid::new_v4().as_u128() as u32) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap_and_are_spread() {
        let mut backoff = Backoff::default();
        let waits: Vec<u128> = (0..8).map(|_| backoff.wait(1.0).as_millis()).collect();
        assert_eq!(waits, [250, 500, 1000, 2000, 4000, 8000, 10_000, 10_000]);
        assert_eq!(backoff.wait(0.0), CAP / 2);
        let spread: std::collections::BTreeSet<_> = (0..50).map(|_| Backoff::default().wait(chance())).collect();
        assert!(spread.len() > 25 && spread.iter().all(|wait| (FIRST / 2..=FIRST).contains(wait)));
    }
}
