//! Tables, and what goes where the terminal is too narrow for one.

use comfy_table::{
    Attribute, Cell, Color, ColumnConstraint, ContentArrangement, Row as TableRow, Table, Width, presets,
};

use super::{Row, Text, Tone, View, raw, words};
use crate::error::Result;

/// Columns of which a part says something too; part of a name, a number, a state or an address says nothing.
const CAN_BE_CUT: [&str; 7] = ["COMMAND", "NOTE", "ERROR", "DATA", "LABELS", "LIMITS", "FINGERPRINT"];
/// No column is cut below that.
const MIN_WIDTH: usize = 16;
/// Spaces between columns.
const GAP: usize = 2;

impl View {
    /// A table that fits the terminal where it can, see [`fit`]. Whole where no terminal is.
    pub(in crate::cli) fn table<R: Row>(&self, rows: &[R]) -> Result<()> {
        raw(self.table_text(rows).as_bytes())
    }

    pub(super) fn table_text<R: Row>(&self, rows: &[R]) -> String {
        self.grid(R::HEADERS.to_vec(), rows.iter().map(|row| row.cells(self.now)).collect())
    }

    /// As [`View::table`], without the columns in which every row says nothing or 0, however wide the terminal is.
    pub(in crate::cli) fn dense_table<R: Row>(&self, rows: &[R], always: &[&str]) -> Result<()> {
        let mut headers = R::HEADERS.to_vec();
        let mut cells: Vec<Vec<Text>> = rows.iter().map(|row| row.cells(self.now)).collect();
        drop_empty(&mut headers, &mut cells, always);
        raw(self.grid(headers, cells).as_bytes())
    }

    /// A table of texts.
    fn grid(&self, mut headers: Vec<&str>, mut rows: Vec<Vec<Text>>) -> String {
        let mut table = self.whole(&headers, &rows);
        if let Some(width) = self.width {
            if sum(&widths(&table)) > width {
                drop_empty(&mut headers, &mut rows, &[]);
                table = self.whole(&headers, &rows);
            }
            let limits = fit(&headers, widths(&table), width);
            let last = limits.len().saturating_sub(1);
            for (at, (column, limit)) in table.column_iter_mut().zip(limits).enumerate() {
                let gap = if at == last { 0 } else { GAP };
                let limit = u16::try_from(limit + gap).unwrap_or(u16::MAX);
                column.set_constraint(ColumnConstraint::UpperBoundary(Width::Fixed(limit)));
            }
        }
        table.lines().map(|l| format!("{}\n", l.trim_end())).collect()
    }

    /// The table with nothing cut.
    fn whole(&self, headers: &[&str], rows: &[Vec<Text>]) -> Table {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_truncation_indicator("…");
        table.set_content_arrangement(ContentArrangement::Disabled);
        match self.color {
            true => table.enforce_styling(),
            false => table.force_no_tty(),
        };
        let line = |cells: Vec<Cell>| {
            let mut row = TableRow::from(cells);
            row.max_height(1);
            row
        };
        table.set_header(line(headers.iter().map(|header| self.cell(&Text::dim(*header))).collect()));
        for row in rows {
            table.add_row(line(row.iter().map(|text| self.cell(text)).collect()));
        }
        // Spaces at the end would break a coloured line, of which they are not trimmed.
        for column in table.column_iter_mut().take(headers.len().saturating_sub(1)) {
            column.set_padding((0, GAP as u16));
        }
        if let Some(last) = table.column_mut(headers.len().saturating_sub(1)) {
            last.set_padding((0, 0));
        }
        table
    }

    fn cell(&self, Text { text, tone }: &Text) -> Cell {
        let cell = Cell::new_owned(words::one_line(text));
        if !self.color {
            return cell;
        }
        match tone {
            Tone::Plain => cell,
            Tone::Good => cell.fg(Color::Green),
            Tone::Bad => cell.fg(Color::Red),
            Tone::Busy => cell.fg(Color::Cyan),
            Tone::Waiting => cell.fg(Color::Yellow),
            Tone::Dim => cell.add_attribute(Attribute::Dim),
        }
    }
}

/// Leaves out the columns in which no row says anything.
fn drop_empty(headers: &mut Vec<&str>, rows: &mut [Vec<Text>], always: &[&str]) {
    if rows.is_empty() {
        return; // the headers are all there is
    }
    let says = |at: usize| {
        rows.iter().any(|row| row.get(at).is_some_and(|cell| !["", "0", "-"].contains(&cell.text.as_str())))
    };
    let keep: Vec<bool> = headers.iter().enumerate().map(|(at, header)| always.contains(header) || says(at)).collect();
    let kept = |at: usize| keep.get(at).copied().unwrap_or(true);
    for row in rows {
        let mut at = 0..;
        row.retain(|_| at.next().is_some_and(kept));
    }
    let mut at = 0..;
    headers.retain(|_| at.next().is_some_and(kept));
}

