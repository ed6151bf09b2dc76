//! Whether what is stored as text can be read: `orx db check` looks at every row.
//!
//! A statement gives rows of a key that rises, the name of the row, and its texts. What a newer orx wrote is sound.

use crate::job::reading::{self, Texts};
use crate::job::{JsonText, Unread};

/// What of the texts of a row cannot be read; none: all can.
pub(super) type Look = fn(&[Option<&[u8]>]) -> Option<String>;

/// How many rows of a kind are told of.
pub(super) const TOLD: usize = 20;

/// Those of a job: what was asked for, what surrounded it, where it comes from.
pub(super) fn job(texts: &[Option<&[u8]>]) -> Option<String> {
    let text = |at: usize| texts.get(at).copied().flatten();
    broken(Texts::read(text(0), text(1), text(2)).unread)
}

/// Those of a run: the workflow, and what surrounded whoever submitted it.
pub(super) fn run(texts: &[Option<&[u8]>]) -> Option<String> {
    let text = |at: usize| texts.get(at).copied().flatten().unwrap_or_default();
    broken(reading::run(text(0), text(1)).2)
}

/// The definition of a schedule.
pub(super) fn definition(texts: &[Option<&[u8]>]) -> Option<String> {
    texts.iter().find_map(|text| broken(reading::definition(text.unwrap_or_default()).1))
}

/// Whatever is JSON.
pub(super) fn json(texts: &[Option<&[u8]>]) -> Option<String> {
    let flaw = |text: &[u8]| serde_json::from_slice::<JsonText>(text).err().map(|e| e.to_string());
    texts.iter().flatten().find_map(|text| flaw(text))
}

fn broken(unread: Option<Unread>) -> Option<String> {
    unread.filter(Unread::is_unreadable).map(|unread| unread.what)
}
