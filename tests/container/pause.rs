//! pause and resume, by runp and by others.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::{Bundle, Case, Need, eventually, process};

/// A container that counts into /tmp/count.
fn counter<'a>(case: &'a Case, name: &str) -> Bundle<'a> {
    case.bundle(name)
        .with("/root/readonly", json!(false))
        .sh("n=0; while :; do n=$((n+1)); echo $n > /tmp/new; mv /tmp/new /tmp/count; done")
}

fn count(c: &Bundle<'_>) -> u64 {
    fs::read_to_string(c.rootfs().join("tmp/count"))
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0)
}

fn assert_counts(c: &Bundle<'_>) {
    let before = count(c);
    eventually("it counts on", || (count(c) > before).then_some(()));
}

#[test]
fn a_paused_container_stands_still_until_it_is_resumed() {
    let Some(case) = Case::new(&[Need::Freezer]) else {
        return;
    };
    let c = counter(&case, "c");
    c.run_detached().ok();
    assert_counts(&c);
    case.run(["pause", &c.id]).ok();
    let before = count(&c);
    assert_eq!(c.status(), "paused");
    let list: Value = serde_json::from_str(&case.run(["list", "-f", "json"]).ok().stdout).unwrap();
    assert_eq!(list[0]["status"], "paused");
    case.run(["pause", &c.id]).fails_saying(&["it is paused"]);
    assert_eq!(count(&c), before);
    c.exec(&[], &["true"]).fails_saying(&["--ignore-paused"]);
    case.run(["resume", &c.id]).ok();
    assert_eq!(c.status(), "running");
    assert_counts(&c);
    case.run(["resume", &c.id]).fails_saying(&["not paused"]);
    c.exec(&[], &["true"]).ok();
}

#[test]
fn exec_in_a_paused_container_waits_if_it_is_asked_to() {
    let Some(case) = Case::new(&[Need::Freezer]) else {
        return;
    };
    let c = counter(&case, "c");
    c.run_detached().ok();
    assert_counts(&c);
    case.run(["pause", &c.id]).ok();
    // On a hybrid machine one of the two freezes.
    let pid = c.pid();
    let members = || -> BTreeSet<String> {
        let of = |dir: PathBuf| fs::read_to_string(dir.join("cgroup.procs")).unwrap();
        let v2 = process::cgroup_in_v2(pid).map(of).unwrap_or_default();
        let all = of(process::cgroup(pid, "freezer")) + &v2;
        all.lines().map(str::to_owned).collect()
    };
    let before = members();
    let mut exec = case.runtime();
    exec.args(["exec", "--ignore-paused", &c.id, "true"]);
    let mut exec = exec.spawn().unwrap();
    eventually("the exec is in the container", || {
        (members() != before).then_some(())
    });
    assert!(exec.try_wait().unwrap().is_none(), "it runs while paused");
    case.run(["resume", &c.id]).ok();
    assert!(exec.wait().unwrap().success());
}

#[test]
fn a_paused_container_can_be_killed_and_deleted() {
    let Some(case) = Case::new(&[Need::Freezer]) else {
        return;
    };
    let c = counter(&case, "killed");
    c.run_detached().ok();
    case.run(["pause", &c.id]).ok();
    c.delete().fails_saying(&["--force"]);
    c.kill("KILL").ok();
    c.wait_stopped();
    c.delete().ok();

    let c = counter(&case, "deleted");
    c.run_detached().ok();
    case.run(["pause", &c.id]).ok();
    c.delete_force().ok();
    case.assert_nothing_left();
}

#[test]
fn a_created_container_can_be_paused_too() {
    let Some(case) = Case::new(&[Need::Freezer, Need::Runp]) else {
        return;
    };
    let c = counter(&case, "c");
    c.create().ok();
    case.run(["pause", &c.id]).ok();
    assert_eq!(c.status(), "paused");
    c.start().fails_saying(&["it is paused"]);
    case.run(["resume", &c.id]).ok();
    assert_eq!(c.status(), "created");
    c.start().ok();
    assert_counts(&c);
}

#[test]
fn what_does_not_run_cannot_be_paused() {
    let Some(case) = Case::new(&[Need::Freezer]) else {
        return;
    };
    case.run(["pause", &case.id("none")])
        .fails_saying(&["does not exist"]);
    let c = case.bundle("c").sh("true");
    c.run_detached().ok();
    c.wait_stopped();
    case.run(["pause", &c.id]).fails_saying(&["it is stopped"]);
    case.run(["resume", &c.id]).fails_saying(&["it is stopped"]);
}

