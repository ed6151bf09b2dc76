//! Instants, durations and the only reading of the clocks.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::mutant::{Mutant, planted};
use crate::schema::schema;

/// A wall-clock instant: milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

/// The years that an instant may lie in keep every format and sum in range.
const MAX_MS: i64 = 253_402_207_200_000; // 9999-12-30T22:00:00Z, the last that jiff can print

impl Timestamp {
    /// The instant `after` later, kept within the printable range.
    pub fn plus(self, after: Span) -> Self {
        Self(self.0.saturating_add(after.as_millis()).min(MAX_MS))
    }

    /// How much later `self` is than `earlier`; zero when it is not later.
    pub fn since(self, earlier: Timestamp) -> Span {
        Span::from_millis(self.0.saturating_sub(earlier.0).max(0))
    }

    /// Reads RFC 3339, or a local time (`2026-01-31 09:00`, `09:00`) in the zone `tz` (default: the system's). A time of
    /// day is that of today.
    ///
    /// # Errors
    /// What is wrong, for a person.
    pub fn parse(text: &str, tz: Option<&str>, now: Timestamp) -> Result<Self, String> {
        Self::read(text, tz, now, false)
    }

    /// As [`Timestamp::parse`], but a time of day is the next one after `now`, as `at(1)` has it.
    ///
    /// # Errors
    /// What is wrong, for a person.
    pub fn parse_next(text: &str, tz: Option<&str>, now: Timestamp) -> Result<Self, String> {
        Self::read(text, tz, now, true)
    }

    fn read(text: &str, tz: Option<&str>, now: Timestamp, next: bool) -> Result<Self, String> {
        let beyond = match text.parse::<jiff::Timestamp>() {
            Ok(t) => return Ok(Self(t.as_millisecond())),
            Err(e) => out_of_range(&e),
        };
        let zone = match tz {
            Some(name) => jiff::tz::TimeZone::get(name).map_err(|_| format!("there is no time zone {name:?}"))?,
            None => jiff::tz::TimeZone::system(),
        };
        let bad = |e: jiff::Error| match beyond || out_of_range(&e) {
            true => format!("{text:?} is no time that there is: the form is right, a number is out of range"),
            false => format!("{text:?} is not a time such as 2026-01-31T09:00:00Z or 2026-01-31 09:00"),
        };
        if let Ok(local) = text.parse::<jiff::civil::DateTime>() {
            return of_local(local, &zone).map_err(bad);
        }
        let time: jiff::civil::Time = text.parse().map_err(bad)?;
        let today = now.jiff().to_zoned(zone.clone()).date();
        let at = of_local(today.to_datetime(time), &zone).map_err(bad)?;
        match next && at <= now {
            true => of_local(today.tomorrow().map_err(bad)?.to_datetime(time), &zone).map_err(bad),
            false => Ok(at),
        }
    }

    /// As the wall clock in `tz` shows it, with the day of the week and the offset; in UTC where there is no such zone.
    pub fn local(self, tz: &str) -> String {
        let zone = jiff::tz::TimeZone::get(tz).unwrap_or(jiff::tz::TimeZone::UTC);
        self.jiff().to_zoned(zone).strftime("%a %Y-%m-%d %H:%M:%S %:z").to_string()
    }

    /// The same instant as jiff's type, for formatting.
    pub fn jiff(self) -> jiff::Timestamp {
        jiff::Timestamp::from_millisecond(self.0.clamp(-MAX_MS / 10, MAX_MS)).unwrap_or_default()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", self.jiff())
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(d)?;
        let time: jiff::Timestamp =
            text.parse().map_err(|_| de::Error::custom(format!("{text:?} is not an RFC 3339 time")))?;
        Ok(Self(time.as_millisecond()))
    }
}

/// The instant at which clocks in `zone` show `local`: of two the first; where they never do, that at which they have gone
/// past it.
fn of_local(local: jiff::civil::DateTime, zone: &jiff::tz::TimeZone) -> Result<Timestamp, jiff::Error> {
    let shown = zone.to_ambiguous_timestamp(local);
    let in_gap = matches!(shown.offset(), jiff::tz::AmbiguousOffset::Gap { .. });
    let at = shown.compatible()?;
    if !in_gap {
        return Ok(Timestamp(at.as_millisecond()));
    }
    let just_after = at.checked_add(jiff::SignedDuration::from_nanos(1))?;
    let turn = zone.preceding(just_after).next().map_or(at, |turn| turn.timestamp());
    Ok(Timestamp(turn.as_millisecond()))
}

