//! Whose a store is: nobody runs the jobs of somebody else unawares, and root leaves nothing of its own at a user's.

use std::os::unix::fs::{MetadataExt as _, chown, symlink};
use std::path::PathBuf;

use super::support::*;

/// Somebody else than nobody.
const OTHER: u32 = 61_234;
const REFUSED: &str = "the jobs of this store are not run: ";

/// All that runs jobs, at a place.
fn runs(store: &str) -> [Vec<&str>; 3] {
    let at = |words: &[&'static str]| [&["--store", store][..], words].concat();
    [
        at(&["run", "--", "true"]),
        at(&["worker", "--burst"]),
        at(&["coordinator", "--slots", "1", "--listen", "127.0.0.1:0"]),
    ]
}

/// The files of the store of this home, and what lies in its directories.
fn files(orx: &Orx) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![orx.store().parent().unwrap().to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap()) {
            found.push(entry.path());
            if entry.file_type().unwrap().is_dir() {
                dirs.push(entry.path());
            }
        }
    }
    found
}

#[test]
fn s37_the_jobs_of_another_users_store_are_not_run() {
    let Some(orx) = home_of(NOBODY) else { return };
    as_owner(&orx, &["-q", "enqueue", "--", "touch", "ran"]).run().expect(0, &[]);
    let store = orx.store().to_str().unwrap().to_owned();
    let before = files(&orx).len();
    let said = format!("{REFUSED}{store} belongs to user {NOBODY}");
    for (args, code) in runs(&store).into_iter().zip([125, 4, 4]) {
        orx.run(&args).expect(code, &[&said, "hint: they would run as you", "--allow-foreign-store"]);
    }
    assert_eq!(files(&orx).len(), before, "who is refused leaves nothing: {:?}", files(&orx));
    // Another user, though the modes would let it.
    mode(&orx.store(), 0o666);
    for dir in [".local", ".local/share", ".local/share/orx"] {
        mode(&orx.path(dir), 0o755);
    }
    as_user(&orx, OTHER, &["--store", &store, "worker", "--burst"]).run().expect(4, &[&said]);
    assert!(!orx.path("ran").exists(), "a job ran that was not to");
    mode(&orx.store(), 0o600);
    // All else goes on, and its owner is not hindered.
    for args in [&["list"][..], &["status", "1"], &["why", "1"], &["events"], &["db", "check"]] {
        orx.run(args).expect(0, &[]);
    }
    orx.run(&["-q", "enqueue", "--", "true"]).expect(0, &[]);
    as_owner(&orx, &["-q", "worker", "--burst"]).run().expect(0, &[]);
    assert_eq!(orx.states(), "done done");
}

#[test]
fn s37_where_it_is_meant_the_jobs_of_another_users_store_are_run() {
    let Some(orx) = home_of(NOBODY) else { return };
    as_owner(&orx, &["-q", "enqueue", "--", "true"]).run().expect(0, &[]);
    orx.run(&["-q", "worker", "--burst", "--allow-foreign-store"]).expect(0, &[]);
    orx.run(&["-q", "run", "--allow-foreign-store", "--", "true"]).expect(0, &[]);
    let config = orx.write("config.toml", "[worker]\nallow_foreign_store = true\n");
    orx.run(&["-q", "--config", &config, "run", "--", "true"]).expect(0, &[]);
    assert_eq!(orx.states(), "done done done");
    // Without slots it runs nothing.
    let coordinator = orx.spawn(&["coordinator", "--listen", "127.0.0.1:0"]);
    coordinator.wait_stderr(" ready ");
    coordinator.stop().expect(0, &[]);
    for file in files(&orx) {
        let meta = file.symlink_metadata().unwrap();
        assert_eq!((meta.uid(), meta.gid()), (NOBODY, NOBODY), "{}", file.display());
    }
    as_owner(&orx, &["-q", "run", "--", "true"]).run().expect(0, &[]);
}

#[test]
fn s37_a_store_that_others_may_write_to_is_not_trusted() {
    let orx = Orx::file();
    orx.ok(&["-q", "run", "--", "sh", "-c", "head -c 100000 /dev/zero"]);
    let (store, output) = (orx.store(), format!("{}-output", orx.store().display()));
    let dir = store.parent().unwrap();
    let refused = |fault: &str| {
        orx.run(&["worker", "--burst"]).expect(4, &[REFUSED, fault]);
        orx.run(&["run", "--", "true"]).expect(125, &[REFUSED, fault]);
        orx.ok(&["list"]);
    };
    mode(&store, 0o602);
    refused("orx.db may be written by everybody");
    mode(&store, 0o600);
    mode(output.as_ref(), 0o666);
    refused("orx.db-output may be written by everybody");
    // SQLite gave what lies beside it the same mode; who read it last may have left that.
    for ending in ["", "-wal", "-shm"] {
        let path = format!("{output}{ending}");
        if std::fs::exists(&path).unwrap() {
            mode(path.as_ref(), 0o600);
        }
    }
    mode(dir, 0o777);
    refused("orx may be changed by everybody");
    mode(dir, 0o1777);
    orx.burst();
    mode(dir, 0o770);
    orx.burst();
    // A place that is reached by a link is looked at where it is.
    let link = orx.path("link.db");
    symlink(&store, &link).unwrap();
    let link = link.to_str().unwrap();
    orx.ok(&["-q", "--store", link, "worker", "--burst"]);
    mode(&store, 0o602);
    orx.run(&["--store", link, "worker", "--burst"]).expect(4, &["orx.db may be written by everybody"]);
}

