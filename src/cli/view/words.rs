//! Times and numbers as people read them.

use crate::time::{Span, Timestamp};

/// `3m ago`, `in 10s`, `now`.
pub(in crate::cli) fn relative(at: Timestamp, now: Timestamp) -> String {
    let (past, future) = (now.since(at), at.since(now));
    match (past.as_millis(), future.as_millis()) {
        (1000.., _) => format!("{} ago", rough(past)),
        (_, 1000..) => format!("in {}", rough(future)),
        _ => "now".into(),
    }
}

/// Text on one line: line breaks, escapes and other control characters become visible.
pub(in crate::cli) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push(' '),
            c if c.is_control() => line.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => line.push(c),
        }
    }
    line
}

/// How long something took, or takes until now.
pub(in crate::cli) fn took(from: Option<Timestamp>, to: Option<Timestamp>, now: Timestamp) -> String {
    from.map(|from| to.unwrap_or(now).since(from).to_string()).unwrap_or_default()
}

/// The two largest units, without the small one where it says little.
fn rough(span: Span) -> String {
    let secs = span.as_millis() / 1000;
    match secs {
        0..60 => format!("{secs}s"),
        60..600 => Span::from_millis(secs * 1000).to_string(),
        600..3_600 => format!("{}m", secs / 60),
        3_600..86_400 => Span::from_millis(secs / 60 * 60_000).to_string(),
        _ => Span::from_millis(secs / 3_600 * 3_600_000).to_string(),
    }
}

/// `SIGKILL`, `exit 7`, or nothing.
pub(in crate::cli) fn ending(exit_code: Option<i32>, signal: Option<i32>) -> String {
    match (exit_code, signal) {
        (Some(0), _) => String::new(),
        (Some(code), _) => format!("exit {code}"),
        (None, Some(signal)) => crate::cli::cancel::signal_name(signal),
        (None, None) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_people_say_them() {
        let now = Timestamp(10_000_000_000);
        let ago = |secs: i64| relative(Timestamp(now.0 - secs * 1000), now);
        let said: Vec<_> = [0, 1, 59, 61, 659, 3_600, 3_661, 90_000, -5, -7_200].into_iter().map(ago).collect();
        assert_eq!(
            said,
            ["now", "1s ago", "59s ago", "1m1s ago", "10m ago", "1h ago", "1h1m ago", "1d1h ago", "in 5s", "in 2h"]
        );
    }
}
