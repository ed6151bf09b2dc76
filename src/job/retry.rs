//! When a failed attempt is tried again: backoff and exit-code classes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::schema::schema;
use crate::time::Span;

/// The exit code that means "try again later, this was no failure" (EX_TEMPFAIL of sysexits).
pub const SNOOZE_CODE: i32 = 75;
/// The longest wait after an attempt whose program never ran: the job has done nothing that speaks for a longer one.
pub const UNSTARTED_CAP: Span = Span::from_secs(60);
/// How many such attempts in a row end a job, where its workers start others.
pub const MAX_UNSTARTED: u32 = 100;

/// Growing waits between attempts, written `BASE[..CAP][xFACTOR]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// The shortest wait.
    pub base: Span,
    /// The longest wait.
    pub cap: Span,
    /// How much the bound grows with each step.
    pub factor: f64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { base: Span::from_secs(10), cap: Span::from_secs(600), factor: 2.0 }
    }
}

impl Backoff {
    /// The wait before the next attempt after `step` consecutive ones (from 1), with `jitter` in 0..1.
    ///
    /// Full jitter between the base and a bound that grows to the cap ("Exponential Backoff And
    /// Jitter", AWS 2015), but never below the base, so that a rate the user chose is kept.
    pub fn delay(&self, step: u32, jitter: f64) -> Span {
        let (base, cap) = (self.base.as_millis() as f64, self.cap.as_millis() as f64);
        let bound = (base * self.factor.powi(step.min(1_000) as i32)).min(cap);
        let ms = base + (bound - base).max(0.0) * jitter.clamp(0.0, 1.0);
        Span::from_millis(ms as i64)
    }
}

impl FromStr for Backoff {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let default = Self::default();
        let (range, factor) = match text.rsplit_once('x') {
            Some((range, factor)) => match factor.parse::<f64>() {
                Ok(f) if (1.0..=100.0).contains(&f) => (range, f),
                _ => return Err(format!("the factor {factor:?} is not between 1 and 100")),
            },
            None => (text, default.factor),
        };
        let (base, cap) = match range.split_once("..") {
            Some((base, cap)) => (base.parse::<Span>()?, cap.parse()?),
            None => {
                let base: Span = range.parse()?;
                (base, base.max(default.cap))
            }
        };
        match base <= cap {
            true => Ok(Self { base, cap, factor }),
            false => Err(format!("the cap {cap} is below the base {base}")),
        }
    }
}

impl fmt::Display for Backoff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}x{}", self.base, self.cap, self.factor)
    }
}

/// A set of exit codes, written `1,3,10-20`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CodeSet(Vec<(u8, u8)>);

impl CodeSet {
    /// Whether `code` is in it.
    pub fn contains(&self, code: i32) -> bool {
        self.0.iter().any(|(from, to)| (i32::from(*from)..=i32::from(*to)).contains(&code))
    }

    /// Whether it names no code at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromStr for CodeSet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let code = |s: &str| match s.trim().parse::<u8>() {
            Ok(0) | Err(_) => Err(format!("{s:?} is not an exit code from 1 to 255")),
            Ok(n) => Ok(n),
        };
        text.split(',')
            .map(|part| match part.split_once('-') {
                Some((from, to)) => {
                    let (from, to) = (code(from)?, code(to)?);
                    match from <= to {
                        true => Ok((from, to)),
                        false => Err(format!("{part:?} is an empty range")),
                    }
                }
                None => code(part).map(|n| (n, n)),
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl fmt::Display for CodeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (from, to)) in self.0.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            match from == to {
                true => write!(f, "{comma}{from}")?,
                false => write!(f, "{comma}{from}-{to}")?,
            }
        }
        Ok(())
    }
}

schema!(Backoff, "Backoff", { "type": "string", "description": "BASE[..CAP][xFACTOR]", "examples": ["10s..10mx2"] });
schema!(CodeSet, "CodeSet", { "type": "string", "description": "exit codes, as in 1,3,64-78", "examples": ["1"] });

impl Serialize for Backoff {
    /// Exact, unlike what is shown to people.
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let secs = |span: Span| span.duration().as_secs_f64();
        s.collect_str(&format_args!("{}s..{}sx{}", secs(self.base), secs(self.cap), self.factor))
    }
}

impl<'de> Deserialize<'de> for Backoff {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(de::Error::custom)
    }
}

impl Serialize for CodeSet {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CodeSet {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Raw {
            List(Vec<u8>),
            Text(String),
        }
        let text = match Raw::deserialize(d)? {
            Raw::List(codes) => codes.iter().map(u8::to_string).collect::<Vec<_>>().join(","),
            Raw::Text(text) => text,
        };
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn backoff_reads_base_cap_and_factor() {
        for (text, shown) in [
            ("10s", "10s..10mx2"),
            ("1s..1m", "1s..1mx2"),
            ("1s..1mx3", "1s..1mx3"),
            ("500msx1.5", "500ms..10mx1.5"),
            ("1h", "1h..1hx2"),
        ] {
            assert_eq!(text.parse::<Backoff>().unwrap().to_string(), shown);
        }
        for bad in ["", "x2", "1s..", "2s..1s", "1sx0", "1sxNaN", "1s..2sx2x2"] {
            assert!(bad.parse::<Backoff>().is_err(), "{bad}");
        }
    }

    #[test]
    fn code_sets_read_lists_and_ranges() {
        let set: CodeSet = "1,3,10-20".parse().unwrap();
        let inside: Vec<i32> = (0..30).filter(|c| set.contains(*c)).collect();
        assert_eq!(inside, [vec![1, 3], (10..=20).collect()].concat());
        assert_eq!(set.to_string(), "1,3,10-20");
        for bad in ["", "0", "256", "5-2", "a", "1,"] {
            assert!(bad.parse::<CodeSet>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_delay_lies_between_base_and_cap(
            base in 0i64..100_000, more in 0i64..10_000_000, factor in 1.0f64..100.0,
            step in 0u32..u32::MAX, jitter in 0.0f64..1.0,
        ) {
            let b = Backoff { base: Span::from_millis(base), cap: Span::from_millis(base + more), factor };
            let d = b.delay(step, jitter);
            prop_assert!(b.base <= d && d <= b.cap, "{d:?}");
            prop_assert!(b.delay(step, 1.0) >= d);
        }

        #[test]
        fn the_bound_grows_until_the_cap(step in 1u32..60) {
            let b = Backoff::default();
            prop_assert!(b.delay(step + 1, 1.0) >= b.delay(step, 1.0));
            prop_assert_eq!(b.delay(60, 1.0), b.cap);
        }
    }
}
