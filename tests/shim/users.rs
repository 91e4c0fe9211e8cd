//! `hostUsers: false`: a pod whose ids are others on the node.

use std::fs;

use super::cri::{Cri, Kind, Network, pod_config, processes, test};
use super::wire::{field, number};
use crate::support::requires::requires;
use crate::support::{Case, Need};

const FIRST: u64 = 100_000;
const COUNT: u64 = 65_536;

/// `UserNamespace`, the pod's.
fn users() -> Vec<u8> {
    let ids = [number(1, FIRST), number(3, COUNT)].concat();
    [field(2, &ids), field(3, &ids)].concat()
}

#[test]
fn a_pods_ids_are_others_on_the_node() {
    let name = "users::a_pods_ids_are_others_on_the_node";
    test(name, Kind::ForkyShim, own_ids);
}

fn own_ids(case: &Case, kind: Kind) {
    // An overlay takes lower directories that are mounted nowhere.
    if !requires(&[Need::Kernel(6, 15)]) {
        return;
    }
    let cri = Cri::new(case, kind);
    // Of a message that is there twice all fields hold.
    let namespaces = field(1, field(5, users()));
    let config = pod_config(case, Network::Bridge, 1);
    let config = [config, field(8, field(2, namespaces))].concat();
    let pod = cri.run_pod_on("runp", &config);
    let [pause] = processes("pause")[..] else {
        panic!("{:?}", processes("pause"));
    };
    let of = |pid: i32, file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
    let map = [0, FIRST, COUNT].map(|number| number.to_string());
    assert!(of(pause, "uid_map").split_whitespace().eq(&map));
    assert!(of(pause, "status").contains(&format!("Uid:\t{}", FIRST + 65_535)));

    // A pid namespace of its own, as most have.
    let namespaces = [number(2, 1), field(5, users())];
    let more = field(15, field(2, field(3, namespaces.concat())));
    let app = cri.create_with(&pod, &config, "app", "sleep 12345", &more);
    cri.start(&app);
    let [sleep] = processes("sleep")[..] else {
        panic!("{:?}", processes("sleep"));
    };
    assert!(of(sleep, "status").contains(&format!("Uid:\t{FIRST}\t")));
    let link = |pid: i32, kind: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
    for kind in ["user", "net", "ipc", "uts"] {
        assert_eq!(link(sleep, kind), link(pause, kind), "{kind}");
    }
    let run = |script: &str| {
        let (said, code) = cri.exec(&app, &["sh", "-c", script]);
        assert_eq!(code, 0, "{script}: {said}");
        said
    };
    assert_eq!(run("id -u; hostname"), "0\nweb-0\n");
    assert_eq!(run("stat -c %u:%g /bin/busybox"), "0:0\n", "of the image");
    assert_eq!(
        run("echo x >/new && chown 7:8 /new && stat -c %u:%g /new"),
        "7:8\n"
    );
    assert_eq!(run("echo x >/dev/shm/x && stat -c %u /dev/shm/x"), "0\n");
    assert!(run("cat /proc/1/comm; ls /sys/class/net").contains("eth0"));
    assert_eq!(
        run("cat /proc/sys/net/ipv4/ip_unprivileged_port_start"),
        "7\n"
    );
    cri.stop_pod(&pod);
    cri.remove_stopped_pod(&pod);
    assert_eq!(processes("pause").len() + processes("sleep").len(), 0);
    cri.leaves_nothing();
}
