//! What was taken from the surroundings of whoever submits a job.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ids::JobId;
use super::spec::MAX_ARGS;
use crate::error::{Error, Result};

/// What was taken from the caller's surroundings; not part of what an idempotency key compares (S13, S34).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Captured {
    /// Variables of the caller; empty: the worker's own are used.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// The caller's directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// W3C `traceparent` of the caller.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
}

/// The longest `traceparent` that is kept, in bytes; that of version 00 has 55.
const MAX_TRACE: usize = 128;

impl Captured {
    /// Nothing but the caller's `traceparent`; what is none is as good as none, says the W3C.
    pub fn of_trace(given: Option<&str>) -> Self {
        let trace = given.map(str::trim).filter(|text| traceparent(text).is_some()).map(str::to_owned);
        Self { trace, ..Self::default() }
    }

    /// Whether a program can be given it.
    ///
    /// # Errors
    /// `Usage`
    pub fn check(&self) -> Result<()> {
        let texts = || self.env.iter().flat_map(|(name, value)| [name, value]).chain(&self.cwd);
        match () {
            () if texts().map(String::len).sum::<usize>() > MAX_ARGS => {
                Err(Error::usage("the captured environment is larger than 1 MiB"))
            }
            () if texts().any(|text| text.contains('\0')) => {
                Err(Error::usage("the captured environment contains a NUL character"))
            }
            () if self.trace.as_ref().is_some_and(|trace| trace.len() > MAX_TRACE) => {
                Err(Error::usage(format!("the traceparent is longer than {MAX_TRACE} bytes")))
            }
            () => Ok(()),
        }
    }

    /// Whether it decides how a program runs.
    pub fn has_surroundings(&self) -> bool {
        !self.env.is_empty() || self.cwd.is_some()
    }

    /// The id of the caller's trace, else the job's own id.
    pub fn trace_id(&self, job: JobId) -> String {
        self.traceparent().map_or_else(|| job.0.simple().to_string(), |(id, _)| id.to_owned())
    }

    /// The flags of the caller's trace, else that of a trace that is recorded.
    pub fn trace_flags(&self) -> &str {
        self.traceparent().map_or("01", |(_, flags)| flags)
    }

    fn traceparent(&self) -> Option<(&str, &str)> {
        self.trace.as_deref().and_then(traceparent)
    }
}

/// The trace id and the flags of a W3C `traceparent` (version-trace-parent-flags); nothing of what is none.
fn traceparent(text: &str) -> Option<(&str, &str)> {
    let hex = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let id = |part: &str, length: usize| hex(part, length) && part.bytes().any(|b| b != b'0');
    let mut parts = text.split('-');
    let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    // Later versions may say more after it.
    let fits = hex(version, 2) && version != "ff" && (version != "00" || parts.next().is_none());
    (fits && text.len() <= MAX_TRACE && id(trace, 32) && id(parent, 16) && hex(flags, 2)).then_some((trace, flags))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const PARENT: &str = "b7ad6b7169203331";

    #[test]
    fn a_trace_of_the_caller_goes_on_and_what_is_none_does_not() {
        let job = JobId(uuid::Uuid::from_u128(7));
        let of = |text: &str| Captured::of_trace(Some(text));
        let good = of(&format!("00-{TRACE}-{PARENT}-00"));
        assert_eq!((good.trace_id(job).as_str(), good.trace_flags()), (TRACE, "00"));
        assert_eq!(of(&format!("01-{TRACE}-{PARENT}-01-more")).trace_id(job), TRACE);
        for bad in [
            String::new(),
            TRACE.into(),
            format!("00-{TRACE}-{PARENT}"),
            format!("00-{TRACE}-{PARENT}-01-more"),
            format!("ff-{TRACE}-{PARENT}-01"),
            format!("00-{}-{PARENT}-01", TRACE.to_uppercase()),
            format!("00-{}-{PARENT}-01", "0".repeat(32)),
            format!("00-{TRACE}-{}-01", "0".repeat(16)),
            format!("00-{TRACE}-{PARENT}-0\n"),
            format!("01-{TRACE}-{PARENT}-01-{}", "x".repeat(500)),
        ] {
            let captured = of(&bad);
            assert_eq!(captured, Captured::default(), "{bad:?}");
            assert_eq!((captured.trace_id(job).len(), captured.trace_flags()), (32, "01"));
        }
        let wrong = Captured { trace: Some("x".repeat(500)), ..Captured::default() };
        assert!(wrong.check().is_err() && good.check().is_ok());
        assert!(Captured { cwd: Some("a\0b".into()), ..Captured::default() }.check().is_err());
    }
}
