//! A crontab line, and the local times it names.

use chrono::DateTime;
use cron::Schedule;
use jiff::civil::{Date, date};

use super::cron_field::{DAY, Field, HOUR, Kind, MINUTE, MONTH, SECOND, WEEKDAY};
use crate::error::{Error, Result};

/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;

/// The longest line that is read.
const MAX_LEN: usize = 1000;

/// A local time before the first that a line can name, which is 1970.
const BEFORE_ALL: i64 = -DAY_MS;

/// The last local time that a line can name: the years of the `cron` crate end with 2100.
const END: i64 = 4_133_980_800_000 - 1;

/// A crontab line as crontab(5) means it, with an optional field for seconds in front.
///
/// It speaks of local times only, as milliseconds since 1970 on the wall clock: what becomes of
/// times that are skipped or repeated is not its business. The `cron` crate does the search. It is given one or two
/// schedules whose fields are spelled out, because it numbers weekdays from Sunday = 1, wants both day fields to match, and
/// follows a time zone backwards; here it sees no zone but UTC.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cron {
    fields: Fields,
    /// Their union: two where the day of month *or* the day of week may match.
    schedules: Vec<Schedule>,
}

#[derive(Clone, Debug, PartialEq)]
struct Fields {
    second: Field,
    minute: Field,
    hour: Field,
    day: Field,
    month: Field,
    weekday: Field,
}

impl Cron {
    /// Reads five fields, six with the seconds first, or a name such as `@daily`.
    ///
    /// # Errors
    /// Usage: the field that is wrong and why, or that no day is ever named.
    pub fn parse(text: &str) -> Result<Self> {
        if text.len() > MAX_LEN {
            return Err(Error::usage(format!("the cron expression is longer than {MAX_LEN} bytes")));
        }
        let fields = Fields::parse(alias(text)?)?;
        let schedules = fields.spelled_out().iter().map(|s| s.parse().map_err(unsuitable)).collect::<Result<_>>()?;
        let cron = Self { fields, schedules };
        match cron.next(BEFORE_ALL) {
            Some(_) => Ok(cron),
            None => Err(Error::usage(format!("the cron expression {text:?} never fires"))
                .hint("no month it names has a day that it names, as in 0 0 30 2 *")),
        }
    }

    /// Whether it follows real time: its minute or hour begins with `*`, as in Vixie's and Debian's cron.
    pub fn is_wild(&self) -> bool {
        self.fields.minute.star || self.fields.hour.star
    }

    /// The first local time after `local`. Costs a walk over the months of at most 130 years.
    pub fn next(&self, local: i64) -> Option<i64> {
        let after = DateTime::from_timestamp_millis(local.max(BEFORE_ALL))?;
        let found = self.schedules.iter().filter_map(|s| s.after(&after).next());
        found.min().map(|t| t.timestamp_millis())
    }

    /// How many local times lie in (after, until]. Costs one step for each day between.
    pub fn count(&self, after: i64, until: i64) -> u64 {
        let (first, last) = (after.max(BEFORE_ALL), until.min(END));
        if last <= first {
            return 0;
        }
        self.before(first, last + 1) - self.before(first, first + 1)
    }

    /// How many lie before `local`, counted from the midnight before `start`.
    fn before(&self, start: i64, local: i64) -> u64 {
        let (first, last) = (start.div_euclid(DAY_MS), local.div_euclid(DAY_MS));
        let days = epoch_day(first).series(jiff::ToSpan::days(1)).take((last - first) as usize);
        let whole = days.filter(|d| self.fields.names_day(*d)).count() as u64 * self.fields.times_before(DAY_MS);
        match self.fields.names_day(epoch_day(last)) {
            true => whole + self.fields.times_before(local.rem_euclid(DAY_MS)),
            false => whole,
        }
    }
}

/// The date `day` days after 1970-01-01.
fn epoch_day(day: i64) -> Date {
    let days = jiff::Span::new().try_days(day);
    days.and_then(|days| date(1970, 1, 1).checked_add(days)).unwrap_or(date(1970, 1, 1))
}

/// The fields behind a name such as `@daily`; other text is its own.
fn alias(text: &str) -> Result<&str> {
    let names = [
        ("@hourly", "0 * * * *"),
        ("@daily", "0 0 * * *"),
        ("@midnight", "0 0 * * *"),
        ("@weekly", "0 0 * * 0"),
        ("@monthly", "0 0 1 * *"),
        ("@yearly", "0 0 1 1 *"),
        ("@annually", "0 0 1 1 *"),
    ];
    let text = text.trim();
    if !text.starts_with('@') {
        return Ok(text);
    }
    let found = names.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
    let known = || names.map(|(name, _)| name).join(" ");
    let hint = || match text {
        "@reboot" => "a schedule follows the clock; what runs at boot belongs to systemd".to_owned(),
        every if every.starts_with("@every") => "use --every 5m, or the duration after 'every' in a file".to_owned(),
        _ => format!("the names are {}", known()),
    };
    found.map(|(_, fields)| *fields).ok_or_else(|| Error::usage(format!("{text:?} names no schedule")).hint(hint()))
}

