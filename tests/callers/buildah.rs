//! Buildah, which calls the runtime without conmon.

use std::process::Command;

use super::{archive, first_line, runtime};
use crate::support::{Case, Done, Need};

fn buildah(case: &Case, args: &[&str]) -> Done {
    let dir = case.dir().join("buildah");
    let mut command = Command::new("buildah");
    command
        .arg("--root")
        .arg(dir.join("root"))
        .arg("--runroot")
        .arg(dir.join("run"))
        .args(["--storage-driver", "vfs"])
        .args(args)
        .env("RUNP_TEST", &case.token)
        .env("BUILDAH_ISOLATION", "oci")
        .env("BUILDAH_RUNTIME", runtime());
    case.finish(command)
}

#[test]
fn steps_run_and_their_results_stay() {
    let Some(case) = Case::new(&[Need::Program("buildah"), Need::Feature("/linux/seccomp")]) else {
        return;
    };
    let archive = archive(&case);
    let from =
        first_line(&buildah(&case, &["from", "--ulimit", "nofile=1024:1024", "scratch"]).ok())
            .to_owned();
    buildah(&case, &["add", &from, archive.to_str().unwrap(), "/"]).ok();
    let run = |script: &str| {
        let run = ["run", "--network", "none", &from];
        buildah(
            &case,
            &[&run[..], &["--", "/bin/sh", "-c", script]].concat(),
        )
    };
    run("echo built >/built").ok();
    assert_eq!(run("cat /built; id -u").ok().stdout, "built\n0\n");
    run("exit 7").code(7);
    buildah(&case, &["rm", &from]).ok();
}