schema!(Timestamp, "Timestamp", { "type": "string", "format": "date-time" });

/// The IANA name of this machine's time zone; UTC where it has none.
pub fn system_zone() -> String {
    jiff::tz::TimeZone::system().iana_name().unwrap_or("UTC").to_owned()
}

/// A length of time; JSON gives it as seconds, input also as text such as `1h30m` or `2d`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(Duration);

impl Span {
    /// No time at all.
    pub const ZERO: Span = Span(Duration::ZERO);
    /// The longest that is accepted: a hundred years.
    pub const MAX: Span = Span(Duration::from_secs(100 * 366 * 86_400));

    /// A number of whole seconds.
    pub const fn from_secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }

    /// A number of milliseconds; a negative one is zero.
    pub const fn from_millis(ms: i64) -> Self {
        Self(Duration::from_millis(if ms < 0 { 0 } else { ms as u64 }))
    }

    /// Whole milliseconds.
    pub fn as_millis(self) -> i64 {
        self.0.as_millis().try_into().unwrap_or(i64::MAX)
    }

    /// The standard library's type.
    pub fn duration(self) -> Duration {
        self.0
    }

    /// A third: how often something is renewed that may fail twice.
    pub fn third(self) -> Span {
        Span(self.0 / 3)
    }

    fn from_secs_f64(secs: f64) -> Result<Self, String> {
        match Duration::try_from_secs_f64(secs) {
            Ok(d) if d <= Self::MAX.0 => Ok(Self(d)),
            _ => Err(format!("{secs} seconds are out of range: from 0 to {}", Self::MAX)),
        }
    }
}

/// Whether a text was of the right form, and says what there is not: 30 February, 25 o'clock, a million years.
fn out_of_range(error: &jiff::Error) -> bool {
    error.is_range() || error.to_string().contains("range")
}

impl FromStr for Span {
    type Err = String;

    /// Reads `90s`, `1h30m`, `2d`, `250ms` or a bare number of seconds.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(secs) = text.parse::<f64>() {
            return Self::from_secs_f64(secs);
        }
        let bad = || format!("{text:?} is not a duration such as 90s, 1h30m or 2d");
        let beyond = || format!("{text:?} is out of range: from 0 to {}", Self::MAX);
        let span: jiff::Span = text.parse().map_err(|e| if out_of_range(&e) { beyond() } else { bad() })?;
        let exact = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours());
        let exact = exact.map_err(|e| if out_of_range(&e) { beyond() } else { bad() })?;
        match Duration::try_from(exact) {
            Ok(d) if d <= Self::MAX.0 => Ok(Self(d)),
            _ => Err(beyond()),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.as_millis();
        if ms < 1000 {
            return write!(f, "{ms}ms");
        }
        if ms < 60_000 && ms % 1000 != 0 {
            return write!(f, "{:.1}s", ms as f64 / 1000.0);
        }
        let units = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];
        let mut left = ms / 1000;
        let mut shown = 0;
        for (unit, size) in units {
            if left >= size && shown < 2 {
                write!(f, "{}{unit}", left / size)?;
                left %= size;
                shown += 1;
            }
        }
        Ok(())
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let secs = self.0.as_secs_f64();
        if secs.fract() == 0.0 { s.serialize_u64(self.0.as_secs()) } else { s.serialize_f64(secs) }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Raw {
            Secs(f64),
            Text(String),
        }
        let parsed = match Raw::deserialize(d)? {
            Raw::Secs(secs) => Span::from_secs_f64(secs),
            Raw::Text(text) => text.parse(),
        };
        parsed.map_err(de::Error::custom)
    }
}

schema!(Span, "Span", {
    "description": "seconds, or text such as 90s, 1h30m, 2d",
    "anyOf": [{ "type": "number", "minimum": 0 }, { "type": "string" }]
});

