//! What workers may say: it is stored, is part of each answer about them, and people see it on their terminals.

use std::borrow::Cow;
use std::time::Duration;

use crate::error::{Error, Kind, Result};
use crate::job::names;
use crate::job::output::Chunk;
use crate::job::spec::{MAX_WORD, word};
use crate::job::state::Ending;
use crate::store::{NewWorker, Tx};
use crate::time::Span;

/// The most jobs that a worker runs at once.
pub const MAX_SLOTS: u32 = 4096;
/// The most workers of a store.
const MAX_WORKERS: usize = 10_000;
/// How long a lease or a heartbeat may last.
const MAX_TTL: Span = Span::from_secs(7 * 86_400);
/// The longest word about what a worker lacks, in bytes.
const MAX_TROUBLE: usize = 1000;
/// The longest error that is kept of an attempt, in bytes.
const MAX_ERROR: usize = 4096;
/// The most output of one call, in bytes.
const MAX_OUTPUT: usize = 8 * 1024 * 1024;
/// When there may be fewer workers: those that are gone are forgotten.
const CROWDED: Duration = Duration::from_secs(30);

/// Refuses a worker that is not what workers are.
pub(super) fn worker(worker: &NewWorker, tx: &mut dyn Tx) -> Result<()> {
    let within = |e: Error| e.within("worker");
    name(&worker.name).map_err(within)?;
    names::process("machine", &worker.host, MAX_WORD).map_err(|e| e.field("host")).map_err(within)?;
    word("version", Some(&worker.version)).map_err(within)?;
    worker.offer.check().map_err(|e| e.within("worker.offer"))?;
    slots(worker.slots).map_err(within)?;
    match tx.count_workers()? >= MAX_WORKERS {
        true => Err(Error::new(Kind::Limit, format!("there are {MAX_WORKERS} workers already")).retry_after(CROWDED)),
        false => Ok(()),
    }
}

/// Refuses what no worker is called. That of a guest has the name of its node in it.
pub(super) fn name(name: &str) -> Result<()> {
    names::process("worker", name, MAX_WORD)
}

/// Refuses more slots than a worker may have.
pub(super) fn slots(slots: u32) -> Result<()> {
    match slots > MAX_SLOTS {
        true => Err(Error::usage(format!("slots are more than {MAX_SLOTS}")).field("slots")),
        false => Ok(()),
    }
}

/// Refuses a lease that hardly ends.
pub(super) fn ttl(ttl: Span) -> Result<()> {
    match ttl > MAX_TTL {
        true => Err(Error::usage("ttl is longer than a week").field("ttl")),
        false => Ok(()),
    }
}

/// Refuses more output than a worker sends at once.
pub(super) fn output(chunks: &[Chunk]) -> Result<()> {
    let size: usize = chunks.iter().map(|chunk| chunk.bytes.len()).sum();
    match size > MAX_OUTPUT {
        true => Err(Error::usage(format!("output is more than {MAX_OUTPUT} bytes at once"))),
        false => Ok(()),
    }
}

/// What a worker lacks, as it is kept.
pub(super) fn trouble(said: &str) -> String {
    cut(said, MAX_TROUBLE).chars().filter(|c| !c.is_control()).collect()
}

/// The end of an attempt, with no longer an error than is kept.
pub(super) fn ending(given: &Ending) -> Cow<'_, Ending> {
    match &given.error {
        Some(error) if error.len() > MAX_ERROR || error.contains('\0') => {
            let error = cut(error, MAX_ERROR).replace('\0', "");
            Cow::Owned(Ending { error: Some(error), ..given.clone() })
        }
        _ => Cow::Borrowed(given),
    }
}

/// The beginning of a text.
fn cut(text: &str, longest: usize) -> &str {
    let end = (0..=longest.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or_default()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_is_cut_and_what_no_store_can_hold_is_left_out() {
        let of = |error: &str| Ending::lost(error);
        assert!(matches!(ending(&of("exit 1\u{1b}[0m")), Cow::Borrowed(_)));
        assert_eq!(ending(&of("a\0b")).error.as_deref(), Some("ab"));
        let long = ending(&of(&"ä".repeat(MAX_ERROR))).error.clone().unwrap();
        assert!(long.len() <= MAX_ERROR && long.ends_with('ä'));
        assert_eq!(trouble("no\0 pipes\u{1b}[2J"), "no pipes[2J");
        assert_eq!(trouble(&"x".repeat(5000)).len(), MAX_TROUBLE);
    }
}
