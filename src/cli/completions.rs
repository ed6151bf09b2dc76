//! `orx completions`, and the answers to a shell that completes.

use std::process::ExitCode;

use clap::Args;
use clap_complete::CompleteEnv;
use clap_complete::env::Shells;

use super::{Context, command, view};
use crate::error::{Error, Result};

/// The variable by which a shell asks.
const VARIABLE: &str = "COMPLETE";

#[derive(Args)]
#[command(after_help = "\
Examples:
  orx completions bash > ~/.local/share/bash-completion/completions/orx
  orx completions zsh  > ~/.zfunc/_orx
  orx completions fish > ~/.config/fish/completions/orx.fish")]
pub(super) struct Completions {
    /// The shell
    #[arg(value_parser = ["bash", "zsh", "fish", "elvish", "powershell"])]
    shell: String,
}

impl Completions {
    pub(super) fn run(self, _context: &Context) -> Result<ExitCode> {
        let shells = Shells::builtins();
        let shell =
            shells.completer(&self.shell).ok_or_else(|| Error::usage(format!("no completion for {}", self.shell)))?;
        let mut script = Vec::new();
        shell.write_registration(VARIABLE, "orx", "orx", "orx", &mut script)?;
        view::raw(&script)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Answers and ends when a shell asks; does nothing otherwise.
pub(super) fn complete_and_exit() {
    if std::env::var_os(VARIABLE).is_some() {
        CompleteEnv::with_factory(command).var(VARIABLE).bin("orx").complete();
    }
}

/// The store in the words typed so far: what is completed must come from the store that is meant.
pub(super) fn typed_store() -> Option<String> {
    let words: Vec<String> = std::env::args().collect();
    let after = words.iter().zip(words.iter().skip(1)).find(|(word, _)| *word == "--store");
    let joined = words.iter().find_map(|word| word.strip_prefix("--store="));
    after.map(|(_, value)| value.clone()).or(joined.map(str::to_owned))
}
