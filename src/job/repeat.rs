//! Instants at even distances: `every 5m`, once, and the repeating intervals of ISO 8601.

use jiff::civil::DateTime;

use super::zone::{MAX_MS, Zone};
use crate::error::{Error, Result};
use crate::time::Span;

/// The shortest distance; a leader fires within 100 ms, so less could not be kept.
const MIN_STEP_MS: i64 = 1000;

/// No step of the calendar strays further than this from its mean, in milliseconds: months are up to 3 days shorter, zones shift by 2.
const STRAY_MS: i64 = 8 * 86_400_000;

/// The n-th instant is `start + n × step`, each computed from the start, so that the 31st stays the 31st.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Repeat {
    start: i64,
    step: Step,
    /// How many instants there are; none: no end.
    limit: Option<u64>,
}

/// A distance: calendar units on the wall clock, and exact time beside them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Step {
    months: i64,
    days: i64,
    ms: i64,
}

const SHAPE: &str = "write R5/2026-01-01T00:00:00Z/P1D: R and how often (nothing: for ever), the start, the distance";

impl Repeat {
    /// One instant.
    pub fn once(at: i64) -> Self {
        Self { start: at, step: Step { ms: MIN_STEP_MS, ..Step::default() }, limit: Some(1) }
    }

    /// `start` and every `step` after it, in real time.
    ///
    /// # Errors
    /// Usage: the step is too short.
    pub fn every(start: i64, step: Span) -> Result<Self> {
        let step = Step { ms: step.as_millis(), ..Step::default() }.checked()?;
        Ok(Self { start, step, limit: None })
    }

    /// Reads `R5/2026-01-01T00:00:00Z/P1D`. A start without offset is a local time of `zone`.
    ///
    /// # Errors
    /// Usage: the part that is wrong.
    pub fn iso(text: &str, zone: &Zone) -> Result<Self> {
        let bad = |what: String| Error::usage(what).hint(SHAPE);
        let parts: Vec<&str> = text.split('/').collect();
        let [count, start, step] = parts[..] else {
            return Err(bad(format!("{text:?} is not a repeating interval of three parts")));
        };
        let limit = match count.strip_prefix('R') {
            Some("") => None,
            Some(n) => match n.parse::<u32>() {
                Ok(0) => return Err(bad("R0 never fires".into())),
                Ok(n) if !count.contains('+') => Some(n.into()),
                _ => return Err(bad(format!("the count {n:?} is not a number"))),
            },
            None => return Err(bad(format!("{count:?} does not begin with R"))),
        };
        if start.starts_with('P') {
            return Err(bad(format!("{start:?} stands where the start belongs")));
        }
        Ok(Self { start: instant(start, zone).map_err(bad)?, step: Step::parse(step).map_err(bad)?.checked()?, limit })
    }

    /// Whether two of them can fall on one instant, because the day between them does not exist.
    pub fn is_calendar(&self) -> bool {
        self.step.months != 0 || self.step.days != 0
    }

    /// The instant number `n` from 0; none beyond the last, or beyond the calendar.
    pub fn nth(&self, n: u64, zone: &Zone) -> Option<i64> {
        if self.limit.is_some_and(|limit| n >= limit) {
            return None;
        }
        let n = i64::try_from(n).ok()?;
        let base = match self.is_calendar() && n > 0 {
            true => zone.first(self.step.on_calendar(self.start + zone.offset(self.start), n)?),
            false => self.start,
        };
        self.step.ms.checked_mul(n).and_then(|ms| base.checked_add(ms)).filter(|t| *t <= MAX_MS)
    }

    /// How many instants lie before or at `at`. Costs a handful of steps: an estimate, then bisection around it.
    pub fn count(&self, at: i64, zone: &Zone) -> u64 {
        if at < self.start {
            return 0;
        }
        let at = at.min(MAX_MS);
        let mean = self.step.mean_ms();
        let stray = if self.is_calendar() { STRAY_MS } else { 0 };
        let guess = |ms: i64| (ms.max(0) / mean) as u64;
        let mut low = guess(at - self.start - stray);
        let mut high = guess(at - self.start + stray) + 2;
        while low < high {
            let mid = low.midpoint(high);
            match self.nth(mid, zone).is_some_and(|t| t <= at) {
                true => low = mid + 1,
                false => high = mid,
            }
        }
        low.min(self.limit.unwrap_or(u64::MAX))
    }
}