#[test]
fn s37_the_owner_of_the_directory_is_not_asked_for() {
    let Some(orx) = home_of(NOBODY) else { return };
    let store = orx.path("q.db");
    let store = store.to_str().unwrap();
    orx.ok(&["-q", "--store", store, "run", "--", "true"]);
    // Somebody who put the file for output there before.
    let other = orx.write("p.db-output", "");
    chown(&other, Some(OTHER), None).unwrap();
    let place = orx.path("p.db");
    let refused = orx.run(&["--store", place.to_str().unwrap(), "worker", "--burst"]);
    refused.expect(4, &[&format!("p.db-output belongs to user {OTHER}")]);
    assert!(!place.exists());
}

#[test]
fn s37_what_root_makes_beside_a_users_store_is_the_users() {
    let Some(orx) = home_of(NOBODY) else { return };
    as_owner(&orx, &["-q", "enqueue", "--", "true"]).run().expect(0, &[]);
    for args in
        [&["list"][..], &["-q", "cancel", "1"], &["db", "check"], &["db", "prune", "--older-than", "0s", "--yes"]]
    {
        orx.run(args).expect(0, &[]);
    }
    let all = files(&orx);
    let names: Vec<String> = all.iter().map(|file| file.file_name().unwrap().to_string_lossy().into_owned()).collect();
    for made in ["orx.db-output", "orx.db-line"] {
        assert!(names.iter().any(|name| name == made), "{made} is missing: {names:?}");
    }
    for file in &all {
        assert_eq!(file.symlink_metadata().unwrap().uid(), NOBODY, "{}", file.display());
    }
    let large = ["run", "--", "sh", "-c", "head -c 300000 /dev/zero | tr '\\0' x"];
    let out = as_owner(&orx, &large).run();
    assert_eq!((out.code, out.stdout.len()), (Some(0), 300_000), "{}", out.stderr());
    let copy = orx.path("copy.db");
    let copy = copy.to_str().unwrap();
    orx.ok(&["db", "backup", copy]);
    orx.ok(&["db", "restore", "--replace", copy]);
    assert_eq!(orx.store().metadata().unwrap().uid(), NOBODY, "what takes the place of a user's store is the user's");
    as_owner(&orx, &["-q", "enqueue", "--", "true"]).run().expect(0, &[]);
}

#[test]
fn s37_root_follows_no_link_beside_a_users_store() {
    let Some(orx) = home_of(NOBODY) else { return };
    as_owner(&orx, &["-q", "enqueue", "--", "true"]).run().expect(0, &[]);
    let victim = orx.write("victim", "precious");
    let meta = || std::fs::metadata(&victim).unwrap();
    let (mode, elsewhere) = (meta().mode(), orx.path("elsewhere"));
    std::fs::create_dir(&elsewhere).unwrap();
    let beside = |ending: &str| PathBuf::from(format!("{}-{ending}", orx.store().display()));
    let put = |ending: &str, make: &dyn Fn(PathBuf)| {
        let _ = std::fs::remove_file(beside(ending)).or_else(|_| std::fs::remove_dir_all(beside(ending))); // none, perhaps
        make(beside(ending));
    };
    let files = ["ballast", "output", "line", "next", "leader"];
    let prune = || orx.run(&["db", "prune", "--older-than", "0s", "--yes"]);
    files.iter().for_each(|file| put(file, &|place| symlink(&victim, place).unwrap()));
    ["wake", "workers", "coordinators"].iter().for_each(|dir| put(dir, &|place| symlink(&elsewhere, place).unwrap()));
    orx.run(&["-q", "enqueue", "--", "true"]).expect(0, &[]);
    prune().expect(6, &["orx.db-output", "it is a symbolic link"]);
    orx.run(&["coordinator", "--listen", "127.0.0.1:0"]).expect(6, &["cannot lock", "Not a directory"]);
    // A file that has another name too is nothing else.
    files.iter().for_each(|file| put(file, &|place| std::fs::hard_link(&victim, place).unwrap()));
    orx.run(&["-q", "enqueue", "--", "true"]).expect(0, &[]);
    prune().expect(6, &["hard link"]);
    assert_eq!(orx.read("victim"), "precious");
    assert_eq!((meta().uid(), meta().mode()), (0, mode), "it was given away");
    assert_eq!(std::fs::read_dir(&elsewhere).unwrap().count(), 0);
}
