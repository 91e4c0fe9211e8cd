//! A tree of nodes made into a Kubernetes type, with every unknown field and every wrong type on the way reported.
//!
//! k8s-openapi's types ignore fields that they do not know, and stop at the first wrong type. They do say which
//! fields a type has when they ask for a struct: that is where unknown ones are found here. And a value of the
//! wrong type is left out in a next round, so that one round finds one wrong type and all rounds find all.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;

use serde::de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, Unexpected, Visitor};

use super::tree::{Entry, Node, Place, Value};

/// What is wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) place: Place,
    pub(super) path: String,
    pub(super) message: String,
}

/// More wrong types than this are not worth another round.
const ROUNDS: usize = 100;

/// Makes a `T`, or says everything that is in the way, in the order of the file.
pub(super) fn decode<T: DeserializeOwned>(root: &Node) -> Result<T, Vec<Problem>> {
    let mut wrong: Vec<Problem> = Vec::new();
    for _ in 0..ROUNDS {
        let round = Round {
            left_out: wrong.iter().map(|p| p.path.clone()).collect(),
            unknown: RefCell::default(),
        };
        let result = T::deserialize(Decoder {
            node: root,
            path: String::new(),
            round: &round,
        });
        match result {
            Ok(value) => {
                wrong.extend(round.unknown.into_inner());
                if wrong.is_empty() {
                    return Ok(value);
                }
                break;
            }
            Err(fault) => {
                let (place, path) = fault.at.unwrap_or((root.place, String::new()));
                let again = round.left_out.contains(&path);
                wrong.push(Problem {
                    place,
                    path,
                    message: fault.message,
                });
                if again {
                    break;
                }
            }
        }
    }
    wrong.sort_by_key(|p| p.place);
    Err(wrong)
}

/// One attempt.
struct Round {
    /// Paths that were found to be of the wrong type before.
    left_out: BTreeSet<String>,
    unknown: RefCell<Vec<Problem>>,
}

/// Why a value does not fit, and where.
#[derive(Debug)]
struct Fault {
    message: String,
    at: Option<(Place, String)>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self {
            message: message.to_string(),
            at: None,
        }
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let expected = match expected.to_string().as_str() {
            "i32" | "i64" => "an integer".to_owned(),
            "a sequence" => "a list".to_owned(),
            other if other.starts_with(char::is_uppercase) => format!("a mapping ({other})"),
            other => other.to_owned(),
        };
        let found = match found {
            Unexpected::Seq => "a list".to_owned(),
            Unexpected::Map => "a mapping".to_owned(),
            Unexpected::Unit => "nothing".to_owned(),
            Unexpected::Str(text) => format!("the string {text:?}"),
            Unexpected::Bool(value) => format!("the boolean {value}"),
            Unexpected::Unsigned(value) => format!("the number {value}"),
            Unexpected::Signed(value) => format!("the number {value}"),
            Unexpected::Float(value) => format!("the number {value}"),
            other => other.to_string(),
        };
        let quote = match (expected.as_str(), found.split_once(' ')) {
            ("a string", Some(("the", _))) => " (put it in quotes)",
            _ => "",
        };
        Self::custom(format_args!("expected {expected}, found {found}{quote}"))
    }
}

struct Decoder<'a> {
    node: &'a Node,
    path: String,
    round: &'a Round,
}

impl<'a> Decoder<'a> {
    fn located<T>(&self, result: Result<T, Fault>) -> Result<T, Fault> {
        result.map_err(|mut fault| {
            fault
                .at
                .get_or_insert_with(|| (self.node.place, self.path.clone()));
            fault
        })
    }

