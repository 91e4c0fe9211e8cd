//! The pause process.

use serde_json::json;

use crate::support::pod::is_running;
use crate::support::{Case, Need, Pod, Shared, eventually, process, sh};

#[test]
fn pause_is_small_and_has_no_rights() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    for share in [false, true] {
        let pod = Pod::new(
            &case,
            &format!("p{share}"),
            json!({
                "shareProcessNamespace": share,
                "containers": [sh("app", "exec sleep 1000")],
            }),
        );
        pod.run_detached();
        let pause = pod.pause("app");
        let memory = process::memory(pause);
        assert!((1..=100).contains(&memory.proportional), "{memory:?}");
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(process::status(pause, set), "0000000000000000", "{set}");
        }
        assert_eq!(process::status(pause, "Seccomp"), "2", "no filter");
        assert_eq!(process::status(pause, "NoNewPrivs"), "1");
        // The socket in which it keeps what a new supervisor would need of the old one.
        let open = process::descriptors(pause);
        let sockets = open.values().filter(|file| file.starts_with("socket:"));
        assert_eq!((open.len(), sockets.count()), (2, 2), "{open:?}");
        pod.delete_force().ok();
        assert!(!process::runs(pause));
    }
}

#[test]
fn row_35_pause_reaps_orphans_as_the_first_process_of_a_shared_pid_namespace() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "shareProcessNamespace": true,
            // Twenty orphans: their parent ends before they do.
            "containers": [sh("app", "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
                                          (sleep 1000 & echo $i); done; exec sleep 1000")],
        }),
    );
    pod.run_detached();
    let pause = pod.pause("app");
    let namespace = process::namespace(pause, "pid");
    // A zombie has no namespaces to show any more; its parent is pause.
    let children = || {
        let of_pause = |pid: &i32| process::parent(*pid) == Some(pause);
        process::all().filter(of_pause).collect::<Vec<_>>()
    };
    eventually("the orphans came to pause", || {
        (children().len() == 20).then_some(())
    });
    for orphan in children() {
        process::kill(orphan);
    }
    eventually("pause has reaped them all", || {
        children().is_empty().then_some(())
    });
    assert_eq!(process::namespace(pause, "pid"), namespace);
    pod.delete_force().ok();
}

#[test]
fn row_36_when_pause_is_killed_everything_is_made_again() {
    let Some(case) = Case::new(&[Need::Runp]) else {
        return;
    };
    let shared = Shared::new(&case);
    let pod = Pod::new(
        &case,
        "p",
        json!({
            "volumes": [shared.volume(), {"name": "keep", "emptyDir": {}}],
            "initContainers": [shared.container("init", "echo init >> /shared/log")],
            "containers": [{"name": "app", "command": ["/bin/sh", "-c", "ls /keep >> /shared/kept; touch /keep/me; exec sleep 1000"],
                            "volumeMounts": [{"name": "keep", "mountPath": "/keep"}, {"name": "shared", "mountPath": "/shared"}]}],
        }),
    );
    pod.run_detached();
    let (pause, app) = (pod.pause("app"), pod.until_running("app"));
    eventually("the app has written", || {
        shared.path.join("kept").exists().then_some(())
    });
    process::kill(pause);

    eventually("the inits run again", || {
        (shared.lines("log").len() == 2).then_some(())
    });
    let status = pod.until("the app runs again", |status| {
        is_running(status, "app") && pod.try_pid("app").is_some_and(|pid| pid != app)
    });
    assert!(!process::runs(app));
    assert_ne!(pod.pause("app"), pause);
    assert_eq!(status["status"]["phase"], "Running");
    eventually("the emptyDir was kept", || {
        (shared.lines("kept") == ["me"]).then_some(())
    });
    let timeline = case.pod(["timeline", &pod.name]).ok().stdout;
    assert!(
        timeline.contains("SandboxChanged") || timeline.contains("sandbox"),
        "{timeline}"
    );
    pod.delete_force().ok();
    case.assert_nothing_left();
}
