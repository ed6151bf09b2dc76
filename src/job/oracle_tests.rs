//! The instants of cron schedules against an independent oracle, croner 4, around every change of 40 wall clocks in 20 years.
//!
//! Both read the same zones. Where they differ, the difference must be of a class that is named here, to the instant:
//! see [`Class`]. `ORX_ORACLE_FULL=1` looks at every change; otherwise at every fifth, and at
//! those that are set ahead over midnight.

use std::collections::BTreeMap;

use croner::Cron as Oracle;
use croner::parser::{CronParser, Seconds};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp as Instant, Zoned};

use super::Recurrence;
use super::tests::cron;
use crate::time::Timestamp;

const ZONES: [&str; 40] = [
    "Africa/Cairo",
    "Africa/Casablanca",
    "Africa/El_Aaiun",
    "Africa/Khartoum",
    "Africa/Windhoek",
    "America/Argentina/Buenos_Aires",
    "America/Asuncion",
    "America/Caracas",
    "America/Chicago",
    "America/Havana",
    "America/Mexico_City",
    "America/New_York",
    "America/Nuuk",
    "America/Santiago",
    "America/Sao_Paulo",
    "America/St_Johns",
    "Antarctica/Casey",
    "Antarctica/Troll",
    "Asia/Amman",
    "Asia/Beirut",
    "Asia/Dhaka",
    "Asia/Gaza",
    "Asia/Jerusalem",
    "Asia/Kathmandu",
    "Asia/Novosibirsk",
    "Asia/Pyongyang",
    "Asia/Tehran",
    "Asia/Ulaanbaatar",
    "Atlantic/Azores",
    "Australia/Adelaide",
    "Australia/Lord_Howe",
    "Europe/Berlin",
    "Europe/Dublin",
    "Europe/Istanbul",
    "Europe/London",
    "Europe/Moscow",
    "Pacific/Apia",
    "Pacific/Auckland",
    "Pacific/Chatham",
    "Pacific/Easter",
];

const PATTERNS: [&str; 30] = [
    "* * * * *",
    "*/5 * * * *",
    "*/30 * * * *",
    "0 * * * *",
    "30 * * * *",
    "17,47 * * * *",
    "@hourly",
    "0 */2 * * *",
    "15 */3 * * *",
    "*/20 2 * * *",
    "* 1 * * *",
    "0 0 * * *",
    "@daily",
    "30 0 * * *",
    "0 1 * * *",
    "30 1 * * *",
    "0 2 * * *",
    "30 2 * * *",
    "15 3 * * *",
    "30 23 * * *",
    "0,30 2 * * *",
    "0 0-4 * * *",
    "0-59/15 0-23 * * *",
    "30 2 * * sun",
    "30 23 * * sat",
    "45 1 31 3 sun",
    "@monthly",
    "0 9 */2 * mon",
    "*/30 * * * * *",
    "15 30 2 * * *",
];

/// Why croner and orx differ, and orx is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    /// croner takes an entry with more than one fixed time, such as `0,30 2 * * *`, for an interval, so it is lost in a gap and runs twice
    /// in a fold. For Vixie's cron only a star makes an interval: a fixed time fires once.
    Listed,
    /// croner drops a fixed time whose gap ends on a day that the entry does not name: `30 23 * * sat` where the clock goes from
    /// Saturday 23:00 to Sunday. A job that is due on Saturday is not lost because Saturday was short.
    OtherDay,
    /// croner gives up with an error in a gap of more than two hours, as where a day does not exist.
    LongGap,
    /// croner reads `*/2 … mon` as either field; by crontab(5) a field with a star is unrestricted, so both must match.
    StarredDay,
}

/// One change of one wall clock.
struct Turn<'a> {
    zone: &'a TimeZone,
    at: i64,
    /// How far the clock is set ahead, in milliseconds; negative: back.
    shift: i64,
}

/// An entry in both languages.
struct Entry {
    line: &'static str,
    oracle: Oracle,
}

impl Entry {
    fn new(line: &'static str) -> Self {
        let parser = CronParser::builder().seconds(Seconds::Optional).build();
        Self { line, oracle: parser.parse(line).unwrap() }
    }

    fn is_starred(&self) -> bool {
        let fields: Vec<&str> = self.line.split(' ').collect();
        let time = fields.len().saturating_sub(5);
        self.line == "@hourly" || fields.get(time..time + 2).is_some_and(|f| f.iter().any(|f| f.starts_with('*')))
    }

    /// It names several fixed times of a day.
    fn is_listed(&self) -> bool {
        !self.is_starred() && self.line.split(' ').take(2).any(|f| f.contains([',', '-']))
    }

    /// How long to look before and after a turn, in hours: about a hundred instants.
    fn hours(&self) -> (i64, i64) {
        match self.line {
            "* * * * *" | "*/30 * * * * *" => (1, 2),
            line if line.starts_with("*/5 ") => (2, 6),
            line if line.starts_with("* ") || line.starts_with("0-59/15") => (4, 26),
            _ => (30, 50),
        }
    }

