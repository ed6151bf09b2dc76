//! A process that keeps others from writing, as people are told of it.

use std::fmt;

/// The most that is shown of a command line, in characters.
const MAX_COMMAND: usize = 80;

/// A process of this machine that has the store to itself, so that nobody else can write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its id; none where it cannot be seen from here, as from within another container.
    pub pid: Option<u32>,
    /// Its command line.
    pub command: String,
    /// It is stopped: by a signal, Ctrl-Z or a debugger.
    pub stopped: bool,
}

impl Holder {
    /// What is known of the process `pid`.
    pub fn of(pid: Option<u32>) -> Self {
        let read = |file: &str| pid.and_then(|pid| std::fs::read(format!("/proc/{pid}/{file}")).ok());
        let words = read("cmdline").unwrap_or_default();
        let shown = |b: &u8| if b.is_ascii_control() { b' ' } else { *b };
        let words: Vec<u8> = words.iter().map(shown).collect();
        let command = String::from_utf8_lossy(words.trim_ascii()).chars().take(MAX_COMMAND).collect();
        // The name in parentheses may have any character.
        let stat = String::from_utf8_lossy(&read("stat").unwrap_or_default()).into_owned();
        let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
        Self { pid, command, stopped: matches!(state, Some('T' | 't')) }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(pid) = self.pid else { return f.write_str("a process that cannot be seen from here") };
        write!(f, "process {pid}")?;
        match self.command.as_str() {
            "" => Ok(()),
            command => write!(f, " ({command})"),
        }
    }
}
