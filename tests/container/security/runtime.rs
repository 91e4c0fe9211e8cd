//! What untrusted code must not reach.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use crate::support::{Case, Done, binary, eventually, process};

/// CVE-2019-5736: a program of the container opens the runtime's own binary through /proc/self/exe and writes to it.
#[test]
fn the_runtimes_binary_cannot_be_written_through_proc_self_exe() {
    let Some(case) = Case::new(&[]) else { return };
    // A copy, so that a hole does no harm to the one that others use.
    let copy = case.dir().join("runtime");
    fs::copy(which(binary()), &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    let before = fs::read(&copy).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new(&copy);
        command.arg("--root").arg(case.state_root()).args(arguments);
        case.finish(command)
    };

    // As the first process: the interpreter of the script is whatever runs it, the runtime.
    let c = case
        .bundle("c")
        .with("/root/readonly", json!(false))
        .args(&["/evil"]);
    let evil = c.rootfs().join("evil");
    fs::write(&evil, "#!/proc/self/exe\n").unwrap();
    fs::set_permissions(&evil, fs::Permissions::from_mode(0o755)).unwrap();
    run(&["run", "--bundle", c.path.to_str().unwrap(), &c.id]);
    run(&["delete", "--force", &c.id]);
    assert!(fs::read(&copy).unwrap() == before, "the binary was changed");

    // By exec, while a process of the container tries to open every program that it sees.
    let c = case.bundle("spy").with("/root/readonly", json!(false)).sh(
        "while :; do for p in /proc/[0-9]*; do case $p in /proc/1|/proc/$$) continue;; esac
         (exec 3>>$p/exe && echo broken >&3 && echo $p >> /tmp/opened) 2>/dev/null; done; done",
    );
    run(&[
        "run",
        "--detach",
        "--bundle",
        c.path.to_str().unwrap(),
        &c.id,
    ])
    .ok();
    for _ in 0..150 {
        run(&["exec", &c.id, "/bin/true"]);
    }
    run(&["delete", "--force", &c.id]).ok();
    assert!(fs::read(&copy).unwrap() == before, "the binary was changed");
}

fn which(binary: std::path::PathBuf) -> std::path::PathBuf {
    if binary.is_absolute() {
        return binary;
    }
    std::env::split_paths(&std::env::var_os("PATH").unwrap())
        .map(|dir| dir.join(&binary))
        .find(|path| path.is_file())
        .unwrap()
}

/// CVE-2024-21626: a descriptor of a host directory survives into the container.
#[test]
fn no_descriptor_of_the_host_reaches_the_program() {
    let Some(case) = Case::new(&[]) else { return };
    // Descriptors of the caller, without close-on-exec.
    let leaky: Vec<OwnedFd> = (0..8)
        .map(|_| {
            let fd = OwnedFd::from(fs::File::open("/").unwrap());
            rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::empty()).unwrap();
            fd
        })
        .collect();
    let c = case.bundle("c").sh("sleep 1000");
    c.run_detached().ok();
    only_standard_descriptors(c.pid());

    let pid_file = case.dir().join("pid");
    c.exec(
        &["-d", "--pid-file", pid_file.to_str().unwrap()],
        &["sleep", "1000"],
    )
    .ok();
    let exec: i32 = fs::read_to_string(pid_file).unwrap().parse().unwrap();
    only_standard_descriptors(exec);
    c.delete_force().ok();
    assert!(leaky.iter().all(|fd| fd.as_raw_fd() > 2));
}

/// Once its program runs; until then what the runtime still holds is closed by the execve.
fn only_standard_descriptors(pid: i32) {
    eventually("the program runs", || {
        let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
        ["sh\n", "sleep\n"].contains(&&*comm).then_some(())
    });
    let open = process::descriptors(pid);
    assert!(open.keys().eq(&[0, 1, 2]), "{open:?}");
}

/// CVE-2024-21626: the working directory is a descriptor of the runtime. It is refused, or is inside the root.
#[test]
fn a_working_directory_outside_the_root_is_refused() {
    let Some(case) = Case::new(&[]) else { return };
    let running = case.bundle("running").sh("sleep 1000");
    running.run_detached().ok();
    let host = fs::read_dir("/").unwrap().flatten();
    let host: Vec<_> = host.map(|e| e.file_name().into_string().unwrap()).collect();
    let inside = |done: Done| {
        let seen: Vec<_> = done.stdout.lines().collect();
        let strange = host
            .iter()
            .any(|name| seen.contains(&&**name) && !running.rootfs().join(name).exists());
        assert!(!done.status.success() || !strange, "{done:?}");
    };
    for fd in 3..24 {
        let cwd = format!("/proc/self/fd/{fd}");
        let c = case
            .bundle(&format!("c{fd}"))
            .with("/process/cwd", json!(cwd));
        inside(c.sh("ls -a . .. ../.. ../../..").run());
        inside(running.exec(
            &["--cwd", &cwd],
            &["ls", "-a", ".", "..", "../..", "../../.."],
        ));
    }
    running.delete_force().ok();
    case.assert_nothing_left();
}

/// CVE-2019-16884, CVE-2019-19921, CVE-2023-27561: a fake /proc.
#[test]
fn a_proc_that_is_not_a_directory_is_refused() {
    let Some(case) = Case::new(&[]) else { return };
    for name in ["proc", "sys"] {
        let c = case.bundle(name).sh("true");
        fs::remove_dir(c.rootfs().join(name)).unwrap();
        std::os::unix::fs::symlink("/opt", c.rootfs().join(name)).unwrap();
        c.create().fails();
    }
    let c = case.bundle("bind").sh("true");
    let source = c.path.to_str().unwrap().to_owned();
    let c = c.push(
        "/mounts",
        json!({"destination": "/proc/self/attr", "type": "bind",
                                     "source": source, "options": ["bind"]}),
    );
    c.create().fails();
    case.assert_nothing_left();
}

/// The memory and descriptors of the runtime are out of reach of the container's processes.
#[test]
fn the_process_that_waits_for_start_has_no_descriptor_of_a_directory() {
    let Some(case) = Case::new(&[]) else { return };
    let c = case.bundle("c").sh("true");
    c.create().ok();
    let open = process::descriptors(c.pid());
    let directories: Vec<_> = open
        .values()
        .filter(|target| fs::metadata(target).is_ok_and(|m| m.is_dir()))
        .collect();
    assert!(directories.is_empty(), "{open:?}");
    c.delete_force().ok();
}

#[test]
fn the_container_does_not_see_the_hosts_processes() {
    let Some(case) = Case::new(&[]) else { return };
    let c = case
        .bundle("c")
        .sh("ls -d /proc/[0-9]* | wc -l; kill -0 2 && echo stranger");
    let done = c.run();
    let seen: u32 = done.stdout.lines().next().unwrap().trim().parse().unwrap();
    assert!(seen <= 4, "{done:?}");
}
