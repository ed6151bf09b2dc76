//! One field of a crontab line: a set of numbers.

use crate::error::{Error, Result};

/// Which field it is, and what may stand in it.
pub(super) struct Kind {
    /// What people call it.
    pub name: &'static str,
    /// The lowest number.
    pub min: u32,
    /// The highest number as it may be written (7 for Sunday).
    pub max: u32,
    /// Names in the order of the numbers, from `min`.
    names: &'static [&'static str],
}

const fn kind(name: &'static str, min: u32, max: u32, names: &'static [&'static str]) -> Kind {
    Kind { name, min, max, names }
}

pub(super) const SECOND: Kind = kind("second", 0, 59, &[]);
pub(super) const MINUTE: Kind = kind("minute", 0, 59, &[]);
pub(super) const HOUR: Kind = kind("hour", 0, 23, &[]);
pub(super) const DAY: Kind = kind("day of month", 1, 31, &[]);
pub(super) const MONTH: Kind =
    kind("month", 1, 12, &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]);
pub(super) const WEEKDAY: Kind = kind("day of week", 0, 7, &["sun", "mon", "tue", "wed", "thu", "fri", "sat"]);

/// A set of numbers below 64, and whether it was written with a star.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Field {
    /// Bit n stands for the number n; Sunday is 0 only.
    pub set: u64,
    /// It begins with `*`, also as `*/2`: crontab(5) calls it unrestricted.
    pub star: bool,
}

impl Field {
    /// Reads `*`, numbers, names, ranges, steps and lists of them.
    ///
    /// # Errors
    /// Usage: the field, what is wrong in it and what to write.
    pub fn parse(kind: &Kind, text: &str) -> Result<Self> {
        let place = |e: Error| e.context(format!("{} field {text:?}", kind.name));
        let mut set = 0;
        for part in text.split(',') {
            set |= kind.part(part).map_err(place)?;
        }
        if kind.max == 7 {
            set = (set | set >> 7) & 0x7f;
        }
        Ok(Self { set, star: text.starts_with('*') })
    }

    /// Whether `n` is in it.
    pub fn has(self, n: u32) -> bool {
        self.set >> n & 1 == 1
    }

    /// How many of its numbers are below `n`.
    pub fn below(self, n: u32) -> u64 {
        u64::from((self.set & ((1 << n) - 1)).count_ones())
    }

    /// How many numbers it has.
    pub fn len(self) -> u64 {
        u64::from(self.set.count_ones())
    }
}

