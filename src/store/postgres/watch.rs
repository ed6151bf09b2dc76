//! The server's clock, compared with the boot clock of this machine (S1).

use crate::time::{BootTime, Timestamp};

/// A difference in progress that is no doubt a jump, in milliseconds.
const JUMP: i64 = 1000;
/// For how long after a jump the age of a leader says nothing: until a living one has been heard of again.
const DOUBT: i64 = 20_000;
/// A reading that took longer tells no time.
const PRECISE: i64 = 500;

/// When a transaction began, by the boot clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    /// The boot clock; its id is empty when the reading is not precise enough to compare with.
    pub(super) boot: BootTime,
    /// The server's clock jumped a short while ago.
    pub(super) doubt: bool,
}

/// What this process knows of the server's clock.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// The server's clock and ours, read at one moment.
    last: Option<(i64, i64)>,
    doubt_until: i64,
}

impl Watch {
    /// Notes a reading of the server's clock that was made between two readings of ours.
    pub(super) fn note(&mut self, before: &BootTime, server: Timestamp, after: BootTime) -> Moment {
        let precise = after.ms - before.ms <= PRECISE;
        if precise {
            if let Some((last_server, last_boot)) = self.last
                && ((server.0 - last_server) - (after.ms - last_boot)).abs() > JUMP
            {
                self.doubt_until = after.ms + DOUBT;
            }
            self.last = Some((server.0, after.ms));
        }
        let doubt = after.ms < self.doubt_until;
        let boot = if precise { after } else { BootTime { boot: String::new(), ms: 0 } };
        Moment { boot, doubt }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> BootTime {
        BootTime { boot: "b".into(), ms }
    }

    #[test]
    fn s1_a_jump_puts_the_leaders_age_in_doubt_for_a_while() {
        let mut watch = Watch::default();
        assert!(!watch.note(&at(0), Timestamp(1_000_000), at(1)).doubt);
        assert!(!watch.note(&at(5000), Timestamp(1_005_000), at(5001)).doubt);
        assert!(watch.note(&at(6000), Timestamp(90_000_000), at(6001)).doubt);
        assert!(watch.note(&at(20_000), Timestamp(90_014_000), at(20_001)).doubt);
        assert!(!watch.note(&at(27_000), Timestamp(90_021_000), at(27_001)).doubt);
    }

    #[test]
    fn a_slow_answer_tells_no_time() {
        let mut watch = Watch::default();
        watch.note(&at(0), Timestamp(1_000_000), at(1));
        let slow = watch.note(&at(5000), Timestamp(1_005_000), at(9000));
        assert!(!slow.doubt && slow.boot.boot.is_empty());
    }
}
