//! A time zone as a clock on the wall: when it shows what, and how far it has been.

use jiff::tz::TimeZone;

use crate::error::{Error, Result};

/// No clock was ever set, nor stands apart from UTC, by more than this; in milliseconds.
const MAX_SHIFT: i64 = 2 * 86_400_000;

/// The last instant that can be expressed and printed, 9999-12-30T22:00:00Z.
pub(super) const MAX_MS: i64 = 253_402_207_200_000;

/// A time zone. Instants are milliseconds since 1970 in UTC; *local* times are counted likewise, but as the wall shows them.
///
/// Between two transitions the offset is constant. All else follows from that, so zones that skip a day, turn
/// back twice in a week or move by 30 minutes are no special cases.
#[derive(Clone, Debug, PartialEq)]
pub struct Zone(TimeZone);

impl Zone {
    /// The zone of that IANA name, in any case.
    ///
    /// # Errors
    /// Usage, where there is none.
    pub fn new(name: &str) -> Result<Self> {
        match TimeZone::get(name) {
            Ok(zone) if zone.iana_name().is_some() => Ok(Self(zone)),
            _ => Err(Error::usage(format!("there is no time zone {name:?}"))
                .hint("use an IANA name such as Europe/Berlin, America/New_York or UTC")),
        }
    }

    /// Its name as IANA spells it.
    pub fn name(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }

    /// How far the wall clock is ahead of UTC at the instant `at`, in milliseconds.
    pub fn offset(&self, at: i64) -> i64 {
        i64::from(self.0.to_offset(instant(at)).seconds()) * 1000
    }

    /// When the offset of `at` ends: the next transition, or never.
    pub fn ends(&self, at: i64) -> i64 {
        self.0.following(instant(at)).next().map_or(i64::MAX, |t| t.timestamp().as_millisecond())
    }

    /// The latest local time that the wall clock has shown up to and at `at`. It never goes back, also when the clock does.
    pub fn furthest(&self, at: i64) -> i64 {
        let since = at.saturating_sub(MAX_SHIFT);
        let before = self.0.preceding(instant(at.saturating_add(1)));
        let turns = before.map(|t| t.timestamp().as_millisecond()).take_while(|t| *t > since);
        turns.map(|t| t - 1).chain([at]).map(|t| t.saturating_add(self.offset(t))).max().unwrap_or(at)
    }

    /// The first instant at which the wall clock shows `local` or later: the end of the gap for a time that is skipped,
    /// the first occurrence of one that is repeated.
    pub fn first(&self, local: i64) -> i64 {
        let mut at = local.saturating_sub(MAX_SHIFT);
        loop {
            let due = local.saturating_sub(self.offset(at));
            let end = self.ends(at);
            if due < end {
                return due.max(at);
            }
            at = end;
        }
    }

    /// The instants in (from, to] at which the wall clock jumps ahead to where it has not been: the ends of gaps.
    pub fn gaps(&self, from: i64, to: i64) -> impl Iterator<Item = i64> + '_ {
        let turns = self.0.following(instant(from)).map(|t| t.timestamp().as_millisecond());
        turns.take_while(move |t| *t <= to).filter(|t| self.furthest(*t) > self.furthest(t - 1) + 1)
    }
}

fn instant(at: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_millisecond(at.clamp(-MAX_MS, MAX_MS)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> i64 {
        text.parse::<jiff::Timestamp>().unwrap().as_millisecond()
    }

    fn local(text: &str) -> i64 {
        at(&format!("{text}Z"))
    }

    #[test]
    fn a_skipped_time_is_the_end_of_the_gap_a_repeated_one_its_first() {
        let zone = Zone::new("europe/BERLIN").unwrap();
        assert_eq!(zone.name(), "Europe/Berlin");
        assert_eq!(zone.first(local("2026-03-29T02:30:00")), at("2026-03-29T01:00:00Z"));
        assert_eq!(zone.first(local("2026-03-29T03:00:00")), at("2026-03-29T01:00:00Z"));
        assert_eq!(zone.first(local("2026-03-29T03:00:01")), at("2026-03-29T01:00:01Z"));
        assert_eq!(zone.first(local("2026-10-25T02:30:00")), at("2026-10-25T00:30:00Z"));
        assert_eq!(zone.first(local("2026-10-25T03:00:00")), at("2026-10-25T02:00:00Z"));
    }

    #[test]
    fn the_furthest_time_waits_while_a_fold_is_repeated() {
        let zone = Zone::new("Europe/Berlin").unwrap();
        let end = local("2026-10-25T03:00:00");
        assert_eq!(zone.furthest(at("2026-10-25T00:59:59Z")), end - 1000);
        assert_eq!(zone.furthest(at("2026-10-25T01:00:00Z")), end - 1);
        assert_eq!(zone.furthest(at("2026-10-25T01:59:59Z")), end - 1);
        assert_eq!(zone.furthest(at("2026-10-25T02:00:00Z")), end);
    }

    #[test]
    fn gaps_are_where_the_clock_jumps_ahead() {
        let zone = Zone::new("Pacific/Apia").unwrap();
        let gaps: Vec<i64> = zone.gaps(at("2011-01-01T00:00:00Z"), at("2012-12-31T00:00:00Z")).collect();
        let expected = ["2011-09-24T14:00:00Z", "2011-12-30T10:00:00Z", "2012-09-29T14:00:00Z"];
        assert_eq!(gaps, expected.map(at));
        assert_eq!(Zone::new("UTC").unwrap().gaps(0, MAX_MS).count(), 0);
    }

    #[test]
    fn the_first_instant_and_the_furthest_time_are_inverse() {
        for name in ["America/Juneau", "Australia/Lord_Howe", "Africa/Casablanca", "Pacific/Kwajalein", "Asia/Manila"] {
            let zone = Zone::new(name).unwrap();
            let turns: Vec<i64> = zone
                .0
                .following(instant(-MAX_MS))
                .take(300)
                .collect::<Vec<_>>()
                .iter()
                .map(|t| t.timestamp().as_millisecond())
                .collect();
            for t in turns.into_iter().flat_map(|t| (-60..60).map(move |n| t + n * 1_800_000)) {
                for l in [-1, 0, 1].map(|d| t + zone.offset(t) + d) {
                    let first = zone.first(l);
                    assert!(zone.furthest(first) >= l && zone.furthest(first - 1) < l, "{name} {t} {l}");
                }
            }
        }
    }

    #[test]
    fn zones_are_known_where_the_system_has_none() {
        let bundled = jiff::tz::TimeZoneDatabase::bundled();
        assert!(bundled.get("Europe/Berlin").is_ok() && bundled.get("Pacific/Apia").is_ok());
    }

    #[test]
    fn names_that_are_no_zone_are_refused() {
        for bad in ["", "Mars/Base", "CET-1CEST", "local", "+01:00", "../etc/passwd"] {
            assert!(Zone::new(bad).unwrap_err().hint_text().is_some(), "{bad}");
        }
    }
}