fn widths(table: &Table) -> Vec<usize> {
    table.column_max_content_widths().into_iter().map(usize::from).collect()
}

/// How wide a table with these columns is.
fn sum(widths: &[usize]) -> usize {
    widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1)
}

/// How wide each column may be so that all fit `width`: the widest of those that can be cut gives first.
///
/// Where that is not enough, lines are longer than the terminal: a line that breaks can be read.
fn fit(headers: &[&str], mut widths: Vec<usize>, width: usize) -> Vec<usize> {
    while sum(&widths) > width {
        let can_be_cut =
            |at: &usize| headers.get(*at).is_some_and(|header| CAN_BE_CUT.contains(header)) && widths[*at] > MIN_WIDTH;
        let Some(widest) = (0..widths.len()).filter(can_be_cut).max_by_key(|at| widths[*at]) else { break };
        widths[widest] -= 1;
    }
    widths
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::OutputFormat;
    use crate::time::Timestamp;

    #[test]
    fn colours_make_no_line_longer_than_the_terminal() {
        let (format, now) = (OutputFormat::Table, Timestamp(0));
        let view = View { format, template: None, width: Some(30), color: true, now };
        let long = "a command of many words that is longer than that";
        let text = view.grid(vec!["JOB", "COMMAND"], vec![vec![Text::new("1"), Text::dim(long)]]);
        let shown = |line: &str| {
            let parts = line.split("\x1b[").enumerate();
            parts.map(|(at, part)| if at == 0 { part } else { part.split_once('m').unwrap().1 }).collect::<String>()
        };
        assert!(text.lines().all(|line| shown(line).chars().count() <= 30), "{text}");
    }

    fn drawn(width: usize, headers: &[&str], rows: &[&[&str]]) -> String {
        let (format, now) = (OutputFormat::Table, Timestamp(0));
        let view = View { format, template: None, width: Some(width), color: false, now };
        let rows = rows.iter().map(|row| row.iter().map(|cell| Text::new(*cell)).collect()).collect();
        view.grid(headers.to_vec(), rows)
    }

    #[test]
    fn a_narrow_terminal_costs_words_but_no_header_name_number_or_state() {
        let headers = ["QUEUE", "SCHEDULED", "PENDING", "RUNNING", "DONE", "CANCELLED", "OLDEST", "LIMITS", ""];
        let text = drawn(
            80,
            &headers,
            &[
                &["default", "0", "3", "12", "1402", "0", "1h1m ago", "running 12, queued 1000, a minute 30", ""],
                &["images", "0", "0", "0", "7", "0", "", "", "paused"],
            ],
        );
        insta::assert_snapshot!(text, @r"
        QUEUE    PENDING  RUNNING  DONE  OLDEST    LIMITS
        default  3        12       1402  1h1m ago  running 12, queued 1000, a…
        images   0        0        7                                              paused
        ");
    }

    #[test]
    fn the_longest_text_is_cut_first_and_none_to_nothing() {
        let headers = ["JOB", "STATE", "COMMAND", "NOTE"];
        let command = "sh -c 'for i in 1 2 3; do echo step $i; sleep 1; done'";
        let text = drawn(50, &headers, &[&["1", "failed", command, "exit 7 after a while"]]);
        insta::assert_snapshot!(text, @r"
        JOB  STATE   COMMAND             NOTE
        1    failed  sh -c 'for i in 1…  exit 7 after a…
        ");
        let narrower = drawn(20, &headers, &[&["1", "failed", command, "exit 7 after a while"]]);
        insta::assert_snapshot!(narrower, @r"
        JOB  STATE   COMMAND           NOTE
        1    failed  sh -c 'for i in…  exit 7 after a…
        ");
    }

    #[test]
    fn what_fits_is_whole_and_what_cannot_fit_is_whole_too() {
        let (headers, row) = (["PEER", "KEY", "ADDRESS", "LOAD"], ["a", "75971b3c", "http://10.0.0.7:7117", "-"]);
        assert_eq!(
            drawn(80, &headers, &[&row]),
            "PEER  KEY       ADDRESS               LOAD\na     75971b3c  http://10.0.0.7:7117  -\n"
        );
        assert_eq!(drawn(20, &headers, &[&row]), "PEER  KEY       ADDRESS\na     75971b3c  http://10.0.0.7:7117\n");
    }
}
