#![allow(clippy::unwrap_used)]
use std::fs;

use serde_json::json;

use super::*;

/// Directories with these plugins and configurations.
fn places(plugins: &[&str], files: &[(&str, &str)]) -> (tempfile::TempDir, Places) {
    let dir = tempfile::tempdir().unwrap();
    let (bin, conf) = (dir.path().join("bin"), dir.path().join("conf"));
    fs::create_dir_all(&bin).unwrap();
    fs::create_dir_all(&conf).unwrap();
    for plugin in plugins {
        fs::write(bin.join(plugin), "").unwrap();
    }
    for (name, text) in files {
        let path = conf.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let places = Places {
        plugins: vec!["/nosuch".into(), bin],
        configurations: conf,
    };
    (dir, places)
}

fn find(name: Option<&str>, places: &Places) -> Result<Network> {
    Network::find(Asked::Cni(name.map(str::to_owned)), places)
}

fn error(name: Option<&str>, places: &Places) -> String {
    find(name, places).unwrap_err().to_string()
}

#[test]
fn a_network_is_asked_for_in_one_word() {
    for (text, asked) in [
        ("none", Asked::None),
        ("host", Asked::Host),
        ("cni", Asked::Cni(None)),
        ("cni:a:b", Asked::Cni(Some("a:b".into()))),
        ("pasta", Asked::Pasta),
        ("path:/run/netns/x", Asked::Path("/run/netns/x".into())),
    ] {
        assert_eq!(text.parse(), Ok(asked), "{text}");
    }
    for bad in ["", "bridge", "cni:", "path:", "path:x", "none:", "host:x"] {
        assert!(bad.parse::<Asked>().is_err(), "{bad}");
    }
}

#[test]
fn a_configuration_is_found_by_its_name_or_is_the_first() {
    let list = |name: &str| {
        format!(
            r#"{{"cniVersion": "1.0.0", "name": "{name}", "plugins": [{{"type": "bridge", "ipam": {{"type": "host-local"}}}}, {{"type": "portmap", "capabilities": {{"portMappings": true}}}}]}}"#
        )
    };
    let single = r#"{"name": "old", "type": "bridge"}"#;
    let (_dir, places) = places(
        &["bridge", "host-local", "portmap"],
        &[
            ("20-b.conflist", &list("b")),
            ("10-a.conf", single),
            ("00-note.txt", "not one"),
            ("30-c.conflist", "{"),
        ],
    );
    let describe = |name| find(name, &places).unwrap().describe();
    assert_eq!(describe(None), "cni:old (bridge)");
    assert_eq!(describe(Some("b")), "cni:b (bridge, portmap)");
    let has_ports = |name| find(name, &places).unwrap().check_ports(None);
    assert!(has_ports(Some("b")).is_ok());
    assert!(has_ports(None).unwrap_err().contains("portmap"));
    let missing = error(Some("x"), &places);
    assert!(
        missing.starts_with("CNI network \"x\": no other file has it: read ")
            && missing.contains("30-c.conflist"),
        "{missing}"
    );
}

#[test]
fn what_is_not_there_is_named() {
    let (_dir, places) = places(
        &["bridge"],
        &[
            (
                "a.conf",
                r#"{"name": "a", "type": "bridge", "ipam": {"type": "host-local"}}"#,
            ),
            (
                "b.conflist",
                r#"{"name": "b", "plugins": [{"type": "../x"}, {"type": "vlan"}]}"#,
            ),
            (
                "c.conflist",
                r#"{"name": "c", "cniVersion": "9.0.0", "plugins": [{"type": "bridge"}]}"#,
            ),
            ("d.conflist", r#"{"name": "d", "plugins": []}"#),
            ("e.conf", r#"{"name": "e/../x", "type": "bridge"}"#),
        ],
    );
    for (name, expected) in [
        (
            "a",
            "plugins[0]: ipam.type: there is no plugin \"host-local\" in /nosuch, ",
        ),
        (
            "b",
            "2 errors:\n  plugins[0]: type: \"../x\" is no name of a plugin\n  plugins[1]: type: there is no plugin \"vlan\" in ",
        ),
        ("c", "cniVersion: 9.0.0: not known"),
        ("d", "plugins: there is none"),
        ("e/../x", "\"e/../x\" is no name of a network"),
        ("z", "(it has: a, b, c, d, e/../x)"),
    ] {
        let text = error(Some(name), &places);
        assert!(text.contains(expected), "{name}: {text}");
    }
    let nowhere = Places {
        configurations: "/nosuch".into(),
        ..places
    };
    let text = error(None, &nowhere);
    assert!(
        text.contains("ENOENT") && text.contains("--cni-netconfpath"),
        "{text}"
    );
}

#[test]
fn plugins_that_stand_beside_a_list_belong_to_it() {
    let list = r#"{"name": "n", "cniVersion": "0.4.0", "cniVersions": ["1.0.0", "1.1.0", "2.0.0"], "plugins": [{"type": "bridge"}]}"#;
    let files = [
        ("n.conflist", list),
        ("n/10-x.conf", r#"{"type": "tuning"}"#),
    ];
    let (_dir, both) = places(&["bridge", "tuning"], &files);
    let found = serde_json::to_value(find(Some("n"), &both).unwrap()).unwrap();
    assert_eq!(found["cni"]["plugins"][1]["config"]["type"], "tuning");
    assert_eq!(
        found["cni"]["version"], "1.1.0",
        "the newest that both know"
    );
    let alone = list.replace(
        "\"plugins\"",
        "\"loadOnlyInlinedPlugins\": true, \"plugins\"",
    );
    let (_dir, one) = places(&["bridge"], &[("n.conflist", &alone), files[1]]);
    assert_eq!(find(Some("n"), &one).unwrap().describe(), "cni:n (bridge)");
}

#[test]
fn a_result_tells_the_addresses_inside() {
    let addresses = |result: serde_json::Value| {
        let found = cni::addresses(&result).into_iter();
        found.map(|a| a.to_string()).collect::<Vec<_>>().join(" ")
    };
    let interfaces = json!([{"name": "br0"}, {"name": "eth0", "sandbox": "/run/x"}]);
    for (result, expected) in [
        (
            json!({"interfaces": interfaces, "ips": [
                {"address": "fd00::2/64", "interface": 1}, {"address": "10.0.0.1/24", "interface": 0},
                {"address": "10.0.0.2/24", "interface": 1}, {"address": "10.0.0.3/24", "interface": 1}]}),
            "10.0.0.2 fd00::2",
        ),
        (json!({"ips": [{"address": "10.0.0.2/24"}]}), "10.0.0.2"),
        (
            json!({"ip4": {"ip": "10.0.0.4/16"}, "ip6": {"ip": "fd00::4/64"}}),
            "10.0.0.4 fd00::4",
        ),
        (
            json!({"ips": [{"address": "10.0.0.2/24", "interface": 7}, {"address": "x"}, {}]}),
            "",
        ),
        (json!(null), ""),
    ] {
        assert_eq!(addresses(result.clone()), expected, "{result}");
    }
    let dns =
        cni::dns(&json!({"dns": {"nameservers": ["10.0.0.1"], "domain": "d", "search": null}}));
    assert_eq!(
        (dns.nameservers, dns.domain),
        (vec!["10.0.0.1".to_owned()], "d".to_owned())
    );
}

#[test]
fn only_somebody_elses_network_namespace_is_joined() {
    for (path, why) in [
        ("/proc/self/ns/net", "it is the host's own (--network host)"),
        ("/proc/self/ns/mnt", "is no network namespace"),
        ("/etc/passwd", "is no network namespace"),
        ("/nosuch", "ENOENT"),
    ] {
        let places = Places {
            plugins: Vec::new(),
            configurations: PathBuf::new(),
        };
        let error = Network::find(Asked::Path(path.into()), &places).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
}
