//! What is refused, what the message says, and that nothing is left of it.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Case, Need, is_runp};

#[test]
fn a_program_that_is_not_in_the_image() {
    let Some(case) = Case::new(&[]) else { return };
    let c = case.bundle("c").args(&["/no/such/program"]);
    c.create().fails_saying(&["/no/such/program", "ENOENT"]);
    let c = c.args(&["nosuchprogram"]);
    c.run().fails_saying(&["nosuchprogram", "PATH"]);
    let c = c.args(&["/etc/passwd"]);
    c.run().fails_saying(&["/etc/passwd", "EACCES"]);
    case.assert_nothing_left();
}

#[test]
fn a_bundle_without_config_or_root() {
    let Some(case) = Case::new(&[]) else { return };
    let c = case.bundle("c").sh("true");
    let bundle = c.path.to_str().unwrap();
    case.run(["create", "--bundle", "/no/such/bundle", &c.id])
        .fails_saying(&["/no/such/bundle"]);
    fs::rename(c.rootfs(), c.path.join("elsewhere")).unwrap();
    c.create().fails_saying(&["rootfs", "ENOENT"]);
    fs::remove_file(c.path.join("config.json")).unwrap();
    case.run(["create", "--bundle", bundle, &c.id])
        .fails_saying(&["config.json", "ENOENT"]);
    fs::write(c.path.join("config.json"), "{ \"process\": ").unwrap();
    case.run(["create", "--bundle", bundle, &c.id])
        .fails_saying(&["config.json"]);
    case.assert_nothing_left();
}

#[test]
fn a_name_that_is_taken_or_not_allowed() {
    let Some(case) = Case::new(&[]) else { return };
    let c = case.bundle("c").sh("sleep 1000");
    c.run_detached().ok();
    let pid = c.pid();
    c.create().fails_saying(&[&c.id, "exists"]);
    assert_eq!(c.pid(), pid, "the first is untouched");
    let bundle = c.path.to_str().unwrap();
    for id in ["../up", "a/b", "", ".", ".."] {
        case.run(["create", "--bundle", bundle, id]).fails();
    }
    c.delete_force().ok();
}

#[test]
fn an_image_without_the_mount_point_and_read_only() {
    let Some(case) = Case::new(&[]) else { return };
    // The mount point is made in the bundle's root before it becomes read-only, as runc does.
    let c = case.bundle("c").sh("ls -d /new/point").push(
        "/mounts",
        json!({"destination": "/new/point", "type": "tmpfs", "source": "tmpfs"}),
    );
    assert_eq!(c.prints(), "/new/point\n");
    // Where it cannot be made, the message says where and what to do.
    let c = case.bundle("ro").sh("true").push(
        "/mounts",
        json!({"destination": "/new/point", "type": "tmpfs", "source": "tmpfs"}),
    );
    let mut command = Command::new("unshare");
    let runtime = case.runtime();
    let mount = format!(
        "mount --bind {0} {0} && mount -o remount,bind,ro {0} && exec \"$@\"",
        c.rootfs().display()
    );
    command
        .args(["--mount", "sh", "-c", &mount, "sh"])
        .arg(runtime.get_program());
    command
        .args(runtime.get_args())
        .args(["run", "--bundle", c.path.to_str().unwrap(), &c.id]);
    case.finish(command).fails_saying(&["/new/point", "EROFS"]);
    case.assert_nothing_left();
}

#[test]
fn a_mount_source_that_is_not_there() {
    let Some(case) = Case::new(&[]) else { return };
    let c = case.bundle("c").sh("true").push(
        "/mounts",
        json!({"destination": "/opt", "type": "bind", "source": "/no/such/source", "options": ["bind"]}),
    );
    c.create().fails_saying(&["/no/such/source", "ENOENT"]);
    case.assert_nothing_left();
}

