//! Limits.

use super::*;

#[test]
fn resources_become_cgroup_values() {
    for (resources, expected, score) in [
        ("{}", r#"{"cpu": {}}"#, Some(1000)),
        (
            "{limits: {cpu: 500m, memory: 64Mi}}",
            r#"{"cpu": {"shares": 512, "quota": 50000, "period": 100000}, "memory": {"limit": 67108864}}"#,
            None,
        ),
        (
            "{requests: {cpu: 2, memory: 512Mi}}",
            r#"{"cpu": {"shares": 2048}}"#,
            Some(500),
        ),
        (
            "{requests: {cpu: 1m}, limits: {cpu: 2m}}",
            r#"{"cpu": {"shares": 2, "quota": 1000, "period": 100000}}"#,
            Some(999),
        ),
        ("{requests: {memory: 1Gi}}", r#"{"cpu": {}}"#, Some(3)),
    ] {
        let plan = planned("", &format!("    resources: {resources}"));
        let mut found = config(&plan, "/linux/resources");
        found.as_object_mut().unwrap().remove("devices");
        assert_eq!(found, json(expected), "{resources}");
        let process = plan.containers[0].spec.process().as_ref().unwrap();
        assert_eq!(process.oom_score_adj(), score, "{resources}");
        assert_eq!(
            serde_json::to_value(&plan.sandbox.resources).unwrap(),
            json(expected),
            "{resources}"
        );
    }
}

#[test]
fn the_pod_gets_the_most_of_its_inits_and_the_sum_of_its_apps() {
    let container = |name: &str, limits: &str| {
        format!("{{name: {name}, image: busybox, command: [a], resources: {{limits: {limits}}}}}")
    };
    for (first, second, app, other, memory, quota) in [
        (
            "{memory: 10, cpu: 1}",
            "{memory: 50, cpu: 1}",
            "{memory: 20, cpu: 1}",
            "{memory: 20, cpu: 2}",
            Some(50),
            Some(300_000),
        ),
        (
            "{memory: 10, cpu: 9}",
            "{memory: 1, cpu: 1}",
            "{memory: 20, cpu: 1}",
            "{memory: 20, cpu: 1}",
            Some(40),
            Some(900_000),
        ),
        (
            "{memory: 10}",
            "{memory: 1, cpu: 1}",
            "{memory: 20, cpu: 1}",
            "{memory: 20, cpu: 1}",
            Some(40),
            None,
        ),
        (
            "{memory: 10, cpu: 1}",
            "{memory: 1, cpu: 1}",
            "{memory: 20, cpu: 1}",
            "{cpu: 1}",
            None,
            Some(200_000),
        ),
    ] {
        let text = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec:\n  initContainers: [{}, {}]\n  containers: [{}, {}]\n",
            container("i", first),
            container("j", second),
            container("a", app),
            container("b", other)
        );
        let plan = Place::new(&text).plan();
        let resources = &plan.sandbox.resources;
        assert_eq!(resources.memory().and_then(|m| m.limit()), memory);
        assert_eq!(resources.cpu().as_ref().and_then(|c| c.quota()), quota);
        let kinds: Vec<_> = plan
            .lifecycle
            .containers
            .iter()
            .map(|c| (c.name.as_str(), c.kind))
            .collect();
        assert_eq!(
            kinds,
            [
                ("i", Kind::Init),
                ("j", Kind::Init),
                ("a", Kind::App),
                ("b", Kind::App)
            ]
        );
    }
}

/// A pod of these containers: list, name, fields of `resources`, more fields.
fn of_containers(spec: &str, containers: &[(&str, &str, &str, &str)]) -> PodPlan {
    let list = |wanted: &str| {
        let of_list = containers.iter().filter(|c| c.0 == wanted);
        let texts = of_list.map(|(_, name, resources, more)| {
            format!(
                "{{name: {name}, image: busybox, command: [a], resources: {resources}, {more}}}"
            )
        });
        texts.collect::<Vec<_>>().join(", ")
    };
    let text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec:\n{spec}\n  initContainers: [{}]\n  containers: [{}]\n",
        list("init"),
        list("app")
    );
    Place::new(&text).plan()
}

fn memory(plan: &PodPlan) -> Option<i64> {
    plan.sandbox.resources.memory().and_then(|m| m.limit())
}

#[test]
fn the_pods_own_resources_go_before_those_of_its_containers() {
    let app = |name, resources| ("app", name, resources, "");
    for (spec, containers, expected, class) in [
        (
            "  resources: {limits: {memory: 100, cpu: 1}}",
            vec![app("a", "{}"), app("b", "{limits: {memory: 10}}")],
            Some(100),
            Qos::Guaranteed,
        ),
        (
            "  resources: {requests: {memory: 50}, limits: {memory: 100}}",
            vec![app("a", "{}")],
            Some(100),
            Qos::Burstable,
        ),
        (
            "  overhead: {memory: 7}",
            vec![app("a", "{limits: {memory: 10}}")],
            Some(17),
            Qos::Burstable,
        ),
        (
            "  overhead: {memory: 7}",
            vec![app("a", "{}")],
            None,
            Qos::BestEffort,
        ),
    ] {
        let plan = of_containers(spec, &containers);
        assert_eq!(memory(&plan), expected, "{spec}");
        assert_eq!(plan.qos, class, "{spec}");
    }
}

#[test]
fn huge_pages_are_limited_by_their_size() {
    let limits = "{limits: {hugepages-2Mi: 4Mi, hugepages-1Gi: 1Gi, memory: 1Mi}}";
    let plan = of_containers(
        "",
        &[
            ("app", "a", limits, ""),
            (
                "app",
                "b",
                "{limits: {hugepages-2Mi: 2Mi, memory: 1Mi}}",
                "",
            ),
        ],
    );
    let pages = |resources: &oci_spec::runtime::LinuxResources| {
        let pages = resources.hugepage_limits().clone().unwrap_or_default();
        let shown = pages
            .iter()
            .map(|p| format!("{} {}", p.page_size(), p.limit()));
        shown.collect::<Vec<_>>().join(", ")
    };
    assert_eq!(
        pages(&plan.sandbox.resources),
        "1GB 1073741824, 2MB 6291456"
    );
    let linux = plan.containers[0].spec.linux().as_ref().unwrap();
    assert_eq!(
        pages(linux.resources().as_ref().unwrap()),
        "1GB 1073741824, 2MB 4194304"
    );
}

#[test]
fn who_is_killed_first_follows_the_class_and_the_share() {
    let score = |plan: &PodPlan, index: usize| {
        plan.containers[index]
            .spec
            .process()
            .as_ref()
            .unwrap()
            .oom_score_adj()
    };
    // What the pod asks for besides its containers is shared evenly: 256 Mi and 128 Mi of 1 Gi each.
    let plan = of_containers(
        "  resources: {requests: {memory: 512Mi}}",
        &[
            ("app", "a", "{requests: {memory: 256Mi}}", ""),
            ("app", "b", "{}", ""),
        ],
    );
    assert_eq!((score(&plan, 0), score(&plan, 1)), (Some(625), Some(875)));
    let place = Place::new(&pod("", "    resources: {limits: {cpu: 1, memory: 1Mi}}"));
    assert_eq!(score(&place.plan(), 0), None);
    let protecting = Node {
        may_protect: true,
        ..Node::default()
    };
    let manifest = load(&Source::Path(place.path().into()), None).unwrap();
    let protected = super::super::plan(
        &manifest,
        &PlanOptions {
            node: protecting,
            ..place.options()
        },
    )
    .unwrap();
    assert_eq!(score(&protected, 0), Some(-997));
}