fn unsuitable(error: cron::error::Error) -> Error {
    Error::failed("the cron fields could not be used").source(error)
}

/// Refuses what a crontab has beside the fields: it has places of its own here.
fn refuse_line(words: &[&str]) -> Result<()> {
    if let Some(setting) = words.first().filter(|word| word.contains('=')) {
        return Err(Error::usage(format!("{setting:?} is no field of a cron expression"))
            .hint("the time zone of a schedule is said by --tz (tz in a file)"));
    }
    let is_program = |word: &&str| word.starts_with(['/', '~']) || word.contains('.');
    if words.len() > 5 && words[5..].iter().any(is_program) {
        let fields = words[..5].join(" ");
        return Err(Error::usage("a cron expression has no command")
            .hint(format!("give the fields alone, and the command after --: --cron '{fields}' -- CMD")));
    }
    Ok(())
}

impl Fields {
    fn parse(text: &str) -> Result<Self> {
        let words: Vec<&str> = text.split_whitespace().collect();
        refuse_line(&words)?;
        let (second, rest) = match words.as_slice() {
            rest if rest.len() == 5 => ("0", rest),
            [second, rest @ ..] if rest.len() == 5 => (*second, rest),
            _ => {
                return Err(Error::usage(format!("a cron expression has 5 or 6 fields, not {}", words.len())).hint(
                    "minute hour day-of-month month day-of-week, with the seconds first if there are 6; no years",
                ));
            }
        };
        let field = |kind: &Kind, n: usize| Field::parse(kind, rest.get(n).copied().unwrap_or_default());
        Ok(Self {
            second: Field::parse(&SECOND, second)?,
            minute: field(&MINUTE, 0)?,
            hour: field(&HOUR, 1)?,
            day: field(&DAY, 2)?,
            month: field(&MONTH, 3)?,
            weekday: field(&WEEKDAY, 4)?,
        })
    }

    /// Whether a day needs to be named by only one of its two fields.
    fn either_day(&self) -> bool {
        !self.day.star && !self.weekday.star
    }

    /// What the `cron` crate is given: plain lists, weekdays from Sunday = 1.
    fn spelled_out(&self) -> Vec<String> {
        let day = list(self.day, &DAY, 0);
        let weekday = list(self.weekday, &WEEKDAY, 1);
        let with = |day: &str, weekday: &str| {
            let [s, m, h] =
                [(self.second, &SECOND), (self.minute, &MINUTE), (self.hour, &HOUR)].map(|(f, k)| list(f, k, 0));
            format!("{s} {m} {h} {day} {} {weekday}", list(self.month, &MONTH, 0))
        };
        match self.either_day() {
            true => vec![with(&day, "*"), with("*", &weekday)],
            false => vec![with(&day, &weekday)],
        }
    }

    fn names_day(&self, date: Date) -> bool {
        let day = self.day.has(date.day() as u32);
        let weekday = self.weekday.has(date.weekday().to_sunday_zero_offset() as u32);
        self.month.has(date.month() as u32) && if self.either_day() { day || weekday } else { day && weekday }
    }

    /// How many times of a day that is named lie before `ms` from midnight.
    fn times_before(&self, ms: i64) -> u64 {
        let secs = ((ms + 999) / 1000) as u32;
        let (h, m, s) = (secs / 3600, secs / 60 % 60, secs % 60);
        let in_minute = if self.minute.has(m) { self.second.below(s) } else { 0 };
        let in_hour = if self.hour.has(h) { self.minute.below(m) * self.second.len() + in_minute } else { 0 };
        self.hour.below(h) * self.minute.len() * self.second.len() + in_hour
    }
}

/// A field as a plain list of numbers, each raised by `shift`.
fn list(field: Field, kind: &Kind, shift: u32) -> String {
    let inside: Vec<u32> = (kind.min..=kind.max).filter(|n| field.has(*n)).collect();
    match inside.len() as u32 == kind.size() {
        true => "*".into(),
        false => inside.iter().map(|n| (n + shift).to_string()).collect::<Vec<_>>().join(","),
    }
}

#[cfg(test)]
#[path = "cron_tests.rs"]
mod tests;
