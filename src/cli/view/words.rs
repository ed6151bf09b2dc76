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

/// Text on one line: line breaks become visible, and what [`safe`] does not let through.
pub(in crate::cli) fn one_line(text: &str) -> String {
    visible(text, |c| match c {
        '\n' => Some("\\n"),
        '\r' => Some("\\r"),
        '\t' => Some(" "),
        _ => None,
    })
}

/// Text that does nothing to a terminal but to be shown: control characters, and those that turn the direction of what is
/// read, become visible. Lines stay lines.
pub(in crate::cli) fn safe(text: &str) -> String {
    visible(text, |c| match c {
        '\n' => Some("\n"),
        '\t' => Some("\t"),
        _ => None,
    })
}

/// The same for JSON that is written already: there such characters lie in strings only, where they can be written otherwise.
/// Line breaks and tabs lie outside of them only, and stay.
pub(in crate::cli) fn safe_json(json: String) -> String {
    let acts = |c: char| acts(c) && !c.is_ascii_whitespace();
    match json.chars().any(acts) {
        true => json.chars().fold(String::with_capacity(json.len() + 64), |mut out, c| {
            match acts(c) {
                true => out.push_str(&format!("\\u{:04x}", u32::from(c))),
                false => out.push(c),
            }
            out
        }),
        false => json,
    }
}

/// JSON on one line.
pub(in crate::cli) fn one_line_json(json: String) -> String {
    match json.contains(['\n', '\r']) {
        true => json.replace(['\n', '\r'], " "),
        false => json,
    }
}

fn visible(text: &str, known: impl Fn(char) -> Option<&'static str>) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match known(c) {
            Some(word) => shown.push_str(word),
            None if !acts(c) => shown.push(c),
            None if u32::from(c) < 0x100 => shown.push_str(&format!("\\x{:02x}", u32::from(c))),
            None => shown.push_str(&format!("\\u{{{:x}}}", u32::from(c))),
        }
    }
    shown
}

/// Whether a terminal does something at this character but to show it.
fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
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
    fn nothing_that_a_terminal_obeys_is_shown_as_it_is() {
        let hostile = "a\u{1b}]0;x\u{7}\u{9b}31m\u{202e}b\u{2066}\r\n\tc é 日";
        assert_eq!(one_line(hostile), "a\\x1b]0;x\\x07\\x9b31m\\u{202e}b\\u{2066}\\r\\n c é 日");
        assert_eq!(safe(hostile), "a\\x1b]0;x\\x07\\x9b31m\\u{202e}b\\u{2066}\\x0d\n\tc é 日");
        let json = serde_json::to_string(hostile).unwrap();
        let shown = safe_json(json.clone());
        assert!(json.contains('\u{9b}') && !shown.chars().any(acts), "{shown}");
        assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), hostile);
        assert_eq!(safe_json("[1]".into()), "[1]");
        assert_eq!(safe_json("{\"a\":\r\n\t1}".into()), "{\"a\":\r\n\t1}", "as it was written");
        assert_eq!(one_line_json("{\"a\":\r\n\t1}".into()), "{\"a\":  \t1}");
    }

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
