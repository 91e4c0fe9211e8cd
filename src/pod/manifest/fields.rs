//! The table of all fields of a pod's `spec`, made from Kubernetes' own types: none is forgotten, and what is told of it is
//! what is done with it.
//!
//! A type says which fields it has when it is deserialised. So a deserialiser that gives every field something finds
//! all of them; and one that gives just one field something makes a pod that has only that.
#![allow(clippy::unwrap_used)]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use serde::Deserialize;
use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeSeed, IntoDeserializer, Visitor};

use super::support;
use crate::pod::network::Network;

const TABLE: &str = include_str!("fields.md");

/// What a field gets.
#[derive(Clone, Copy)]
struct Given {
    flag: bool,
    text: &'static str,
}

/// What each field is tried with: a text that is nothing in particular, a signal's name, an address.
const TRIES: [Given; 4] = [
    Given {
        flag: true,
        text: "x",
    },
    Given {
        flag: false,
        text: "x",
    },
    Given {
        flag: true,
        text: "SIGTERM",
    },
    Given {
        flag: true,
        text: "127.0.0.1",
    },
];

/// Gives something to the fields on one path, or to all.
#[derive(Clone)]
struct Prober<'a> {
    path: String,
    /// The only path; without one all are shown to `seen`.
    only: Option<&'a str>,
    given: Given,
    seen: &'a RefCell<Vec<String>>,
}

#[derive(Debug)]
struct Fault(String);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

impl<'a> Prober<'a> {
    /// Whether this path is on the way to the only one, or is it.
    fn wants(&self, path: &str) -> bool {
        self.only.is_none_or(|only| {
            let rest = only.strip_prefix(path);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        })
    }

    fn child(&self, path: String) -> Self {
        Self {
            path,
            ..self.clone()
        }
    }
}

macro_rules! give {
    ($($method:ident: $visit:ident($value:expr);)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            let value: fn(&Self) -> _ = $value;
            visitor.$visit(value(&self))
        }
    )*};
}

impl<'de> de::Deserializer<'de> for Prober<'_> {
    type Error = Fault;

    give! {
        deserialize_any: visit_str(|prober| prober.given.text);
        deserialize_bool: visit_bool(|prober| prober.given.flag);
        deserialize_i32: visit_i32(|_| 1);
        deserialize_i64: visit_i64(|_| 1);
        deserialize_str: visit_str(|prober| prober.given.text);
        deserialize_string: visit_str(|prober| prober.given.text);
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.wants(&self.path) {
            true => visitor.visit_some(self),
            false => visitor.visit_none(),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let text = match name {
            "Time" | "MicroTime" => "2026-01-01T00:00:00.000000Z",
            "Quantity" => "1",
            _ => self.given.text,
        };
        let given = Given { text, ..self.given };
        visitor.visit_newtype_struct(Self { given, ..self })
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let path = format!("{}[]", self.path);
        visitor.visit_seq(One(Some(self.child(path))))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_map(OneEntry(Some(Entry("k".to_owned(), self))))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let paths = fields.iter().map(|field| match self.path.as_str() {
            "" => ((*field).to_owned(), *field),
            path => (format!("{path}.{field}"), *field),
        });
        let wanted: Vec<_> = paths.filter(|(path, _)| self.wants(path)).collect();
        if self.only.is_none() {
            let mut seen = self.seen.borrow_mut();
            seen.extend(wanted.iter().map(|(path, _)| path.clone()));
        }
        visitor.visit_map(Fields {
            fields: wanted.into_iter(),
            next: None,
            of: self,
        })
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct
        tuple tuple_struct enum identifier ignored_any
    }
}

struct One<'a>(Option<Prober<'a>>);

impl<'de> de::SeqAccess<'de> for One<'_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Fault> {
        self.0
            .take()
            .map(|prober| seed.deserialize(prober))
            .transpose()
    }
}

struct Entry<'a>(String, Prober<'a>);

impl<'de> de::MapAccess<'de> for OneEntry<'_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        let Some(Entry(key, _)) = &self.0 else {
            return Ok(None);
        };
        let key: StrDeserializer<'_, Fault> = key.as_str().into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        seed.deserialize(self.0.take().unwrap().1)
    }
}

struct OneEntry<'a>(Option<Entry<'a>>);

struct Fields<'a> {
    fields: std::vec::IntoIter<(String, &'static str)>,
    next: Option<String>,
    of: Prober<'a>,
}

impl<'de> de::MapAccess<'de> for Fields<'_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        let Some((path, field)) = self.fields.next() else {
            return Ok(None);
        };
        self.next = Some(path);
        seed.deserialize(field.into_deserializer()).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let path = self.next.take().unwrap();
        seed.deserialize(self.of.child(path))
    }
}

