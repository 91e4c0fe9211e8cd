//! `/dev` of the image, before and after it is the container's own.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::{Value, json};

use super::Canary;
use crate::container::terminal::{under_a_terminal, words};
use crate::support::{Bundle, Case, Need};

fn without_dev(mut c: Bundle<'_>) -> Bundle<'_> {
    let mounts = c.config.pointer_mut("/mounts").unwrap();
    let on_dev = |m: &Value| m["destination"].as_str().unwrap().starts_with("/dev");
    mounts.as_array_mut().unwrap().retain(|m| !on_dev(m));
    c.with("/root/readonly", json!(false))
}

/// CVE-2026-41579: `/dev` of the image is a link to a directory of the host.
#[test]
fn a_link_in_place_of_dev_leads_nowhere() {
    // runc 1.1 does not end here.
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let canary = Canary::new(&case);
    let with = case.bundle("with").args(&["/bin/true"]);
    let without = without_dev(case.bundle("without").args(&["/bin/true"]));
    for c in [with, without] {
        fs::remove_dir(c.rootfs().join("dev")).unwrap();
        symlink(&canary.path, c.rootfs().join("dev")).unwrap();
        let done = c.run();
        canary.is_untouched(&format!("{done:?}"));
    }
    let control = case.bundle("control").args(&["/bin/ls", "/dev/ptmx"]);
    assert_eq!(control.prints(), "/dev/ptmx\n");
}

/// CVE-2025-52565: `/dev/pts` is a directory of files, `/dev/console` a link.
#[test]
fn a_terminal_is_a_real_one_or_none() {
    let Some(case) = Case::new(&[]) else { return };
    let canary = Canary::new(&case);
    let files = case.dir().join("files");
    fs::create_dir(&files).unwrap();
    for n in 0..10 {
        fs::write(files.join(n.to_string()), "untouched").unwrap();
    }
    let run = |c: &Bundle<'_>| {
        let run = ["run", "--bundle", c.path.to_str().unwrap(), &c.id];
        under_a_terminal(&case, &words(&case, &run))
    };
    let script = "tty; stat -c %t /dev/console; echo x > /dev/console";
    let bundle = |name: &str| {
        case.bundle(name)
            .with("/process/terminal", json!(true))
            .sh(script)
    };
    let is_real = |stdout: &str| stdout.contains("/dev/pts/0") && stdout.contains("88");
    let control = run(&bundle("control")).ok();
    assert!(is_real(&control.stdout), "{control:?}");

    let bind =
        json!({"destination": "/dev/pts", "type": "bind", "source": files, "options": ["bind"]});
    let false_pts = bundle("pts").push("/mounts", bind);
    let false_console = without_dev(bundle("console"));
    symlink(
        canary.path.join("console"),
        false_console.rootfs().join("dev/console"),
    )
    .unwrap();
    for c in [false_pts, false_console] {
        let done = run(&c);
        assert!(!done.status.success() || is_real(&done.stdout), "{done:?}");
        canary.is_untouched(&c.id);
        for n in 0..10 {
            let text = fs::read(files.join(n.to_string())).unwrap();
            assert_eq!(text, b"untouched", "{n}: {done:?}");
        }
    }
}
