//! A coordinator that can write nothing is not ready.

use super::support::*;
use crate::crash::full_disk::Disk;

#[test]
fn a_coordinator_is_not_ready_while_nothing_can_be_written() {
    let mut orx = Orx::file();
    let disk = match Disk::mount(orx.store().parent().unwrap().to_owned(), "size=12m") {
        Ok(disk) => disk,
        Err(why) => return println!("skipped: this needs a file system of its own: {why}"),
    };
    orx.serve();
    let ready = || request(&orx, None, "GET /readyz", &[], "");
    eventually("it to be ready", || ready().status == 200);
    let fill = disk.fill();
    eventually("it to be not ready", || {
        // What is there already has room for a few.
        orx.run(&["enqueue", "--env", &format!("W={}", "x".repeat(100_000)), "--", "true"]);
        ready().status == 503
    });
    assert!(ready().body.contains("nothing can be written"), "{:?}", ready());
    std::fs::remove_file(fill).unwrap();
    eventually("it to be ready again", || ready().status == 200);
}
