//! What Kubernetes accepts as a name, and what it says of the rest.
//!
//! Source: `k8s.io/apimachinery/pkg/util/validation`. Each function gives one text per rule that is broken.

/// RFC 1123: a container, volume, namespace, host name.
pub(in crate::pod) fn dns_label(name: &str) -> Vec<String> {
    const REGEX: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
    let mut errors = longer_than(63, name);
    if !is_label(name) {
        errors.push(if is_subdomain(name) {
            "must not contain dots".to_owned()
        } else {
            regex(
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start \
                 and end with an alphanumeric character",
                REGEX,
                &["my-name", "123-abc"],
            )
        });
    }
    errors
}

/// RFC 1123: a pod.
pub(in crate::pod) fn dns_subdomain(name: &str) -> Vec<String> {
    const REGEX: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
    let mut errors = longer_than(253, name);
    if !is_subdomain(name) {
        errors.push(regex(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must \
             start and end with an alphanumeric character",
            REGEX,
            &["example.com"],
        ));
    }
    errors
}

/// The key of a label or annotation: `prefix/name`, the prefix optional.
pub(in crate::pod) fn qualified(key: &str) -> Vec<String> {
    const REGEX: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
    const SHAPE: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
    const EXAMPLES: [&str; 3] = ["MyName", "my.name", "123-abc"];
    let parts: Vec<&str> = key.split('/').collect();
    let (prefix, name) = match parts.as_slice() {
        [name] => (None, *name),
        [prefix, name] => (Some(*prefix), *name),
        _ => {
            return vec![format!(
                "a qualified name {} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
                regex(SHAPE, REGEX, &EXAMPLES)
            )];
        }
    };
    let mut errors = Vec::new();
    match prefix {
        Some("") => errors.push("prefix part must be non-empty".to_owned()),
        Some(prefix) => errors.extend(
            dns_subdomain(prefix)
                .iter()
                .map(|e| format!("prefix part {e}")),
        ),
        None => {}
    }
    if name.is_empty() {
        errors.push("name part must be non-empty".to_owned());
    }
    errors.extend(
        longer_than(63, name)
            .iter()
            .map(|e| format!("name part {e}")),
    );
    if !is_alphanumeric_inside(name, "-_.") {
        errors.push(format!("name part {}", regex(SHAPE, REGEX, &EXAMPLES)));
    }
    errors
}

/// The value of a label.
pub(in crate::pod) fn label_value(value: &str) -> Vec<String> {
    let mut errors = longer_than(63, value);
    if !value.is_empty() && !is_alphanumeric_inside(value, "-_.") {
        errors.push(regex(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must \
             start and end with an alphanumeric character",
            "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?",
            &["MyValue", "my_value", "12345"],
        ));
    }
    errors
}

/// An environment variable (any printable ASCII but `=`, since 1.34).
pub(in crate::pod) fn variable(name: &str) -> Vec<String> {
    if name.bytes().all(|b| matches!(b, b' '..=b'~') && b != b'=') {
        return Vec::new();
    }
    vec![
        "a valid environment variable name must consist only of printable ASCII characters other than '='"
            .to_owned(),
    ]
}

/// The key of a ConfigMap or Secret, which becomes a file's name.
pub(in crate::pod) fn config_key(key: &str) -> Vec<String> {
    let mut errors = longer_than(253, key);
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if key.is_empty() || !key.bytes().all(allowed) {
        errors.push(regex(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
            "[-._a-zA-Z0-9]+",
            &["key.name", "KEY_NAME", "key-name"],
        ));
    }
    match key {
        "." => errors.push("must not be '.'".to_owned()),
        ".." => errors.push("must not be '..'".to_owned()),
        _ if key.starts_with("..") => errors.push("must not start with '..'".to_owned()),
        _ => {}
    }
    errors
}

/// The name of a container's port (RFC 6335).
pub(in crate::pod) fn port(name: &str) -> Vec<String> {
    let mut errors = longer_than(15, name);
    let rules = [
        (
            name.bytes()
                .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-')),
            "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
        ),
        (
            name.bytes().any(|b| b.is_ascii_lowercase()),
            "must contain at least one letter (a-z)",
        ),
        (!name.contains("--"), "must not contain consecutive hyphens"),
        (
            !name.starts_with('-') && !name.ends_with('-'),
            "must not begin or end with a hyphen",
        ),
    ];
    errors.extend(
        rules
            .into_iter()
            .filter(|(holds, _)| !holds)
            .map(|(_, why)| why.to_owned()),
    );
    errors
}

fn longer_than(limit: usize, name: &str) -> Vec<String> {
    let too_long = name.len() > limit;
    let text = || format!("must be no more than {limit} bytes");
    too_long.then(text).into_iter().collect()
}

fn is_label(name: &str) -> bool {
    !name.bytes().any(|b| b.is_ascii_uppercase()) && is_alphanumeric_inside(name, "-")
}

fn is_subdomain(name: &str) -> bool {
    name.split('.').all(is_label)
}

/// Letters and digits, and `others` anywhere but at the ends; not empty.
fn is_alphanumeric_inside(name: &str, others: &str) -> bool {
    let ends = |b: Option<char>| b.is_some_and(|b| b.is_ascii_alphanumeric());
    ends(name.chars().next())
        && ends(name.chars().next_back())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || others.contains(c))
}

/// `RegexError`, two spaces before "or" included.
fn regex(message: &str, regex: &str, examples: &[&str]) -> String {
    let examples: Vec<String> = examples.iter().map(|e| format!("'{e}', ")).collect();
    format!(
        "{message} (e.g. {}regex used for validation is '{regex}')",
        examples.join(" or ")
    )
}
