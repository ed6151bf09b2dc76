//! Chance that can be repeated.

use std::time::Duration;

/// xorshift64*, seeded.
#[derive(Clone)]
pub struct Chance(u64);

impl Chance {
    /// Several streams of one seed do not meet: each has its own `stream`.
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut chance = Self((seed ^ stream.wrapping_mul(0x9e37_79b9_7f4a_7c15)).max(1));
        (0..8).for_each(|_| _ = chance.draw());
        chance
    }

    pub fn draw(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// From `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + (self.draw() >> 11) % (high - low + 1)
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.between(1, n) == 1
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.between(0, from.len() as u64 - 1) as usize]
    }

    /// Waits for a while that the seed decides: when to hurt is part of a scenario.
    pub fn pause(&mut self, low: Duration, high: Duration) {
        let micros = self.between(low.as_micros() as u64, high.as_micros() as u64);
        std::thread::sleep(Duration::from_micros(micros));
    }
}
