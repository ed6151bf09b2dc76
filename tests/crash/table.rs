//! What a scenario found: rows, some of which promise something.

use std::fmt::{self, Display};

/// The rows, and the promises that were broken.
pub struct Table {
    title: String,
    rows: Vec<(String, String)>,
    broken: Vec<String>,
}

impl Table {
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), rows: Vec::new(), broken: Vec::new() }
    }

    pub fn fact(&mut self, what: &str, value: impl Display) {
        self.rows.push((what.into(), value.to_string()));
    }

    /// None of these may be: what is shown of them is enough to look for the cause.
    pub fn none<T: Display>(&mut self, what: &str, found: &[T]) {
        self.fact(what, found.len());
        if !found.is_empty() {
            let shown: Vec<String> = found.iter().take(10).map(ToString::to_string).collect();
            self.broken.push(format!("{what}: {} and none was promised\n    {}", found.len(), shown.join("\n    ")));
        }
    }

    /// Each of these must have been at least once: a run that left one out proves nothing of it.
    pub fn each<T: Display>(&mut self, what: &str, counts: impl IntoIterator<Item = (T, usize)>) {
        let mut shown = Vec::new();
        for (name, count) in counts {
            shown.push(format!("{name} {count}"));
            if count == 0 {
                self.broken.push(format!("{what}: {name} was never hit"));
            }
        }
        self.fact(what, shown.join(", "));
    }

    /// At least so many must be: a run that did not hurt enough proves nothing.
    pub fn at_least<T: Display + PartialOrd>(&mut self, what: &str, found: T, least: T) {
        self.rows.push((what.into(), format!("{found} (at least {least})")));
        if found < least {
            self.broken.push(format!("{what}: {found}, and at least {least} were wanted"));
        }
    }

    /// At most so much may be.
    pub fn at_most<T: Display + PartialOrd>(&mut self, what: &str, found: T, most: T) {
        self.rows.push((what.into(), format!("{found} (at most {most})")));
        if found > most {
            self.broken.push(format!("{what}: {found}, and at most {most} is promised"));
        }
    }

    /// Just so many must be.
    pub fn exactly<T: Display + PartialEq>(&mut self, what: &str, found: T, wanted: T) {
        self.fact(what, &found);
        if found != wanted {
            self.broken.push(format!("{what}: {found}, and {wanted} is promised"));
        }
    }

    /// The middle and the worst of some times in milliseconds.
    pub fn times(&mut self, what: &str, mut millis: Vec<i64>) {
        millis.sort_unstable();
        let at = |part: f64| millis[((millis.len() - 1) as f64 * part).round() as usize];
        match millis.len() {
            0 => self.fact(what, "none"),
            n => self.fact(what, format!("p50 {} ms, p99 {} ms, max {} ms of {n}", at(0.5), at(0.99), at(1.0))),
        }
    }

    /// The promises that were broken, for a table of many runs.
    pub fn into_broken(self) -> Vec<String> {
        self.broken
    }

    /// Prints it; fails when a promise was broken.
    #[track_caller]
    pub fn finish(self) {
        // One write: scenarios may run side by side.
        println!("{self}");
        assert!(self.broken.is_empty(), "{}\n  {}", self.title, self.broken.join("\n  "));
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n== {}", self.title)?;
        let width = self.rows.iter().map(|(what, _)| what.chars().count()).max().unwrap_or_default();
        self.rows.iter().try_for_each(|(what, value)| writeln!(f, "   {what:<width$}  {value}"))
    }
}