    /// What croner says of (from, to], and whether it got to the end.
    fn ask(&self, turn: &Turn, from: i64, to: i64) -> (Vec<i64>, bool) {
        let mut at = zoned(from, turn.zone);
        let mut found = Vec::new();
        loop {
            match self.oracle.find_next_occurrence(&at, false) {
                Ok(next) if next.timestamp().as_millisecond() <= to => {
                    found.push(next.timestamp().as_millisecond());
                    at = next;
                }
                Ok(_) => return (found, true),
                Err(_) => return (found, false),
            }
        }
    }
}

impl Turn<'_> {
    /// The class of a difference at the instant `t`, which orx has (`ours`) or croner has.
    fn class(&self, entry: &Entry, t: i64, ours: bool, finished: bool) -> Option<Class> {
        if !finished && self.shift > 2 * 3_600_000 && ours && t >= self.at {
            return Some(Class::LongGap);
        }
        if entry.line.contains("*/2 * mon") && !ours {
            let day = zoned(t, self.zone);
            return (day.day() % 2 == 0 || day.weekday() != jiff::civil::Weekday::Monday).then_some(Class::StarredDay);
        }
        if entry.is_listed() {
            let in_gap = ours && self.shift > 0 && t == self.at;
            let again = !ours && self.shift < 0 && (self.at..self.at - self.shift).contains(&t);
            return (in_gap || again).then_some(Class::Listed);
        }
        (ours && self.skips_midnight() && t == self.at && !entry.is_starred()).then_some(Class::OtherDay)
    }

    /// The clock is set ahead to another day.
    fn skips_midnight(&self) -> bool {
        let day = |t: i64| zoned(t, self.zone).date();
        self.shift > 0 && day(self.at - 1) != day(self.at)
    }
}

fn zoned(at: i64, zone: &TimeZone) -> Zoned {
    Instant::from_millisecond(at).unwrap().to_zoned(zone.clone())
}

/// The changes of the wall clock in 20 years.
fn turns(zone: &TimeZone) -> Vec<Turn<'_>> {
    let (from, to): (Instant, Instant) =
        ("2006-01-01T00:00:00Z".parse().unwrap(), "2026-01-01T00:00:00Z".parse().unwrap());
    let turn = |at: Instant| {
        let before = at.checked_sub(SignedDuration::from_millis(1)).unwrap();
        let shift = zone.to_offset(at).seconds() - zone.to_offset(before).seconds();
        Turn { zone, at: at.as_millisecond(), shift: i64::from(shift) * 1000 }
    };
    zone.following(from).map(|t| t.timestamp()).take_while(|t| *t < to).map(turn).filter(|t| t.shift != 0).collect()
}

/// Compares one entry around one turn; counts the differences by class.
fn compare(turn: &Turn, entry: &Entry, ours: &Recurrence, seen: &mut BTreeMap<Class, usize>) -> usize {
    let hours = entry.hours();
    let (from, to) = (turn.at - hours.0 * 3_600_000, turn.at + turn.shift.abs() + hours.1 * 3_600_000);
    let found: Vec<i64> = ours.between(Timestamp(from), Timestamp(to)).map(|t| t.0).collect();
    assert!(found.is_sorted_by(|a, b| a < b), "{} {}", entry.line, turn.at);
    let (expected, finished) = entry.ask(turn, from, to);
    let only = |these: &[i64], those: &[i64]| -> Vec<i64> {
        these.iter().copied().filter(|t| those.binary_search(t).is_err()).collect()
    };
    let differences = only(&found, &expected).into_iter().map(|t| (t, true));
    for (t, ours) in differences.chain(only(&expected, &found).into_iter().map(|t| (t, false))) {
        let class = turn.class(entry, t, ours, finished);
        let who = if ours { "orx" } else { "croner" };
        let class = class.unwrap_or_else(|| panic!("{}: only {who} has {}", entry.line, zoned(t, turn.zone)));
        *seen.entry(class).or_default() += 1;
    }
    found.len()
}

#[test]
fn forty_zones_and_twenty_years_agree_with_an_independent_oracle() {
    let full = std::env::var_os("ORX_ORACLE_FULL").is_some_and(|v| v == "1");
    let entries = PATTERNS.map(Entry::new);
    let (mut seen, mut windows, mut instants) = (BTreeMap::new(), 0, 0);
    for (z, name) in ZONES.iter().enumerate() {
        let zone = TimeZone::get(name).unwrap();
        let turns = turns(&zone);
        let drawn = |(n, turn): &(usize, &Turn)| full || (n + z) % 5 == 0 || turn.skips_midnight();
        for entry in &entries {
            let ours = cron(entry.line, name);
            for (_, turn) in turns.iter().enumerate().filter(drawn) {
                instants += compare(turn, entry, &ours, &mut seen);
                windows += 1;
            }
        }
    }
    println!("{windows} windows, {instants} instants, differences: {seen:?}");
    let classes: Vec<Class> = seen.keys().copied().collect();
    assert_eq!(classes, [Class::Listed, Class::OtherDay, Class::LongGap, Class::StarredDay]);
    assert!(windows > 5_000, "{windows}");
}
