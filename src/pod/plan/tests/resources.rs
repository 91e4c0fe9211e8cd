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
