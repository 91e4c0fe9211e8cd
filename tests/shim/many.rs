//! Many pods at once, up and down.

use std::time::Instant;

use super::cri::{Cri, Kind, Network, named, pod_config, processes, test};
use super::shims;
use crate::support::{Case, eventually};

/// So many callers at once, as the kubelet has workers.
const CALLERS: usize = 4;

/// `RUNP_TEST_PODS` sets how many (8).
#[test]
fn pods_on_a_bridge_go_up_and_down() {
    let name = "many::pods_on_a_bridge_go_up_and_down";
    test(name, Kind::ForkyShim, |case, kind| {
        up_and_down(case, kind, Network::Bridge)
    });
}

#[test]
fn pods_on_the_nodes_network_go_up_and_down() {
    let name = "many::pods_on_the_nodes_network_go_up_and_down";
    test(name, Kind::ForkyPodsandbox, |case, kind| {
        up_and_down(case, kind, Network::Node)
    });
}

fn up_and_down(case: &Case, kind: Kind, network: Network) {
    let count: usize = std::env::var("RUNP_TEST_PODS").map_or(8, |count| count.parse().unwrap());
    let world = Cri::new(case, kind);
    let cri = &world;
    let config = &pod_config(case, network, 1);
    let numbers: Vec<_> = (0..count).collect();
    // Each caller has a share of the pods.
    let share = |act: &(dyn Fn(usize) -> String + Sync)| -> Vec<String> {
        std::thread::scope(|scope| {
            let shares = numbers.chunks(count.div_ceil(CALLERS));
            let callers: Vec<_> = shares
                .map(|share| scope.spawn(move || share.iter().map(|n| act(*n)).collect::<Vec<_>>()))
                .collect();
            callers
                .into_iter()
                .flat_map(|caller| caller.join().unwrap())
                .collect()
        })
    };
    let begun = Instant::now();
    let pods = share(&|number| {
        let config = named(config, number);
        let pod = cri.run_pod_on("runp", &config);
        let app = cri.create(&pod, &config, "app", "sleep 1000");
        cri.start(&app);
        pod
    });
    let up = begun.elapsed();
    // So does the pause image.
    let sleeps = if kind == Kind::ForkyShim {
        count
    } else {
        2 * count
    };
    assert_eq!((shims().len(), processes("sleep").len()), (count, sleeps));
    let begun = Instant::now();
    share(&|number| {
        cri.stop_pod(&pods[number]);
        cri.remove_stopped_pod(&pods[number]);
        String::new()
    });
    let down = begun.elapsed();
    eventually("all shims end", || shims().is_empty().then_some(()));
    assert_eq!(processes("sleep").len() + processes("pause").len(), 0);
    world.leaves_nothing();
    eprintln!("{count} pods: up in {up:.1?}, down in {down:.1?}");
}
