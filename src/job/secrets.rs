//! What a job's environment refers to: secrets and files that only its worker reads.

use super::JobSpec;
use super::spec::{MAX_NAME, field_error};
use crate::error::Result;

impl JobSpec {
    /// Whether its worker has to read secrets for it, or files.
    pub fn has_secrets(&self) -> bool {
        !self.env_from_file.is_empty() || self.env.values().any(|value| secret_name(value).is_some())
    }

    /// Refuses variables that cannot be, and references that lead nowhere.
    pub(super) fn check_env(&self) -> Result<()> {
        if let Some(key) = self.env.keys().find(|k| k.is_empty() || k.contains(['=', '\0'])) {
            return Err(field_error("env", format!("has an impossible name {key:?}")));
        }
        for name in self.env.values().filter_map(|value| secret_name(value)) {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if name.is_empty() || name.len() > MAX_NAME || name.starts_with('.') || !name.chars().all(plain) {
                return Err(field_error("env", format!("names an impossible secret {name:?}"))
                    .hint("a secret is a file's name: letters, digits and - _ ."));
            }
        }
        for (variable, path) in &self.env_from_file {
            if variable.is_empty() || variable.contains(['=', '\0']) || self.env.contains_key(variable) {
                return Err(field_error(
                    "env_from_file",
                    format!("has an impossible name {variable:?}, or one of env"),
                ));
            }
            if !path.starts_with('/') || path.contains('\0') {
                return Err(field_error("env_from_file", format!("{variable}: {path:?} is no absolute path")));
            }
        }
        Ok(())
    }
}

/// The secret that the value of a variable refers to: `secret://NAME`.
pub fn secret_name(value: &str) -> Option<&str> {
    value.strip_prefix("secret://")
}