impl Kind {
    /// One element of the list: `*`, `5`, `1-5`, each but the number with an optional `/step`.
    fn part(&self, part: &str) -> Result<u64> {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(self.step(range, step)?)),
            None => (part, None),
        };
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (self.min, self.max),
            _ if range == "?" => return Err(Error::usage("\"?\" is not understood").hint("write *")),
            Some((from, to)) => self.range(from, to)?,
            None if step.is_some() => {
                return Err(Error::usage(format!("a step needs a range, not {range:?}")).hint(format!(
                    "write {range}-{}/{} or */{0}",
                    self.max,
                    step.unwrap_or(1)
                )));
            }
            None => self.number(range).map(|n| (n, n))?,
        };
        let step = step.unwrap_or(1) as usize;
        Ok((from..=to).step_by(step).fold(0, |set, n| set | 1 << n))
    }

    fn step(&self, range: &str, step: &str) -> Result<u32> {
        match step.parse() {
            Ok(n @ 1..=1000) if step.bytes().all(|b| b.is_ascii_digit()) => Ok(n),
            _ => Err(Error::usage(format!("the step {step:?} is not a number from 1"))
                .hint(format!("{range}/2 means every second one of {range}"))),
        }
    }

    fn range(&self, from: &str, to: &str) -> Result<(u32, u32)> {
        let (low, high) = (self.number(from)?, self.number(to)?);
        if low <= high {
            return Ok((low, high));
        }
        // A week that ends on Sunday is what people mean by fri-sun.
        if self.max == 7 && high == 0 {
            return Ok((low, 7));
        }
        let hint = format!("a range does not wrap around: write {from}-{},{}-{to}", self.last(), self.min);
        Err(Error::usage(format!("the range {from}-{to} is empty")).hint(hint))
    }

    fn number(&self, word: &str) -> Result<u32> {
        let named = self.names.iter().position(|name| name.eq_ignore_ascii_case(word));
        if let Some(place) = named {
            return Ok(self.min + place as u32);
        }
        match word.parse::<u32>() {
            Ok(n) if (self.min..=self.max).contains(&n) && word.bytes().all(|b| b.is_ascii_digit()) => Ok(n),
            Ok(n) => Err(Error::usage(format!("{n} is not from {} to {}", self.min, self.max)).hint(self.choice())),
            Err(_) => Err(Error::usage(format!("{word:?} is not understood")).hint(self.hint_for(word))),
        }
    }

    /// The highest number that stands for itself.
    fn last(&self) -> u32 {
        if self.max == 7 { 6 } else { self.max }
    }

    /// How many different numbers there are.
    pub fn size(&self) -> u32 {
        self.last() - self.min + 1
    }

    fn choice(&self) -> String {
        let names = match (self.names.first(), self.names.last()) {
            (Some(first), Some(last)) => format!(" or {first}…{last}"),
            _ => String::new(),
        };
        format!("the {} is *, {}-{}{names}, a list 1,2, a range 1-5 or a step */2", self.name, self.min, self.max)
    }

    fn hint_for(&self, word: &str) -> String {
        match word {
            "?" => "crontab(5) has no ?: write *".into(),
            _ if word.contains(['L', 'W', '#', '~', 'H']) && self.names.is_empty() => {
                "crontab(5) has no L, W, #, H or ~: let the command test for such days".into()
            }
            _ => self.choice(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(kind: &Kind, text: &str) -> Vec<u32> {
        let field = Field::parse(kind, text).unwrap();
        let found: Vec<u32> = (0..64).filter(|n| field.has(*n)).collect();
        assert_eq!(found.len() as u64, field.len());
        found
    }

    #[test]
    fn lists_ranges_steps_and_names() {
        assert_eq!(numbers(&MINUTE, "*/20"), [0, 20, 40]);
        assert_eq!(numbers(&MINUTE, "5,1-3,50-59/4"), [1, 2, 3, 5, 50, 54, 58]);
        assert_eq!(numbers(&HOUR, "*").len(), 24);
        assert_eq!(numbers(&DAY, "*/10"), [1, 11, 21, 31]);
        assert_eq!(numbers(&MONTH, "jan,MAR-may"), [1, 3, 4, 5]);
        assert_eq!(numbers(&MINUTE, "*/90"), [0]);
    }

    #[test]
    fn sunday_is_0_and_7() {
        assert_eq!(numbers(&WEEKDAY, "0"), numbers(&WEEKDAY, "7"));
        assert_eq!(numbers(&WEEKDAY, "5-7"), [0, 5, 6]);
        assert_eq!(numbers(&WEEKDAY, "Fri-Sun"), [0, 5, 6]);
        assert_eq!(numbers(&WEEKDAY, "0-7").len(), 7);
        assert_eq!(numbers(&WEEKDAY, "*/2"), [0, 2, 4, 6]);
        assert_eq!(numbers(&WEEKDAY, "1-7/2"), [0, 1, 3, 5]);
    }

    #[test]
    fn only_a_leading_star_is_unrestricted() {
        for (text, star) in [("*", true), ("*/5", true), ("*,3", true), ("0-59", false), ("3", false)] {
            assert_eq!(Field::parse(&MINUTE, text).unwrap().star, star, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_field_and_a_hint() {
        for (kind, text, said, hint) in [
            (&MINUTE, "60", "minute field \"60\": 60 is not from 0 to 59", "the minute is *, 0-59"),
            (&HOUR, "22-2", "hour field \"22-2\": the range 22-2 is empty", "write 22-23,0-2"),
            (&WEEKDAY, "sat-tue", "day of week field \"sat-tue\": the range sat-tue is empty", "write sat-6,0-tue"),
            (&MINUTE, "5/15", "minute field \"5/15\": a step needs a range, not \"5\"", "write 5-59/15"),
            (&MINUTE, "*/0", "minute field \"*/0\": the step \"0\" is not a number from 1", "*/2 means every second"),
            (&DAY, "L", "day of month field \"L\": \"L\" is not understood", "has no L"),
            (&DAY, "?", "day of month field \"?\": \"?\" is not understood", "write *"),
            (&DAY, "0", "day of month field \"0\": 0 is not from 1 to 31", "1-31"),
            (&MONTH, "1,foo", "month field \"1,foo\": \"foo\" is not understood", "jan…dec"),
            (&HOUR, "1,", "hour field \"1,\": \"\" is not understood", "0-23"),
            (&HOUR, "+1", "hour field \"+1\": 1 is not from", ""),
        ] {
            let error = Field::parse(kind, text).unwrap_err();
            assert!(error.message().starts_with(said), "{error}");
            assert!(error.hint_text().unwrap().contains(hint), "{:?}", error.hint_text());
        }
        for bad in ["", "-", "*/", "/5", "1-", "-1", "1-2-3", "1/2/3", "99999999999", "é", "**", "* /2", "*-5"] {
            assert!(Field::parse(&MINUTE, bad).is_err(), "{bad}");
        }
    }
}
