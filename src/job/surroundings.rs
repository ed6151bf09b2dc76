//! What a job was given of directory and environment, as it may be shown.

use std::collections::BTreeMap;

use super::Record;
use super::secrets::secret_name;

/// What is shown instead of a value that may be secret.
const HIDDEN: &str = "(hidden)";
/// What the name of a variable contains whose value is nobody's business.
const SECRET: [&str; 6] = ["TOKEN", "SECRET", "PASS", "KEY", "AUTH", "CREDENTIAL"];

/// Its directory, where it does not get the worker's.
pub fn directory(job: &Record) -> Option<String> {
    job.spec.cwd.as_ref().or(job.captured.cwd.as_ref()).cloned()
}

/// The variables that it was given; values that may be secret are hidden.
pub fn environment(job: &Record) -> BTreeMap<String, String> {
    let given = job.captured.env.iter().chain(&job.spec.env);
    let given = given.map(|(name, value)| (name.clone(), shown(name, value)));
    let files = job.spec.env_from_file.iter().map(|(name, path)| (name.clone(), format!("(from {path})")));
    given.chain(files).collect()
}

fn shown(name: &str, value: &str) -> String {
    let name = name.to_ascii_uppercase();
    let has_password = || {
        let login = value.split_once("://").and_then(|(_, rest)| rest.split('/').next()?.rsplit_once('@'));
        login.is_some_and(|(login, _)| login.contains(':'))
    };
    match () {
        () if secret_name(value).is_some() => value.to_owned(), // a reference tells nothing
        () if SECRET.iter().any(|part| name.contains(part)) || has_password() => HIDDEN.to_owned(),
        () => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_by_their_name_or_their_form() {
        for (name, value, hidden) in [
            ("PATH", "/usr/bin", false),
            ("Api_Token", "x", true),
            ("PGPASSWORD", "x", true),
            ("PGPASSWORD", "secret://db", false),
            ("URL", "https://example.com/a:b@c", false),
            ("URL", "postgres://u:p@db/x", true),
            ("URL", "postgres://u@db/x", false),
        ] {
            assert_eq!(shown(name, value) == HIDDEN, hidden, "{name}={value}");
        }
    }
}