impl Step {
    fn parse(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} is not a duration such as P1D, P1M or PT6H");
        let span: jiff::Span = text.parse().map_err(|_| bad())?;
        if !text.starts_with('P') || span.is_negative() {
            return Err(bad());
        }
        let months = i64::from(span.get_years()) * 12 + i64::from(span.get_months());
        let days = i64::from(span.get_weeks()) * 7 + i64::from(span.get_days());
        let exact = span.years(0).months(0).weeks(0).days(0);
        let ms = jiff::SignedDuration::try_from(exact).ok().and_then(|d| i64::try_from(d.as_millis()).ok());
        Ok(Self { months, days, ms: ms.ok_or_else(bad)? })
    }

    fn checked(self) -> Result<Self> {
        match self.months > 0 || self.days > 0 || self.ms >= MIN_STEP_MS {
            true => Ok(self),
            false => {
                Err(Error::usage("it would fire more often than once a second").hint("the shortest distance is 1s"))
            }
        }
    }

    fn mean_ms(&self) -> i64 {
        const MONTH_MS: i64 = 2_629_746_000; // of the Gregorian calendar's 400 years
        (self.months * MONTH_MS).saturating_add(self.days * 86_400_000).saturating_add(self.ms)
    }

    /// The local time `n` calendar steps after `local`; the last of the month where there is no such day.
    fn on_calendar(&self, local: i64, n: i64) -> Option<i64> {
        let months = jiff::Span::new().try_months(self.months.checked_mul(n)?).ok()?;
        let step = months.try_days(self.days.checked_mul(n)?).ok()?;
        let utc = jiff::tz::Offset::UTC;
        let shown = utc.to_datetime(jiff::Timestamp::from_millisecond(local).ok()?);
        let moved = shown.checked_add(step).ok()?;
        utc.to_timestamp(moved).ok().map(|t| t.as_millisecond())
    }
}

