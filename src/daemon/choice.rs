//! Whom to help: of two nodes by chance the one with more to do, and none again at once that had nothing.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

/// How long a node is left alone that had less than was asked for, at least; longer each time that it had nothing.
const PAUSE: Duration = Duration::from_millis(250);
/// And at most.
const MAX_PAUSE: Duration = Duration::from_secs(15);
/// How long what it says of its jobs is not believed unless it says something new.
const STALE: Duration = Duration::from_secs(2);

/// A node that may be helped.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    /// Its id.
    pub(super) id: String,
    /// How many jobs wait there that fit.
    pub(super) fitting: u64,
    /// The version of that word.
    pub(super) version: u64,
}

/// The nodes that are left alone for a while.
#[derive(Default)]
pub(super) struct Rests(HashMap<String, Rest>);

struct Rest {
    pause: Duration,
    from: Instant,
    version: u64,
}

impl Rests {
    /// Leaves a node alone that had `something`, but less than was asked for, or nothing.
    pub(super) fn rest(&mut self, id: &str, version: u64, something: bool, now: Instant) {
        let before = self.0.get(id).map_or(Duration::ZERO, |rest| rest.pause);
        let pause = if something { PAUSE } else { (before * 2).clamp(PAUSE, MAX_PAUSE) };
        self.0.insert(id.to_owned(), Rest { pause, from: now, version });
    }

    fn may_ask(&self, candidate: &Candidate, now: Instant) -> bool {
        self.0.get(&candidate.id).is_none_or(|rest| {
            let news = candidate.version != rest.version;
            now.duration_since(rest.from) >= if news { rest.pause } else { rest.pause.max(STALE) }
        })
    }

    /// Forgets those that are not there any more.
    pub(super) fn keep(&mut self, is_there: impl Fn(&str) -> bool) {
        self.0.retain(|id, _| is_there(id));
    }

    /// The one to ask, by two numbers from 0 to 1 (power of two choices, so that not all run to the longest queue).
    pub(super) fn choose(&self, candidates: &[Candidate], chance: [f64; 2], now: Instant) -> Option<String> {
        let open: Vec<&Candidate> = candidates.iter().filter(|c| c.fitting > 0 && self.may_ask(c, now)).collect();
        let at = |chance: f64, len: usize| ((chance * len as f64) as usize).min(len.saturating_sub(1));
        let first = at(chance[0], open.len());
        let one = open.get(first)?;
        // The second is another one, where there is one.
        let second = (first + 1 + at(chance[1], open.len() - 1)) % open.len();
        let other = open[second];
        Some(if other.fitting > one.fitting { other.id.clone() } else { one.id.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(id: &str, fitting: u64) -> Candidate {
        Candidate { id: id.into(), fitting, version: 1 }
    }

    #[test]
    fn of_two_the_longer_is_chosen_and_the_longest_of_many_not_always() {
        let (rests, now) = (Rests::default(), Instant::now());
        let two = [candidate("short", 1), candidate("long", 9)];
        let mut seen = HashMap::new();
        let many: Vec<_> = (1..=10).map(|n| candidate(&n.to_string(), n)).collect();
        for n in 0..100 {
            for m in 0..100 {
                let chance = [f64::from(n) / 99.0, f64::from(m) / 99.0];
                assert_eq!(rests.choose(&two, chance, now).unwrap(), "long");
                *seen.entry(rests.choose(&many, chance, now).unwrap()).or_insert(0) += 1;
            }
        }
        assert!(seen["10"] > 1500 && seen["10"] < 2500 && !seen.contains_key("1"), "{seen:?}");
        assert_eq!(rests.choose(&[candidate("a", 3)], [0.9, 0.9], now).unwrap(), "a");
        assert_eq!(rests.choose(&[candidate("a", 0)], [0.0, 0.0], now), None);
        assert_eq!(rests.choose(&[], [0.0, 0.0], now), None);
    }

    #[test]
    fn who_had_nothing_is_left_alone_longer_each_time_and_news_shorten_that() {
        let (mut rests, start) = (Rests::default(), Instant::now());
        let ask = |rests: &Rests, version, after: Duration| {
            let of = [Candidate { version, ..candidate("a", 5) }];
            rests.choose(&of, [0.0, 0.0], start + after).is_some()
        };
        rests.rest("a", 1, true, start);
        assert!(!ask(&rests, 1, PAUSE) && ask(&rests, 1, STALE) && ask(&rests, 2, PAUSE));
        for _ in 0..20 {
            rests.rest("a", 1, false, start);
        }
        assert!(!ask(&rests, 2, MAX_PAUSE - Duration::from_millis(1)) && ask(&rests, 2, MAX_PAUSE));
        rests.rest("a", 1, true, start);
        assert!(ask(&rests, 2, PAUSE), "who has something again is no liar");
        rests.keep(|_| false);
        assert!(ask(&rests, 1, Duration::ZERO));
    }
}