/// A point on the clock that only runs forward while this boot lasts, suspend included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootTime {
    /// The kernel's id of this boot.
    pub boot: String,
    /// CLOCK_BOOTTIME in milliseconds.
    pub ms: i64,
}

/// The clocks, as a parameter of everything that needs them.
pub trait Clock: Send + Sync {
    /// The wall clock. It may jump.
    fn now(&self) -> Timestamp;
    /// The clock that leases are measured by. It never jumps within a boot.
    fn boot(&self) -> BootTime;
}

/// The machine's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp(since.as_millis().try_into().unwrap_or(MAX_MS).min(MAX_MS))
    }

    fn boot(&self) -> BootTime {
        let t = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let ms = if planted(Mutant::WallClockLease) { self.now().0 } else { t.tv_sec * 1000 + t.tv_nsec / 1_000_000 };
        BootTime { boot: boot_id().to_owned(), ms }
    }
}

/// The kernel's id of this boot; empty where /proc does not tell.
pub fn boot_id() -> &'static str {
    static ID: OnceLock<String> = OnceLock::new();
    ID.get_or_init(|| {
        std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|s| s.trim().to_owned()).unwrap_or_default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_and_print_like_a_person_writes_them() {
        for (text, ms, shown) in [
            ("90s", 90_000, "1m30s"),
            ("1h30m", 5_400_000, "1h30m"),
            ("2d", 172_800_000, "2d"),
            ("250ms", 250, "250ms"),
            ("1.5", 1500, "1.5s"),
            ("0", 0, "0ms"),
        ] {
            let span: Span = text.parse().unwrap();
            assert_eq!((span.as_millis(), span.to_string().as_str()), (ms, shown));
        }
        for bad in ["", "x", "-1s", "-5", "1e400", "NaN", "300y", "1 fortnight"] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
    }

    #[test]
    fn timestamps_are_rfc3339_in_utc_with_milliseconds() {
        let t = Timestamp(1_767_225_600_007);
        assert_eq!(serde_json::to_string(&t).unwrap(), "\"2026-01-01T00:00:00.007Z\"");
        let back: Timestamp = serde_json::from_str("\"2026-01-01T01:00:00.007+01:00\"").unwrap();
        assert_eq!(back, t);
    }

    #[test]
    fn a_time_that_clocks_never_show_is_when_they_have_gone_past_it_and_of_two_the_first() {
        let at = |text| Timestamp::parse(text, Some("Europe/Berlin"), Timestamp(0)).unwrap().to_string();
        for never in ["2026-03-29 02:00", "2026-03-29 02:30", "2026-03-29 02:59:59", "2026-03-29 03:00"] {
            assert_eq!(at(never), "2026-03-29T01:00:00.000Z", "{never}");
        }
        assert_eq!(at("2026-10-25 02:30"), "2026-10-25T00:30:00.000Z");
    }

    #[test]
    fn local_times_follow_the_zone() {
        let now = Timestamp(1_767_225_600_000);
        let t = Timestamp::parse("2026-07-01 09:00", Some("Europe/Berlin"), now).unwrap();
        assert_eq!(t.to_string(), "2026-07-01T07:00:00.000Z");
        let t = Timestamp::parse("09:00", Some("UTC"), now).unwrap();
        assert_eq!(t.to_string(), "2026-01-01T09:00:00.000Z");
        let next = |text, tz| Timestamp::parse_next(text, Some(tz), now).unwrap().to_string();
        assert_eq!(next("09:00", "UTC"), "2026-01-01T09:00:00.000Z");
        assert_eq!(next("00:00", "UTC"), "2026-01-02T00:00:00.000Z", "now is over");
        assert_eq!(next("09:00", "Asia/Tokyo"), "2026-01-02T00:00:00.000Z", "it is nine there");
        assert_eq!(next("2025-07-01 09:00", "UTC"), "2025-07-01T09:00:00.000Z", "a date is a date");
        assert!(Timestamp::parse("noon", None, now).is_err());
        assert!(Timestamp::parse("09:00", Some("Mars/Base"), now).is_err());
    }
}