fn instant(text: &str, zone: &Zone) -> Result<i64, String> {
    if let Ok(t) = text.parse::<jiff::Timestamp>() {
        return Ok(t.as_millisecond());
    }
    let shown: DateTime = text.parse().map_err(|_| format!("the start {text:?} is not a time"))?;
    let local = jiff::tz::Offset::UTC.to_timestamp(shown).map_err(|_| format!("the start {text:?} is out of range"))?;
    Ok(zone.first(local.as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn iso(text: &str, zone: &str) -> Vec<String> {
        let zone = Zone::new(zone).unwrap();
        let rule = Repeat::iso(text, &zone).unwrap();
        let instants = (0..4).map_while(|n| rule.nth(n, &zone));
        let shown = instants.map(|t| jiff::Timestamp::from_millisecond(t).unwrap().to_zoned(zone_of(&zone)));
        shown.map(|t| t.strftime("%F %H:%M").to_string()).collect()
    }

    fn zone_of(zone: &Zone) -> jiff::tz::TimeZone {
        jiff::tz::TimeZone::get(zone.name()).unwrap()
    }

    #[test]
    fn the_31st_stays_the_31st() {
        assert_eq!(
            iso("R/2026-01-31T09:00:00Z/P1M", "UTC"),
            ["2026-01-31 09:00", "2026-02-28 09:00", "2026-03-31 09:00", "2026-04-30 09:00"]
        );
        assert_eq!(
            iso("R3/2024-02-29T00:00:00Z/P1Y", "UTC"),
            ["2024-02-29 00:00", "2025-02-28 00:00", "2026-02-28 00:00"]
        );
    }

    #[test]
    fn calendar_units_keep_the_time_on_the_wall_and_exact_ones_do_not() {
        assert_eq!(
            iso("R/2026-03-28T02:30/P1D", "Europe/Berlin"),
            ["2026-03-28 02:30", "2026-03-29 03:00", "2026-03-30 02:30", "2026-03-31 02:30"]
        );
        assert_eq!(iso("R2/2026-03-28T01:30:00Z/PT24H", "Europe/Berlin"), ["2026-03-28 02:30", "2026-03-29 03:30"]);
        assert_eq!(iso("R2/2026-10-24T02:30/P1D", "Europe/Berlin"), ["2026-10-24 02:30", "2026-10-25 02:30"]);
    }

    #[test]
    fn a_count_is_the_number_of_instants() {
        assert_eq!(iso("R1/2026-01-01/P1D", "UTC").len(), 1);
        let rule = Repeat::iso("R5/2026-01-01T00:00:00Z/P1D", &Zone::new("UTC").unwrap()).unwrap();
        assert_eq!(rule.count(i64::MAX, &Zone::new("UTC").unwrap()), 5);
    }

    #[test]
    fn counting_agrees_with_the_instants() {
        for (text, zone) in [
            ("R/2020-01-31T02:30/P1M", "America/New_York"),
            ("R/1994-12-01T00:00/P1D", "Pacific/Kiritimati"),
            ("R/2020-01-01T00:00:00Z/P1DT1H", "Africa/Casablanca"),
            ("R/2020-02-29T12:00/P4Y", "Europe/London"),
            ("R/2020-01-01T00:00:00.500Z/PT7M", "Asia/Tokyo"),
            ("R40/2020-01-01/P1W2DT3.5S", "Australia/Lord_Howe"),
        ] {
            let zone = Zone::new(zone).unwrap();
            let rule = Repeat::iso(text, &zone).unwrap();
            let instants: Vec<i64> = (0..1500).map_while(|n| rule.nth(n, &zone)).collect();
            assert!(instants.is_sorted(), "{text}");
            for (n, t) in instants.iter().enumerate().take(1000) {
                let same = instants.iter().filter(|other| *other <= t).count() as u64;
                assert_eq!((rule.count(*t, &zone), rule.count(t - 1, &zone) <= n as u64), (same, true), "{text} {n}");
            }
        }
    }

    #[test]
    fn far_ends_of_the_calendar_are_the_end() {
        let zone = Zone::new("Europe/Berlin").unwrap();
        let rule = Repeat::iso("R/2026-01-31T00:00:00Z/P1M", &zone).unwrap();
        let all = rule.count(i64::MAX, &zone);
        assert!(all > 95_000 && rule.nth(all, &zone).is_none() && rule.nth(all - 1, &zone).is_some());
        assert_eq!(rule.nth(u64::MAX, &zone), None);
        let rule = Repeat::every(0, Span::from_secs(1)).unwrap();
        assert_eq!(rule.count(MAX_MS, &zone), MAX_MS as u64 / 1000 + 1);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let zone = Zone::new("UTC").unwrap();
        for (text, said) in [
            ("R0/2026-01-01/P1D", "R0 never fires"),
            ("R5/2026-01-01", "of three parts"),
            ("2026-01-01T00:00:00Z/P1D", "of three parts"),
            ("5/2026-01-01/P1D", "does not begin with R"),
            ("R-1/2026-01-01/P1D", "the count \"-1\""),
            ("R+1/2026-01-01/P1D", "the count \"+1\""),
            ("R/yesterday/P1D", "the start \"yesterday\" is not a time"),
            ("R/P1D/2026-01-01", "stands where the start belongs"),
            ("R/2026-01-01/2026-01-02", "not a duration"),
            ("R/2026-01-01/1 day", "not a duration"),
            ("R/2026-01-01/-P1D", "not a duration"),
            ("R/2026-01-01/P0D", "more often than once a second"),
            ("R/2026-01-01/PT0.5S", "more often than once a second"),
        ] {
            let error = Repeat::iso(text, &zone).unwrap_err();
            assert!(error.message().contains(said) && error.hint_text().is_some(), "{text}: {error}");
        }
        assert!(Repeat::every(0, Span::from_millis(999)).is_err());
    }
}
