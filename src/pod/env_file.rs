//! Files of variables, as `fileKeyRef` reads them (KEP-3721): `NAME='value'`, the value in single quotes and just as it
//! is, over several lines if need be; empty lines and comments between them.

/// The longest file that is read, in bytes.
pub const MOST: usize = 64 << 10;

/// The value of a variable; the last one counts.
///
/// # Errors
/// The number of the first line that is not as it must be.
pub fn value(text: &str, key: &str) -> Result<Option<String>, usize> {
    let mut found = None;
    let mut rest = text;
    let line_of = |rest: &str| text[..text.len() - rest.len()].matches('\n').count() + 1;
    while !rest.is_empty() {
        let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
        if line.trim().is_empty() || line.trim_start().starts_with('#') {
            rest = after;
            continue;
        }
        let bad = line_of(rest);
        let (name, quoted) = line.split_once('=').ok_or(bad)?;
        if name.is_empty() || name.contains(char::is_whitespace) || !quoted.starts_with('\'') {
            return Err(bad);
        }
        // From behind the opening quote: what is in it may go over lines.
        let inside = &rest[name.len() + 2..];
        let (value, behind) = inside.split_once('\'').ok_or(bad)?;
        let (behind, after) = behind.split_once('\n').unwrap_or((behind, ""));
        if !behind.trim().is_empty() && !behind.trim_start().starts_with('#') {
            return Err(bad);
        }
        if name == key {
            found = Some(value.to_owned());
        }
        rest = after;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_just_what_is_between_the_quotes() {
        let text = "# a comment\n\nA='1'\nB='x y=z #' # more\nC='two\nlines'\nA='2'\nEMPTY=''\n";
        for (key, expected) in [
            ("A", Some("2")),
            ("B", Some("x y=z #")),
            ("C", Some("two\nlines")),
            ("EMPTY", Some("")),
            ("D", None),
        ] {
            assert_eq!(value(text, key), Ok(expected.map(str::to_owned)), "{key}");
        }
    }

    #[test]
    fn what_is_not_as_it_must_be_is_told_by_its_line() {
        for (text, line) in [
            ("A=1", 1),
            ("\nA=\"1\"", 2),
            ("A='1'\nB", 2),
            ("A='1", 1),
            ("A='1' x", 1),
            ("='1'", 1),
            ("A ='1'", 1),
            ("A='1\n2'\nB='", 3),
        ] {
            assert_eq!(value(text, "A"), Err(line), "{text:?}");
        }
    }
}
