//! Schema versions: which steps a store still needs, and whether this program may use it (S29).

use crate::error::{Error, Kind, Result};

/// The schema that this program writes.
pub(crate) const SCHEMA: u32 = 1;

/// A step of the schema.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Step {
    /// Its name.
    pub step: &'static str,
    /// Whether the store has it.
    pub applied: bool,
}

/// Which of a backend's steps a store of `version` has.
pub(super) fn steps(all: &[(&'static str, &str)], version: u32) -> Vec<Step> {
    let step = |(n, (step, _)): (usize, &(&'static str, &str))| Step { step, applied: n < version as usize };
    all.iter().enumerate().map(step).collect()
}

/// What to do with a store of some schema.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Use it as it is.
    Use,
    /// Run the steps from this version (exclusive) to [`SCHEMA`].
    MigrateFrom(u32),
}

/// Decides by the store's version and the oldest one that may use it.
///
/// # Errors
/// `Failed` when this program is too old for the store.
pub(crate) fn plan(version: u32, min_compatible: u32, location: &str) -> Result<Plan> {
    if version < SCHEMA {
        return Ok(Plan::MigrateFrom(version));
    }
    if SCHEMA < min_compatible {
        return Err(Error::new(
            Kind::Failed,
            format!("{location} has schema {version}, which needs an orx of schema {min_compatible} or newer; this is {SCHEMA}"),
        )
        .hint("install a newer orx"));
    }
    Ok(Plan::Use)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s29_only_a_store_that_excludes_us_is_refused() {
        assert_eq!(plan(0, 0, "x").unwrap(), Plan::MigrateFrom(0));
        assert_eq!(plan(SCHEMA, 1, "x").unwrap(), Plan::Use);
        assert_eq!(plan(SCHEMA + 5, SCHEMA, "x").unwrap(), Plan::Use);
        assert!(plan(SCHEMA + 5, SCHEMA + 1, "x").is_err());
    }
}
