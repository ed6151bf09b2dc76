//! The report of a run as JUnit XML, which CI systems show: a test case for each task.

use std::fmt::Write as _;

use super::words::ending;
use crate::job::State;
use crate::ops::runs::view::{RunTask, RunView};
use crate::time::Timestamp;

/// The report of `run`.
pub(in crate::cli) fn report(run: &RunView) -> String {
    let count = |states: &[State]| run.tasks.iter().filter(|task| states.contains(&task.state)).count();
    let unfinished = [State::Blocked, State::Scheduled, State::Pending, State::Running];
    let skipped = count(&[State::Skipped]) + count(&unfinished);
    let counts = format!(
        "tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{skipped}\" time=\"{}\"",
        run.tasks.len(),
        count(&[State::Failed]),
        count(&[State::Cancelled]),
        seconds(run.started_at, run.finished_at),
    );
    let name = escape(&run.name);
    let at = run.started_at.unwrap_or(run.created_at).to_string();
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = write!(
        xml,
        "<testsuites name=\"{name}\" {counts}>\n  <testsuite name=\"{name}\" id=\"{}\" timestamp=\"{}\" {counts}>\n",
        run.id,
        at.trim_end_matches('Z'),
    ); // a string takes all
    run.tasks.iter().for_each(|task| case(&mut xml, &name, task));
    xml.push_str("  </testsuite>\n</testsuites>\n");
    xml
}

fn case(xml: &mut String, class: &str, task: &RunTask) {
    let (name, time) = (escape(&task.task), seconds(task.started_at, task.finished_at));
    let _ = write!(xml, "    <testcase classname=\"{class}\" name=\"{name}\" time=\"{time}\"");
    let said = escape(task.error.as_deref().unwrap_or_default());
    let why = escape(&message(task));
    let _ = match task.state {
        State::Done => writeln!(xml, "/>"),
        State::Failed => writeln!(xml, ">\n      <failure message=\"{why}\">{said}</failure>\n    </testcase>"),
        State::Cancelled => writeln!(xml, ">\n      <error message=\"{why}\">{said}</error>\n    </testcase>"),
        _ => writeln!(xml, ">\n      <skipped message=\"{why}\"/>\n    </testcase>"),
    };
}

fn message(task: &RunTask) -> String {
    let job = task.job.map(|n| format!(" (job {n})")).unwrap_or_default();
    let how = match task.state {
        State::Failed => ending(task.exit_code, task.signal),
        _ => task.reason.clone().unwrap_or_default(),
    };
    let how = if how.is_empty() { how } else { format!(": {how}") };
    format!("{}{how}{job}", task.state)
}

fn seconds(from: Option<Timestamp>, to: Option<Timestamp>) -> String {
    let ms = from.zip(to).map_or(0, |(from, to)| to.since(from).as_millis());
    format!("{}.{:03}", ms / 1000, ms % 1000)
}

/// Text for XML 1.0, which has no way to write most control characters.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() || c == '\u{fffe}' || c == '\u{ffff}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_jobs_say_cannot_break_the_document() {
        assert_eq!(escape("a<b & \"c\" \u{1b}[0m\u{0}"), "a&lt;b &amp; &quot;c&quot; \u{fffd}[0m\u{fffd}");
    }
}
