//! Cluster keys: made once, readable for one, rotated without a gap.

use std::os::unix::fs::PermissionsExt as _;

use super::support::*;

/// The keys in a file.
fn keys(orx: &Orx, file: &str) -> Vec<String> {
    orx.read(file).lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

#[test]
fn a_key_is_made_once_and_for_its_owner_alone() {
    let orx = Orx::new();
    let file = orx.path("cluster.key");
    let named = file.to_str().unwrap();
    orx.run(&["cluster", "key", named]).expect(0, &["key ", " is in "]);
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let made = keys(&orx, "cluster.key");
    assert!(made.len() == 1 && made[0].len() == 64);
    let again = orx.run(&["cluster", "key", named]);
    again.expect(5, &["exists", "orx cluster rotate"]);
    assert_eq!(keys(&orx, "cluster.key"), made);
    assert!(!again.stderr().contains(&made[0]));
    orx.run(&["cluster", "key"]).expect(0, &[".config/orx/cluster.key"]);
    assert_ne!(keys(&orx, ".config/orx/cluster.key"), made);
}

#[test]
fn a_rotation_puts_a_new_key_first_and_the_second_drops_the_oldest() {
    let orx = Orx::new();
    let file = orx.path("cluster.key");
    let named = file.to_str().unwrap();
    orx.ok(&["cluster", "key", named]);
    let first = keys(&orx, "cluster.key");
    orx.run(&["cluster", "rotate", named]).expect(0, &["is the first in", "stays good"]);
    let second = keys(&orx, "cluster.key");
    assert!(second.len() == 2 && second[1] == first[0]);
    orx.run(&["cluster", "rotate", named]).expect(0, &["is good no more"]);
    let third = keys(&orx, "cluster.key");
    assert!(third.len() == 2 && third[1] == second[0] && third[0] != first[0]);
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn what_is_no_key_file_is_not_rotated() {
    let orx = Orx::new();
    let missing = orx.path("none");
    orx.run(&["cluster", "rotate", missing.to_str().unwrap()]).expect(3, &["cannot read"]);
    let other = orx.write("other", "secret\n");
    std::fs::set_permissions(&other, std::fs::Permissions::from_mode(0o600)).unwrap();
    orx.run(&["cluster", "rotate", &other]).expect(2, &["line 1 is not a cluster key"]);
    assert_eq!(orx.read("other"), "secret\n");
    std::fs::set_permissions(&other, std::fs::Permissions::from_mode(0o644)).unwrap();
    orx.run(&["cluster", "rotate", &other]).expect(4, &["others can read", "chmod 600"]);
}
