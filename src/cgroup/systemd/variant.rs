//! Values as text: what an annotation `org.systemd.property.NAME` has, in the text format of GVariant. Pure.
//!
//! <https://docs.gtk.org/glib/gvariant-text-format.html>: numbers with a type before them, strings, and arrays of these.

use super::message::Value;

/// Reads a value: `true`, `'text'`, `uint64 5`, `['a', 'b']`.
///
/// # Errors
/// What is wrong with it.
pub(super) fn parse(text: &str) -> Result<Value, String> {
    let mut rest = text.trim();
    let value = value(&mut rest)?;
    match rest.trim() {
        "" => Ok(value),
        more => Err(format!("{more:?} is too much")),
    }
}

fn value(rest: &mut &str) -> Result<Value, String> {
    *rest = rest.trim_start();
    match rest.chars().next() {
        None => Err("a value is missing".into()),
        Some('[') => array(rest),
        Some(quote @ ('\'' | '"')) => string(rest, quote).map(Value::Str),
        Some(_) => {
            let end = rest.find([',', ']', ' ']).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            *rest = after;
            match word {
                "true" => Ok(Value::Bool(true)),
                "false" => Ok(Value::Bool(false)),
                kind if word.starts_with(|c: char| c.is_ascii_alphabetic()) => {
                    *rest = rest.trim_start();
                    let end = rest.find([',', ']', ' ']).unwrap_or(rest.len());
                    let (text, after) = rest.split_at(end);
                    *rest = after;
                    typed(kind, text)
                }
                number if number.contains('.') => typed("double", number),
                number => typed("int32", number),
            }
        }
    }
}

fn typed(kind: &str, text: &str) -> Result<Value, String> {
    let wrong = || format!("{text:?} is no {kind}");
    Ok(match kind {
        "boolean" => Value::Bool(text.parse().map_err(|_| wrong())?),
        "byte" => Value::Byte(text.parse().map_err(|_| wrong())?),
        "int16" => Value::I16(text.parse().map_err(|_| wrong())?),
        "uint16" => Value::U16(text.parse().map_err(|_| wrong())?),
        "int32" => Value::I32(text.parse().map_err(|_| wrong())?),
        "uint32" => Value::U32(text.parse().map_err(|_| wrong())?),
        "int64" => Value::I64(text.parse().map_err(|_| wrong())?),
        "uint64" => Value::U64(text.parse().map_err(|_| wrong())?),
        "double" => Value::F64(text.parse().map_err(|_| wrong())?),
        other => return Err(format!("{other:?} is no type: uint64 5, for example")),
    })
}

fn string(rest: &mut &str, quote: char) -> Result<String, String> {
    let mut text = String::new();
    let mut chars = rest.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => text.extend(chars.next().map(|(_, c)| c)),
            c if c == quote => {
                *rest = &rest[at + c.len_utf8()..];
                return Ok(text);
            }
            '\0' => return Err("it has a zero byte".into()),
            c => text.push(c),
        }
    }
    Err(format!("it does not end with {quote}"))
}

fn array(rest: &mut &str) -> Result<Value, String> {
    *rest = &rest[1..];
    let mut values: Vec<Value> = Vec::new();
    loop {
        *rest = rest.trim_start();
        if values.is_empty() && rest.starts_with(']') {
            return Err("an array without elements has no type".into());
        }
        let next = value(rest)?;
        if matches!(next, Value::Array(..)) {
            return Err("arrays of arrays are not supported".into());
        }
        if values
            .first()
            .is_some_and(|first| first.signature() != next.signature())
        {
            return Err("an array has elements of one type".into());
        }
        values.push(next);
        *rest = rest.trim_start();
        match rest.chars().next() {
            Some(',') => *rest = &rest[1..],
            Some(']') => {
                *rest = &rest[1..];
                let element = values.first().map(Value::signature).unwrap_or_default();
                return Ok(Value::Array(element, values));
            }
            _ => return Err("an array ends with ]".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_callers_write() {
        let table = [
            ("true", Value::Bool(true)),
            (
                "'inactive-or-failed'",
                Value::Str("inactive-or-failed".into()),
            ),
            (r#""it's \"so\"""#, Value::Str("it's \"so\"".into())),
            ("uint64 123000000", Value::U64(123_000_000)),
            ("-5", Value::I32(-5)),
            ("1.5", Value::F64(1.5)),
            (
                "['a.service', 'b.service']",
                Value::Array(
                    "s".into(),
                    vec![
                        Value::Str("a.service".into()),
                        Value::Str("b.service".into()),
                    ],
                ),
            ),
            (
                "[uint32 1,uint32 2]",
                Value::Array("u".into(), vec![Value::U32(1), Value::U32(2)]),
            ),
        ];
        for (text, value) in table {
            assert_eq!(parse(text), Ok(value), "{text}");
        }
        for bad in [
            "",
            "'",
            "'a",
            "tru",
            "uint64",
            "uint64 -1",
            "[]",
            "[1,'a']",
            "[1",
            "1 2",
            "uint8 1",
            "[[1]]",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_hurts(text in "[\\[\\]'\"\\\\, a-z0-9é-]{0,20}") {
            let _ = parse(&text);
        }
    }
}
