//! The rhythm of a process: what it does now and then, it does all at the same moment.

use std::sync::OnceLock;
use std::time::Duration;

use tokio::time::Instant;

/// The last moment until `at` that is a whole number of `period`s after the first call; `at` itself where that has
/// passed.
///
/// So a process that has nothing to do wakes seldom, and what it writes then shares a commit.
pub(crate) fn on_beat(at: Instant, period: Duration) -> Instant {
    static FIRST: OnceLock<Instant> = OnceLock::new();
    let since = at.saturating_duration_since(*FIRST.get_or_init(Instant::now));
    let rest = since.as_nanos() % period.as_nanos().max(1);
    let beat = at - Duration::from_nanos(u64::try_from(rest).unwrap_or(0)); // no period is 584 years long
    if beat > Instant::now() { beat } else { at }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_has_one_period_comes_at_one_moment_and_never_late() {
        let second = Duration::from_secs(1);
        let (now, ahead) = (Instant::now(), Duration::from_secs(60));
        let beat = on_beat(now + ahead, second);
        assert!(beat <= now + ahead && beat > now + ahead - second);
        assert_eq!(on_beat(beat, second), beat, "a beat is one already");
        assert_eq!(on_beat(beat + second / 3, second), beat);
        assert_eq!(on_beat(beat + second, second), beat + second);
        assert_eq!(on_beat(now, second), now, "what has passed is not waited for");
        assert_eq!(on_beat(now + ahead, Duration::ZERO), now + ahead);
    }
}
