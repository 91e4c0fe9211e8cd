//! The tables in `README.md` beside this file name what there is.

use std::fs;
use std::path::Path;

/// The tables' rows, each as its cells.
fn rows(section: &str) -> Vec<Vec<String>> {
    let text = include_str!("README.md");
    let (_, text) = text.split_once(&format!("## {section}\n")).unwrap();
    let lines = text.lines().skip_while(|line| !line.starts_with("| ---"));
    let rows = lines.skip(1).take_while(|line| line.starts_with('|'));
    let cells = |line: &str| {
        line.trim_matches('|')
            .split(" | ")
            .map(|cell| cell.trim().to_owned())
            .collect()
    };
    rows.map(cells).collect()
}

/// Whether the module of this path, below `directory`, has this test.
fn has_test(directory: &Path, name: &str) -> bool {
    let (module, function) = name.rsplit_once("::").unwrap();
    let module = module.strip_suffix("::tests").unwrap_or(module);
    let path = directory.join(module.replace("::", "/"));
    let files = [
        path.with_extension("rs"),
        path.join("mod.rs"),
        path.join("tests.rs"),
        path.join("tests/mod.rs"),
    ];
    let declaration = format!("#[test]\nfn {function}(");
    let mut texts = files
        .iter()
        .filter_map(|file| fs::read_to_string(file).ok());
    texts.any(|text| {
        let flush: Vec<&str> = text.lines().map(str::trim_start).collect();
        flush.join("\n").contains(&declaration)
    })
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn every_behaviour_has_a_test_and_a_place_to_try_it() {
    let rows = rows("Behaviours");
    let numbers: Vec<usize> = rows.iter().map(|row| row[0].parse().unwrap()).collect();
    assert_eq!(numbers, (1..=43).collect::<Vec<_>>());
    for row in rows {
        let test = row[2].trim_matches('`');
        assert!(has_test(&root().join("tests/pod"), test), "no test {test}");
        let (_, place) = row[3].split_once("](../../").unwrap();
        let place = root().join(place.trim_end_matches(')'));
        let is_tried = place.is_file() || place.join("README.md").is_file();
        assert!(is_tried, "{}", place.display());
    }
}

#[test]
fn every_rule_has_a_test() {
    let rows = rows("Rules");
    assert!(rows.len() > 30);
    for row in rows {
        let test = row[2].trim_matches('`');
        let tree = if test.starts_with("pod::") {
            "tests"
        } else {
            "src/pod"
        };
        assert!(has_test(&root().join(tree), test), "no test {test}");
    }
}