#[test]
fn a_container_that_was_moved_out_of_its_cgroup_is_not_paused_but_still_ends() {
    let Some(case) = Case::new(&[Need::Freezer, Need::Runp]) else {
        return;
    };
    let c = counter(&case, "c");
    c.run_detached().ok();
    let pid = c.pid();
    let own = process::cgroup(pid, "freezer");
    let other = own.parent().unwrap().join(case.id("other"));
    fs::create_dir(&other).unwrap();
    fs::write(other.join("cgroup.procs"), pid.to_string()).unwrap();
    case.run(["pause", &c.id])
        .fails_saying(&["is not in cgroup"]);
    assert_eq!(c.status(), "running");
    assert_counts(&c);
    c.exec(&[], &["true"]).ok();
    c.delete_force().ok();
    assert!(!process::runs(pid));
    eventually("the other cgroup is empty", || fs::remove_dir(&other).ok());
    case.assert_nothing_left();
}

#[test]
fn a_container_whose_cgroup_was_removed_can_be_killed_and_deleted() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let c = counter(&case, "c");
    c.run_detached().ok();
    let pid = c.pid();
    let roots = fs::read_dir("/sys/fs/cgroup").unwrap().flatten();
    let mut roots: Vec<_> = roots.map(|entry| entry.path()).collect();
    roots.push("/sys/fs/cgroup".into());
    let mut others = Vec::new();
    for own in roots
        .iter()
        .map(|root| root.join(&c.id))
        .filter(|own| own.is_dir())
    {
        let other = own.with_file_name(case.id("other"));
        fs::create_dir(&other).unwrap();
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let _ = fs::copy(own.join(file), other.join(file));
        }
        eventually("its cgroup is empty and gone", || {
            let all = fs::read_to_string(own.join("cgroup.procs")).unwrap();
            for pid in all.lines() {
                let _ = fs::write(other.join("cgroup.procs"), pid);
            }
            fs::remove_dir(&own).ok()
        });
        others.push(other);
    }
    assert!(!others.is_empty());
    assert_eq!(c.status(), "running");
    assert_eq!(
        case.run(["ps", "-f", "json", &c.id]).ok().stdout.trim(),
        "[]"
    );
    case.run(["pause", &c.id])
        .fails_saying(&["is not in cgroup"]);
    c.kill("KILL").ok();
    c.wait_stopped();
    c.delete().ok();
    assert!(!process::runs(pid));
    for other in others {
        eventually("the other cgroup is empty", || fs::remove_dir(&other).ok());
    }
    case.assert_nothing_left();
}

#[test]
fn the_freezer_of_v1_counts_too() {
    let Some(case) = Case::new(&[Need::V1("freezer")]) else {
        return;
    };
    let c = counter(&case, "c");
    c.run_detached().ok();
    let state = |id: &str| {
        Path::new("/sys/fs/cgroup/freezer")
            .join(id)
            .join("freezer.state")
    };
    let freeze = || {
        eventually("it is frozen", || {
            fs::write(state(&c.id), "FROZEN").unwrap();
            let now = fs::read_to_string(state(&c.id)).unwrap();
            (now.trim() == "FROZEN").then_some(())
        });
    };
    freeze();
    assert_eq!(c.status(), "paused");
    case.run(["resume", &c.id]).ok();
    assert_counts(&c);
    freeze();
    c.delete_force().ok();
    case.assert_nothing_left();
}

#[test]
fn exec_works_beside_cgroups_that_the_container_made() {
    let Some(case) = Case::new(&[Need::V2("hugetlb"), Need::Runp]) else {
        return;
    };
    let c = counter(&case, "c").with(
        "/linux/resources/hugepageLimits",
        json!([{"pageSize": "2MB", "limit": 4_194_304}]),
    );
    c.run_detached().ok();
    let own = process::cgroup_v2(c.pid());
    let inner = own.join("inner");
    fs::create_dir(&inner).unwrap();
    fs::write(inner.join("cgroup.procs"), c.pid().to_string()).unwrap();
    // What it had just forked has to end first.
    eventually("the container's own cgroup is empty", || {
        fs::write(own.join("cgroup.subtree_control"), "+hugetlb").ok()
    });
    // Positive control: nobody can be in the container's own cgroup now.
    assert!(fs::write(own.join("cgroup.procs"), c.pid().to_string()).is_err());
    let inside = c.exec(&[], &["cat", "/proc/self/cgroup"]).ok().stdout;
    let line = inside.lines().find(|line| line.starts_with("0::"));
    assert!(
        line.is_some_and(|line| line.ends_with("/inner")),
        "{inside}"
    );
    c.delete_force().ok();
    case.assert_nothing_left();
}
