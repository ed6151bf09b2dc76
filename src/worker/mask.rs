//! Hides secrets in what a job says: `***` in their place, also where they come in pieces.

use std::sync::Arc;

use crate::job::output::Stream;
use crate::job::{JsonText, json_text};

/// What stands in the place of a secret.
const MASKED: &[u8] = b"***";
/// Shorter lines are not hidden, in bytes: they would be found everywhere.
const LEAST: usize = 4;

/// What is to be hidden: each line of each secret.
#[derive(Clone, Default)]
pub(super) struct Mask(Arc<Words>);

#[derive(Default)]
struct Words {
    /// The longest first.
    words: Vec<Vec<u8>>,
    /// With which bytes they begin.
    begins: Vec<bool>,
}

impl Mask {
    /// Hides these.
    pub(super) fn of<'a>(secrets: impl Iterator<Item = &'a [u8]>) -> Self {
        let lines = secrets.flat_map(|secret| secret.split(|b| matches!(b, b'\n' | b'\r')));
        let mut words: Vec<Vec<u8>> = lines.filter(|line| line.len() >= LEAST).map(<[u8]>::to_vec).collect();
        words.sort_by_key(|word| std::cmp::Reverse(word.len()));
        words.dedup();
        let mut begins = vec![false; 256];
        for word in &words {
            begins[usize::from(word[0])] = true;
        }
        Self(Arc::new(Words { words, begins }))
    }

    /// Takes `held` and `more` of a stream, gives what may be shown, and holds back what may be the beginning of a secret.
    fn pass(&self, held: &mut Vec<u8>, more: &[u8], end: bool) -> Vec<u8> {
        held.extend_from_slice(more);
        let words = &self.0.words;
        let (mut shown, mut at) = (Vec::with_capacity(held.len()), 0);
        while at < held.len() {
            let rest = &held[at..];
            let may_begin = self.0.begins[usize::from(rest[0])];
            let longer = |word: &&Vec<u8>| word.len() > rest.len() && word.starts_with(rest);
            if may_begin && !end && words.iter().any(|word| longer(&word)) {
                break;
            }
            match words.iter().find(|word| may_begin && rest.starts_with(word)) {
                Some(word) => {
                    shown.extend_from_slice(MASKED);
                    at += word.len();
                }
                None => {
                    shown.push(rest[0]);
                    at += 1;
                }
            }
        }
        held.drain(..at);
        shown
    }

    /// Hides them in a text.
    pub(super) fn text(&self, text: &str) -> String {
        match self.0.words.is_empty() {
            true => text.to_owned(),
            false => String::from_utf8_lossy(&self.pass(&mut Vec::new(), text.as_bytes(), true)).into_owned(),
        }
    }

    /// Hides them in JSON: its texts, names and numbers. What has none in it stays as it was written.
    pub(super) fn json(&self, json: JsonText) -> JsonText {
        match self.0.words.is_empty() {
            true => json,
            false => json.map(|token| {
                let plain = if token.starts_with('"') { json_text::string(token) } else { token.to_owned() };
                Some(self.text(&plain)).filter(|shown| *shown != plain)
            }),
        }
    }
}

/// A mask over the two streams of a job.
pub(super) struct Filter {
    mask: Mask,
    held: [Vec<u8>; 2],
}

impl Filter {
    pub(super) fn new(mask: Mask) -> Self {
        Self { mask, held: Default::default() }
    }

    /// What may be shown of `bytes` and what was held back before; all of it at the `end`.
    pub(super) fn pass(&mut self, stream: Stream, bytes: &[u8], end: bool) -> Vec<u8> {
        let held = &mut self.held[usize::from(stream == Stream::Stderr)];
        self.mask.pass(held, bytes, end)
    }

    /// Whether there is nothing to hide.
    pub(super) fn is_idle(&self) -> bool {
        self.mask.0.words.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mask(secrets: &[&str]) -> Mask {
        Mask::of(secrets.iter().map(|s| s.as_bytes()))
    }

    #[test]
    fn secrets_are_hidden_in_texts_and_values() {
        let mask = mask(&["hunter22", "hunter", "line one\nline two\n", "abc", "12345"]);
        assert_eq!(mask.text("a hunter22, a hunter2, line two"), "a ***, a ***2, ***");
        assert_eq!(mask.text("abc hunte"), "abc hunte");
        let hidden = |json: &str| mask.json(json.parse().unwrap()).to_string();
        assert_eq!(
            hidden(r#"{ "hunter22": ["x \u0068unter", 12345, 1.10, null, true,"\u0061\/"] }"#),
            r#"{ "***": ["x ***", "***", 1.10, null, true,"\u0061\/"] }"#
        );
        assert_eq!(hidden(r#"{"hunter": 1, "hunter22": 2}"#), r#"{"***":2}"#, "a key is there once");
    }

    #[test]
    fn nothing_is_held_back_that_begins_no_secret() {
        let mut filter = Filter::new(mask(&["secret"]));
        assert_eq!(filter.pass(Stream::Stdout, b"password: ", false), b"password: ");
        assert_eq!(filter.pass(Stream::Stdout, b"the sec", false), b"the ");
        assert_eq!(filter.pass(Stream::Stderr, b"ret", false), b"ret");
        assert_eq!(filter.pass(Stream::Stdout, b"ret!", false), b"***!");
        assert_eq!(filter.pass(Stream::Stdout, b"sec", false), b"");
        assert_eq!(filter.pass(Stream::Stdout, b"", true), b"sec");
    }

    proptest! {
        #[test]
        fn however_the_bytes_arrive_the_same_is_shown(text in "[ab]{0,40}", cuts in prop::collection::vec(0usize..40, 0..6)) {
            let mask = mask(&["abab", "ababb", "bbbb"]);
            let whole = mask.text(&text);
            prop_assert!(["abab", "bbbb"].iter().all(|secret| !whole.contains(secret)));
            let mut filter = Filter::new(mask);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.sort_unstable();
            let (mut shown, mut from) = (Vec::new(), 0);
            for cut in cuts {
                shown.extend(filter.pass(Stream::Stdout, &text.as_bytes()[from..cut], false));
                from = cut;
            }
            shown.extend(filter.pass(Stream::Stdout, &text.as_bytes()[from..], true));
            prop_assert_eq!(String::from_utf8(shown).unwrap(), whole);
        }
    }
}
