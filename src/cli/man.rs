//! `orx man`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{Context, command, files, ui, view};
use crate::error::{Error, Result};

/// Print the manual page, or write all pages to a directory
#[derive(Args)]
#[command(after_help = "\
Examples:
  orx man | man -l -
  orx man ~/.local/share/man/man1")]
pub(super) struct Man {
    /// Write orx.1 and a page for each command here
    dir: Option<PathBuf>,
}

impl Man {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode> {
        let pages = pages()?;
        let Some(dir) = self.dir else {
            if let Some((_, page)) = pages.first() {
                view::raw(page)?;
            }
            return Ok(ExitCode::SUCCESS);
        };
        let cannot = |e: std::io::Error| Error::failed(format!("cannot write to {}", dir.display())).source(e);
        std::fs::create_dir_all(&dir).map_err(cannot)?;
        for (name, page) in &pages {
            files::write(&dir.join(name), page)?;
        }
        ui::say(context, &format!("{} pages in {}", pages.len(), dir.display()));
        Ok(ExitCode::SUCCESS)
    }
}

/// File names and pages, the main one first.
fn pages() -> Result<Vec<(String, Vec<u8>)>> {
    let mut all = vec![command()];
    let mut pages = Vec::new();
    while let Some(command) = all.pop() {
        let name = command.get_name().to_owned();
        let deeper = command.get_subcommands().filter(|c| !c.is_hide_set());
        let deeper: Vec<_> = deeper
            .map(|c| c.clone().name(format!("{name}-{}", c.get_name())).version(env!("CARGO_PKG_VERSION")))
            .collect();
        let mut page = Vec::new();
        // The date would change with every build.
        clap_mangen::Man::new(command).date("").manual("orx").render(&mut page)?;
        pages.push((format!("{name}.1"), page));
        all.extend(deeper.into_iter().rev());
    }
    Ok(pages)
}
