//! A volume in which somebody exchanges a directory and a link while others mount into it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde_json::json;

use super::Canary;
use crate::support::Case;

/// How many runs, unless `RUNP_TEST_SWAPS` says.
const RUNS: usize = 1_000;

/// Exchanges the two until told to stop.
fn exchange(one: &Path, other: &Path, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
    }
}

/// CVE-2021-30465, CVE-2024-45310: mount points are made on the host, at the end of the link.
#[test]
fn no_mount_point_is_made_outside_the_root() {
    let Some(case) = Case::new(&[]) else { return };
    let canary = Canary::new(&case);
    let volume = case.dir().join("volume");
    fs::create_dir_all(volume.join("a")).unwrap();
    symlink(&canary.path, volume.join("b")).unwrap();
    let (a, b) = (volume.join("a"), volume.join("b"));
    let bundles: Vec<_> = (0..2)
        .map(|worker| {
            let c = case.bundle(&format!("c{worker}")).args(&["/bin/true"]);
            let bind = |destination: &str| {
                json!({"destination": destination, "source": volume, "type": "bind", "options": ["bind"]})
            };
            let tmpfs = |n: usize| {
                json!({"destination": format!("/vol/a/m{n}-{worker}/x"), "type": "tmpfs", "source": "tmpfs"})
            };
            let c = c.push("/mounts", bind("/vol"));
            (0..3).fold(c, |c, n| c.push("/mounts", tmpfs(n)))
        })
        .collect();
    let runs = std::env::var("RUNP_TEST_SWAPS").map_or(RUNS, |n| n.parse().unwrap());
    let (stop, done, succeeded) = (
        AtomicBool::new(false),
        AtomicUsize::new(0),
        AtomicUsize::new(0),
    );
    std::thread::scope(|scope| {
        scope.spawn(|| exchange(&a, &b, &stop));
        let workers: Vec<_> = bundles
            .iter()
            .map(|c| {
                let (done, succeeded, a) = (&done, &succeeded, &a);
                let args = ["run", "--bundle", c.path.to_str().unwrap(), &c.id].map(str::to_owned);
                let case = &case;
                scope.spawn(move || {
                    while done.fetch_add(1, Ordering::Relaxed) < runs {
                        let ran = case.run(&args);
                        succeeded.fetch_add(usize::from(ran.status.success()), Ordering::Relaxed);
                        // So that they are made again.
                        let _ = fs::remove_dir_all(a.join("m0-0"));
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.join().unwrap();
        }
        canary.is_untouched("the runs");
        // The control: whoever goes by name hits it.
        for n in 0..100_000 {
            if canary.contents() != canary.before {
                break;
            }
            let _ = fs::create_dir_all(a.join(format!("control-{n}")));
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_ne!(canary.contents(), canary.before, "nothing was exchanged");
    assert!(succeeded.into_inner() > runs / 20, "hardly any run got far");
}