#[test]
fn a_full_disk_under_the_state() {
    let Some(case) = Case::new(&[]) else { return };
    let c = case.bundle("c").sh("true");
    let runtime = case.runtime();
    // 64 KiB, and all of it taken: fails, leaves nothing; with room again: works.
    let script = format!(
        "cd {} && mount -t tmpfs -o size=64k none . && cd $PWD || exit 9
         dd if=/dev/zero of=filler bs=4k 2>/dev/null
         \"$@\" && exit 8
         rm filler; [ -z \"$(ls -A | grep -v lock)\" ] || exit 7
         \"$@\"",
        case.state_root().display()
    );
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c", &script, "sh"])
        .arg(runtime.get_program());
    command
        .args(runtime.get_args())
        .args(["run", "--bundle", c.path.to_str().unwrap(), &c.id]);
    let done = case.finish(command).ok();
    assert!(!is_runp() || done.stderr.contains("ENOSPC"), "{done:?}");
    case.assert_nothing_left();
}

#[test]
fn fields_that_are_not_done_are_refused_by_their_path() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let each: [(&str, Value, &str); 2] = [
        ("/linux/intelRdt", json!({"closID": "a"}), "linux.intelRdt"),
        ("/vm", json!({"kernel": {"path": "/k"}}), "vm"),
    ];
    for (i, (pointer, value, path)) in each.into_iter().enumerate() {
        let c = case
            .bundle(&format!("c{i}"))
            .sh("true")
            .with(pointer, value);
        c.create().fails_saying(&[path]);
    }
    case.assert_nothing_left();
}

#[test]
fn all_errors_of_a_config_are_told_at_once() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let c = case
        .bundle("c")
        .with("/process/args", json!([]))
        .with("/process/cwd", json!("relative"))
        .with("/linux/cgroupsPath", json!("/a/../../b"));
    c.create()
        .fails_saying(&["process.args", "process.cwd", "linux.cgroupsPath"]);
    case.assert_nothing_left();
}

#[test]
fn a_value_of_the_wrong_type_is_named_by_its_path() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let c = case.bundle("c").with("/process/user/uid", json!("root"));
    c.create()
        .fails_saying(&["config.json", "process.user.uid"]);
    case.assert_nothing_left();
}

#[test]
fn a_torn_state_hides_no_other_container_and_is_deleted_by_force() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let healthy = case.bundle("healthy").sh("sleep 1000");
    healthy.run_detached().ok();
    for (i, cut) in [0, 1, 10, 100, usize::MAX].into_iter().enumerate() {
        let torn = case.bundle(&format!("torn{i}")).sh("sleep 1000");
        torn.run_detached().ok();
        let file = case.state_root().join(&torn.id).join("state.json");
        let mut text = fs::read(&file).unwrap();
        if cut == usize::MAX {
            text.fill(0);
        }
        text.truncate(cut);
        fs::write(&file, text).unwrap();

        let list = case.run(["list", "--quiet"]).stdout;
        assert!(
            list.lines().any(|l| l == healthy.id),
            "cut at {cut}: {list}"
        );
        torn.delete_force().ok();
        assert!(
            !case.left_behind().iter().any(|l| l.contains(&torn.id)),
            "{:?}",
            case.left_behind()
        );
        torn.create().ok(); // the name is free again
        torn.delete_force().ok();
    }
    assert_eq!(healthy.status(), "running");
    healthy.delete_force().ok();
}

#[test]
fn a_container_that_is_not_there() {
    let Some(case) = Case::new(&[]) else { return };
    for command in ["state", "start", "delete", "kill", "ps"] {
        case.run([command, &case.id("nobody")])
            .fails_saying(&["nobody"]);
    }
}

#[test]
fn usage_errors_name_what_is_wrong() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    case.run(["nosuchcommand"]).fails_saying(&["nosuchcommand"]);
    case.run(["create"]).fails();
    case.run(["--systemd-cgroup=maybe", "list"])
        .fails_saying(&["--systemd-cgroup"]);
}
