//! The text format of Prometheus, version 0.0.4, and histograms for it.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The media type of the text.
pub const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Upper bounds of the buckets, in seconds: from a read in memory to a call that waits.
const BOUNDS: [f64; 13] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// Figures on their way out. A family is begun before its lines, and once.
#[derive(Debug, Default)]
pub struct Text(String);

impl Text {
    /// Begins the family `name` of a `kind` such as `gauge`.
    pub fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}"); // a string takes all
    }

    /// A family of one value without labels.
    pub fn one(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.line(name, &[], value);
    }

    /// A value of the family that was begun last.
    pub fn line(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let escaped = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}=\"{}\"", escaped(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "{name}{labels} {value}"); // a string takes all
    }

    /// The lines of a histogram of the family that was begun last.
    pub fn histogram(&mut self, name: &str, labels: &[(&str, &str)], histogram: &Histogram) {
        let bucket = format!("{name}_bucket");
        let mut count = 0;
        let bounds = BOUNDS.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        for (bound, n) in bounds.zip(histogram.buckets) {
            count += n;
            self.line(&bucket, &[labels, &[("le", bound.as_str())]].concat(), count);
        }
        self.line(&format!("{name}_sum"), labels, histogram.sum.as_secs_f64());
        self.line(&format!("{name}_count"), labels, count);
    }

    /// All of it.
    pub fn finish(self) -> String {
        self.0
    }
}

/// A number as Prometheus writes it: what is none is `NaN`.
pub(super) struct Number(pub(super) f64);

impl Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_nan() { f.write_str("NaN") } else { self.0.fmt(f) }
    }
}

/// How long things took.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    /// How many took so long, the last without a bound.
    buckets: [u64; BOUNDS.len() + 1],
    sum: Duration,
}

impl Histogram {
    /// One more.
    pub fn add(&mut self, took: Duration) {
        self.buckets[BOUNDS.partition_point(|bound| *bound < took.as_secs_f64())] += 1;
        self.sum = self.sum.saturating_add(took);
    }
}

/// How long things took, by name.
#[derive(Debug, Default)]
pub struct Timings(Mutex<BTreeMap<&'static str, Histogram>>);

impl Timings {
    /// One more of this name.
    pub fn add(&self, name: &'static str, took: Duration) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default().add(took);
    }

    /// As they are now.
    pub fn all(&self) -> BTreeMap<&'static str, Histogram> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_add_up_and_a_bound_belongs_to_its_bucket() {
        let mut histogram = Histogram::default();
        for took in [0.0, 0.001, 0.0011, 3600.0].map(Duration::from_secs_f64) {
            histogram.add(took);
        }
        let mut text = Text::default();
        text.histogram("h", &[("op", "a\"b")], &histogram);
        let text = text.finish();
        for line in [
            r#"h_bucket{op="a\"b",le="0.0005"} 1"#,
            r#"h_bucket{op="a\"b",le="0.001"} 2"#,
            r#"h_bucket{op="a\"b",le="0.0025"} 3"#,
            r#"h_bucket{op="a\"b",le="30"} 3"#,
            r#"h_bucket{op="a\"b",le="+Inf"} 4"#,
            r#"h_sum{op="a\"b"} 3600.0021"#,
            r#"h_count{op="a\"b"} 4"#,
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
    }
}