    /// `fields` are those of the struct that is asked for, if it is one.
    fn visit<'de, V: Visitor<'de>>(
        &self,
        visitor: V,
        fields: &'static [&'static str],
    ) -> Result<V::Value, Fault> {
        match &self.node.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Unsigned(value) => visitor.visit_u64(*value),
            Value::Signed(value) => visitor.visit_i64(*value),
            Value::Float(value) => visitor.visit_f64(*value),
            Value::String(value) => visitor.visit_str(value),
            Value::List(list) => visitor.visit_seq(Elements {
                list: list.iter().enumerate(),
                parent: self,
            }),
            Value::Map(entries) => visitor.visit_map(Entries {
                entries,
                position: 0,
                fields,
                parent: self,
            }),
        }
    }

    fn child(&self, node: &'a Node, path: String) -> Decoder<'a> {
        Decoder {
            node,
            path,
            round: self.round,
        }
    }

    fn field(&self, key: &str) -> String {
        match self.path.as_str() {
            "" => key.to_owned(),
            path => format!("{path}.{key}"),
        }
    }

    fn report_unknown(&self, fields: &'static [&'static str]) {
        let Value::Map(entries) = &self.node.value else {
            return;
        };
        for entry in entries.iter().filter(|e| !fields.contains(&e.key.as_str())) {
            let message = match closest(&entry.key, fields) {
                Some(field) => format!("unknown field (did you mean `{field}`?)"),
                None => "unknown field".to_owned(),
            };
            self.round.unknown.borrow_mut().push(Problem {
                place: entry.place,
                path: self.field(&entry.key),
                message,
            });
        }
    }
}

/// The known field that is most like what was written, if one is like it at all.
fn closest(written: &str, fields: &'static [&'static str]) -> Option<&'static str> {
    fields
        .iter()
        .map(|field| {
            let likeness = strsim::normalized_damerau_levenshtein(
                &written.to_lowercase(),
                &field.to_lowercase(),
            );
            (likeness, *field)
        })
        .filter(|(likeness, _)| *likeness >= 0.6)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, field)| field)
}

impl<'de> de::Deserializer<'de> for Decoder<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.located(self.visit(visitor, &[]))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.node.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let at = (self.node.place, self.path.clone());
        visitor.visit_newtype_struct(self).map_err(|mut fault| {
            fault.at.get_or_insert(at);
            fault
        })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.report_unknown(fields);
        self.located(self.visit(visitor, fields))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        seq tuple tuple_struct map enum identifier ignored_any
    }
}

struct Elements<'a> {
    list: std::iter::Enumerate<std::slice::Iter<'a, Node>>,
    parent: &'a Decoder<'a>,
}

impl<'de> de::SeqAccess<'de> for Elements<'_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Fault> {
        for (index, node) in self.list.by_ref() {
            let path = format!("{}[{index}]", self.parent.path);
            if !self.parent.round.left_out.contains(&path) {
                return seed.deserialize(self.parent.child(node, path)).map(Some);
            }
        }
        Ok(None)
    }
}

struct Entries<'a> {
    entries: &'a [Entry],
    /// Of the entry whose value comes next.
    position: usize,
    fields: &'static [&'static str],
    parent: &'a Decoder<'a>,
}

impl Entries<'_> {
    fn path(&self, entry: &Entry) -> String {
        self.parent.field(&entry.key)
    }

    /// What a misspelt field stands for, so that what is in it is looked at too. It is an error in any case.
    fn meant<'k>(&self, key: &'k str) -> &'k str {
        if self.fields.is_empty() || self.fields.contains(&key) {
            return key;
        }
        match closest(key, self.fields) {
            Some(field) if self.entries.iter().all(|e| e.key != field) => field,
            _ => key,
        }
    }
}

impl<'de> de::MapAccess<'de> for Entries<'_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        while let Some(entry) = self.entries.get(self.position) {
            if !self.parent.round.left_out.contains(&self.path(entry)) {
                let key = self.meant(&entry.key);
                return seed.deserialize(key.into_deserializer()).map(Some);
            }
            self.position += 1;
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let Some(entry) = self.entries.get(self.position) else {
            return Err(de::Error::custom("a value without a key"));
        };
        self.position += 1;
        seed.deserialize(self.parent.child(&entry.node, self.path(entry)))
    }
}
