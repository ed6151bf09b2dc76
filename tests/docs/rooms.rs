//! The rooms and their order are told three times, and the same each time: in the architecture, on the crate's first page,
//! and in the test that holds them.

use super::*;
use crate::tidy::RANKS;

/// The ranks in a block of lines, a rank each, from the bottom up.
fn ranks<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<Vec<&'a str>> {
    lines.map(|line| line.split_whitespace().collect()).collect()
}

#[test]
fn the_architecture_names_the_rooms_in_their_order() {
    let text = read("docs/architecture.md");
    let block = blocks(&text).into_iter().find(|block| block.info == "text rooms").expect("a block `text rooms`");
    assert_eq!(ranks(block.lines.iter().map(String::as_str)), RANKS);
}

#[test]
fn the_first_page_of_the_crate_names_the_rooms_in_their_order() {
    let text = read("src/lib.rs");
    let docs =
        text.lines().filter_map(|line| line.strip_prefix("//!")).map(|line| line.strip_prefix(' ').unwrap_or(line));
    let block = docs.skip_while(|line| *line != "```text").skip(1).take_while(|line| *line != "```");
    assert_eq!(ranks(block), RANKS);
}
