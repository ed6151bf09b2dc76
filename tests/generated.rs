//! What is checked in equals what the binary prints.

use std::path::{Path, PathBuf};
use std::process::Command;

const COMPLETIONS: [(&str, &str); 5] =
    [("bash", "orx.bash"), ("zsh", "_orx"), ("fish", "orx.fish"), ("elvish", "orx.elv"), ("powershell", "orx.ps1")];

fn place(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn orx(args: &[&str]) -> Vec<u8> {
    let out = Command::new(env!("CARGO_BIN_EXE_orx")).args(args).env_clear().env("HOME", "/nonexistent").output();
    let out = out.unwrap();
    assert!(out.status.success(), "orx {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    out.stdout
}

#[test]
fn completions_are_what_the_binary_prints() {
    for (shell, file) in COMPLETIONS {
        let kept = std::fs::read(place("completions").join(file)).unwrap_or_default();
        assert!(
            kept == orx(&["completions", shell]),
            "completions/{file} is out of date; make it again: cargo run -- completions {shell} > completions/{file}"
        );
    }
}

#[test]
fn manual_pages_are_what_the_binary_writes() {
    let dir = tempfile::tempdir().unwrap();
    orx(&["-q", "man", dir.path().to_str().unwrap()]);
    let pages = |dir: &Path| -> Vec<(String, Vec<u8>)> {
        let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        let mut pages: Vec<_> = entries
            .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(&path).unwrap()))
            .collect();
        pages.sort();
        pages
    };
    let (kept, made) = (pages(&place("man")), pages(dir.path()));
    let wrong = |a: &[(String, Vec<u8>)], b: &[(String, Vec<u8>)]| -> Vec<String> {
        a.iter().filter(|page| !b.contains(page)).map(|(name, _)| name.clone()).collect()
    };
    let mut stale = wrong(&made, &kept);
    stale.extend(wrong(&kept, &made));
    stale.sort();
    stale.dedup();
    assert!(
        stale.is_empty(),
        "{stale:?} in man/ are out of date; make them again: rm -f man/*.1; cargo run -- man man"
    );
}

#[test]
fn the_page_of_every_command_has_its_name() {
    for entry in std::fs::read_dir(place("man")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(&format!(".TH {name} 1")), "{} has another name inside", path.display());
    }
}