/// All fields of the type, in its own order.
fn all<T: for<'de> Deserialize<'de>>() -> Vec<String> {
    let seen = RefCell::default();
    T::deserialize(Prober {
        path: String::new(),
        only: None,
        given: TRIES[0],
        seen: &seen,
    })
    .unwrap();
    seen.into_inner()
}

/// A pod with just this field.
fn with(path: &str, given: Given) -> Pod {
    let seen = RefCell::default();
    let prober = Prober {
        path: String::new(),
        only: Some(path),
        given,
        seen: &seen,
    };
    Pod {
        spec: Some(PodSpec::deserialize(prober).unwrap()),
        ..Pod::default()
    }
}

/// What is done with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Treatment {
    Done,
    Warned,
    Refused,
    /// It depends on the network.
    Network,
}

fn treatment(path: &str, given: Given) -> Treatment {
    let pod = with(path, given);
    let support = support::check(&pod, &Network::None);
    let connected = Network::Pasta {
        program: "pasta".into(),
    };
    if !support.refused().is_empty() && support::check(&pod, &connected).refused().is_empty() {
        Treatment::Network
    } else if !support.refused().is_empty() {
        Treatment::Refused
    } else if !support.warnings().is_empty() {
        Treatment::Warned
    } else {
        Treatment::Done
    }
}

/// In words; a flag may be refused or warned about only where it is set, or only where it is not, and a text only if it is
/// not one of some.
fn told(path: &str) -> String {
    // It is Kubernetes that says no: they cannot be in a new pod.
    if path.starts_with("ephemeralContainers") {
        return "refused, as by Kubernetes".to_owned();
    }
    let found = TRIES.map(|given| match treatment(path, given) {
        Treatment::Done => "done",
        Treatment::Warned => "no effect, with a warning",
        Treatment::Refused => "refused",
        Treatment::Network => "done with `--network` `host`, `cni` and `pasta`, else refused",
    });
    match found {
        [a, b, c, d] if a == b && b == c && c == d => a.to_owned(),
        [yes, no, ..] if yes != no => format!("`true`: {yes}; `false`: {no}"),
        [a, _, c, d] => format!("some values {}, others {a}", if c == a { d } else { c }),
    }
}

/// The table: what is below a field that is not done, is not done either.
fn table() -> String {
    let mut rows: Vec<(String, String)> = Vec::new();
    let mut seen: BTreeMap<String, ()> = BTreeMap::new();
    for path in all::<PodSpec>() {
        // They have the fields of apps.
        if path.starts_with("initContainers[]") {
            continue;
        }
        let above = |row: &(String, String)| {
            let below = path.strip_prefix(&row.0);
            row.1 != "done" && below.is_some_and(|rest| rest.starts_with(['.', '[']))
        };
        if rows.iter().any(above) || seen.insert(path.clone(), ()).is_some() {
            continue;
        }
        let told = told(&path);
        rows.push((path, told));
    }
    let rows = rows
        .iter()
        .map(|(path, told)| format!("| `{path}` | {told} |\n"));
    let head = "# Every field of a pod's `spec`\n\n\
        Made from Kubernetes' types by a test (`fields.rs`), which holds it to what the code does. What is \"done\" works as in\n\
        Kubernetes, as far as one machine can; what is refused is named in an error, with its line. `initContainers` have the\n\
        fields of `containers`. `seLinuxOptions` have no effect where SELinux is off. A field that is not here is none of\n\
        Kubernetes' and refused.\n\n\
        | field | |\n| --- | --- |\n";
    head.to_owned() + &rows.collect::<String>()
}

#[test]
fn the_table_of_fields_is_what_the_types_and_the_code_say() {
    let table = table();
    if std::env::var_os("RUNP_WRITE_FIELDS").is_some() {
        std::fs::write(
            concat!(env!("CARGO_MANIFEST_DIR"), "/src/pod/manifest/fields.md"),
            &table,
        )
        .unwrap();
        return;
    }
    for (number, (line, expected)) in TABLE.lines().zip(table.lines()).enumerate() {
        assert_eq!(
            line,
            expected,
            "line {} of fields.md: RUNP_WRITE_FIELDS=1 writes it anew",
            number + 1
        );
    }
    assert_eq!(TABLE.len(), table.len());
}

#[test]
fn all_fields_are_found() {
    let fields = all::<PodSpec>();
    for path in [
        "containers[].env[].valueFrom.fileKeyRef.optional",
        "volumes[].projected.sources[].serviceAccountToken.path",
        "affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[].topologyKey",
        "securityContext.sysctls[].name",
        "topologySpreadConstraints[].labelSelector.matchLabels",
    ] {
        assert!(fields.iter().any(|field| field == path), "{path}");
    }
    let top = fields.iter().filter(|field| !field.contains('.')).count();
    assert_eq!(
        top, 43,
        "as many as PodSpec has in this version of Kubernetes"
    );
}
