//! Messages of D-Bus, as bytes. Pure.
//!
//! <https://dbus.freedesktop.org/doc/dbus-specification.html>, "Message Protocol". Only what the manager of systemd needs:
//! calls with any values, and of the answers strings and numbers at their beginning.

/// A value, of the types that properties of units have.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub(super) enum Value {
    Byte(u8),
    Bool(bool),
    I16(i16),
    U16(u16),
    I32(i32),
    U32(u32),
    I64(i64),
    U64(u64),
    F64(f64),
    Str(String),
    /// The signature of its elements, and they.
    Array(String, Vec<Value>),
    Struct(Vec<Value>),
    Variant(Box<Value>),
}

impl Value {
    /// `ay`.
    pub(super) fn bytes(bytes: &[u8]) -> Self {
        Self::Array("y".into(), bytes.iter().map(|b| Self::Byte(*b)).collect())
    }

    pub(super) fn signature(&self) -> String {
        let basic = match self {
            Self::Byte(_) => "y",
            Self::Bool(_) => "b",
            Self::I16(_) => "n",
            Self::U16(_) => "q",
            Self::I32(_) => "i",
            Self::U32(_) => "u",
            Self::I64(_) => "x",
            Self::U64(_) => "t",
            Self::F64(_) => "d",
            Self::Str(_) => "s",
            Self::Variant(_) => "v",
            Self::Array(element, _) => return format!("a{element}"),
            Self::Struct(fields) => {
                let fields: String = fields.iter().map(Self::signature).collect();
                return format!("({fields})");
            }
        };
        basic.to_owned()
    }

    fn write(&self, to: &mut Vec<u8>) {
        match self {
            Self::Byte(n) => to.push(*n),
            Self::Bool(b) => number(to, u32::from(*b).to_le_bytes()),
            Self::I16(n) => number(to, n.to_le_bytes()),
            Self::U16(n) => number(to, n.to_le_bytes()),
            Self::I32(n) => number(to, n.to_le_bytes()),
            Self::U32(n) => number(to, n.to_le_bytes()),
            Self::I64(n) => number(to, n.to_le_bytes()),
            Self::U64(n) => number(to, n.to_le_bytes()),
            Self::F64(n) => number(to, n.to_le_bytes()),
            Self::Str(text) => string(to, text),
            Self::Variant(value) => {
                signature(to, &value.signature());
                value.write(to);
            }
            Self::Struct(fields) => {
                pad(to, 8);
                fields.iter().for_each(|field| field.write(to));
            }
            Self::Array(element, values) => {
                number(to, [0; 4]);
                let length_at = to.len() - 4;
                pad(to, alignment(element));
                let start = to.len();
                values.iter().for_each(|value| value.write(to));
                let length = (to.len() - start) as u32;
                to[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
            }
        }
    }
}

/// By the first letter of a signature.
fn alignment(signature: &str) -> usize {
    match signature.as_bytes().first() {
        Some(b'y' | b'g' | b'v') => 1,
        Some(b'n' | b'q') => 2,
        Some(b'x' | b't' | b'd' | b'(') => 8,
        _ => 4,
    }
}

fn pad(to: &mut Vec<u8>, alignment: usize) {
    to.resize(to.len().next_multiple_of(alignment), 0);
}

fn number<const N: usize>(to: &mut Vec<u8>, bytes: [u8; N]) {
    pad(to, N);
    to.extend(bytes);
}

fn string(to: &mut Vec<u8>, text: &str) {
    number(to, (text.len() as u32).to_le_bytes());
    to.extend(text.as_bytes());
    to.push(0);
}

fn signature(to: &mut Vec<u8>, text: &str) {
    to.push(text.len() as u8);
    to.extend(text.as_bytes());
    to.push(0);
}

const METHOD_CALL: u8 = 1;
const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;
const SIGNAL: u8 = 4;

/// Fields of a header.
const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SIGNATURE: u8 = 8;

/// Whom a call goes to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Method<'a> {
    pub(super) destination: &'a str,
    pub(super) path: &'a str,
    pub(super) interface: &'a str,
    pub(super) member: &'a str,
}

/// A call as bytes.
pub(super) fn call(serial: u32, method: Method<'_>, arguments: &[Value]) -> Vec<u8> {
    let mut body = Vec::new();
    arguments
        .iter()
        .for_each(|argument| argument.write(&mut body));
    let mut message = vec![b'l', METHOD_CALL, 0, 1];
    number(&mut message, (body.len() as u32).to_le_bytes());
    number(&mut message, serial.to_le_bytes());
    number(&mut message, [0; 4]);
    let start = message.len();
    for (field, kind, text) in [
        (PATH, "o", method.path),
        (INTERFACE, "s", method.interface),
        (MEMBER, "s", method.member),
        (DESTINATION, "s", method.destination),
    ] {
        pad(&mut message, 8);
        message.push(field);
        signature(&mut message, kind);
        string(&mut message, text);
    }
    if !arguments.is_empty() {
        pad(&mut message, 8);
        message.push(SIGNATURE);
        signature(&mut message, "g");
        let all: String = arguments.iter().map(Value::signature).collect();
        signature(&mut message, &all);
    }
    let length = (message.len() - start) as u32;
    message[start - 4..start].copy_from_slice(&length.to_le_bytes());
    pad(&mut message, 8);
    message.extend(body);
    message
}

/// What is in front of every message: up to the length of the fields of its header.
pub(super) const FIXED: usize = 16;

/// How long a message is whose first [`FIXED`] bytes these are. `None` if it is none, or longer than any that we ask for.
pub(super) fn length(fixed: [u8; FIXED]) -> Option<usize> {
    const MAX: usize = 1 << 20;
    let mut read = Reader::new(&fixed);
    let [order, _, _, version] = read.take::<4>()?;
    let body = read.u32()? as usize;
    read.u32()?;
    let fields = read.u32()? as usize;
    let whole = (FIXED.checked_add(fields)?.checked_next_multiple_of(8)?).checked_add(body)?;
    (order == b'l' && version == 1 && whole <= MAX).then_some(whole)
}

/// A message that has arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Arrived {
    /// The answer to the call of this serial number.
    Return(u32, Vec<u8>),
    /// The same: the error's name and what it says.
    Error(u32, String, String),
    /// A signal: its name.
    Signal(String, Vec<u8>),
    /// Something that nobody asked for.
    Other,
}

/// Reads a whole message. `None` if it is none.
pub(super) fn parse(message: &[u8]) -> Option<Arrived> {
    let mut read = Reader::new(message);
    let [_, kind, _, _] = read.take::<4>()?;
    let body = read.u32()? as usize;
    read.u32()?;
    let fields = read.u32()? as usize;
    let (mut member, mut error, mut reply) = (String::new(), String::new(), 0);
    while read.at < FIXED + fields {
        read.pad(8);
        let [field] = read.take::<1>()?;
        match (field, read.signature()?.as_str()) {
            (MEMBER, "s") => member = read.string()?,
            (ERROR_NAME, "s") => error = read.string()?,
            (REPLY_SERIAL, "u") => reply = read.u32()?,
            (_, "s" | "o") => drop(read.string()?),
            (_, "g") => drop(read.signature()?),
            (_, "u") => drop(read.u32()?),
            _ => return None,
        }
    }
    let body = message.get(message.len().checked_sub(body)?..)?.to_vec();
    Some(match kind {
        METHOD_RETURN => Arrived::Return(reply, body),
        ERROR => {
            let text = Reader::new(&body).string().unwrap_or_default();
            Arrived::Error(reply, error, text)
        }
        SIGNAL => Arrived::Signal(member, body),
        _ => Arrived::Other,
    })
}

/// Reads values one after the other.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn pad(&mut self, alignment: usize) {
        self.at = self.at.next_multiple_of(alignment);
    }

    fn slice(&mut self, length: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(length)?;
        let slice = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(slice)
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.slice(N)?.try_into().ok()
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.pad(4);
        self.take().map(u32::from_le_bytes)
    }

    /// Of type `s` or `o`.
    pub(super) fn string(&mut self) -> Option<String> {
        let length = self.u32()? as usize;
        let text = self.slice(length)?.to_vec();
        self.slice(1)?;
        String::from_utf8(text).ok()
    }

    pub(super) fn signature(&mut self) -> Option<String> {
        let [length] = self.take::<1>()?;
        let text = self.slice(length.into())?.to_vec();
        self.slice(1)?;
        String::from_utf8(text).ok()
    }
}

/// An answer or a signal as bytes.
#[cfg(test)]
pub(super) fn answer(kind: &Arrived, values: &[Value]) -> Vec<u8> {
    let mut body = Vec::new();
    values.iter().for_each(|value| value.write(&mut body));
    let (kind, reply, texts) = match kind {
        Arrived::Return(serial, _) => (METHOD_RETURN, *serial, None),
        Arrived::Error(serial, name, _) => (ERROR, *serial, Some((ERROR_NAME, name))),
        Arrived::Signal(name, _) => (SIGNAL, 0, Some((MEMBER, name))),
        Arrived::Other => (METHOD_CALL, 0, None),
    };
    let mut message = vec![b'l', kind, 0, 1];
    number(&mut message, (body.len() as u32).to_le_bytes());
    number(&mut message, 1u32.to_le_bytes());
    number(&mut message, [0; 4]);
    message.push(REPLY_SERIAL);
    signature(&mut message, "u");
    number(&mut message, reply.to_le_bytes());
    if let Some((field, text)) = texts {
        pad(&mut message, 8);
        message.push(field);
        signature(&mut message, "s");
        string(&mut message, text);
    }
    let length = (message.len() - FIXED) as u32;
    message[FIXED - 4..FIXED].copy_from_slice(&length.to_le_bytes());
    pad(&mut message, 8);
    message.extend(body);
    message
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn body(values: &[Value]) -> Vec<u8> {
        let mut bytes = Vec::new();
        values.iter().for_each(|value| value.write(&mut bytes));
        bytes
    }

    #[test]
    fn values_are_aligned_by_their_type() {
        let bytes = body(&[Value::Byte(1), Value::U32(2), Value::Byte(3), Value::U64(4)]);
        let expected = [
            1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0,
        ];
        assert_eq!(bytes, expected);
        assert_eq!(
            body(&[Value::Str("ab".into())]),
            [2, 0, 0, 0, b'a', b'b', 0]
        );
        // The length of an array is without what aligns its first element.
        let structs = Value::Array("(t)".into(), vec![Value::Struct(vec![Value::U64(7)])]);
        assert_eq!(
            body(&[structs]),
            [8, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0]
        );
        let variant = Value::Variant(Box::new(Value::Bool(true)));
        assert_eq!(body(&[variant]), [1, b'b', 0, 0, 1, 0, 0, 0]);
    }

    #[test]
    fn signatures_are_those_of_their_values() {
        let property = Value::Struct(vec![
            Value::Str("PIDs".into()),
            Value::Variant(Box::new(Value::Array("u".into(), vec![]))),
        ]);
        assert_eq!(property.signature(), "(sv)");
        assert_eq!(Value::Array("s".into(), vec![]).signature(), "as");
        assert_eq!(Value::bytes(&[1]).signature(), "ay");
    }

    #[test]
    fn a_message_is_as_long_as_it_says_and_is_read_again() {
        let method = Method {
            destination: "org.freedesktop.systemd1",
            path: "/org/freedesktop/systemd1",
            interface: "org.freedesktop.systemd1.Manager",
            member: "StopUnit",
        };
        let mut message = call(
            5,
            method,
            &[Value::Str("a.scope".into()), Value::Str("replace".into())],
        );
        let fixed = message[..FIXED].try_into().unwrap();
        assert_eq!(length(fixed), Some(message.len()));
        assert_eq!(parse(&message), Some(Arrived::Other));
        message[1] = SIGNAL;
        let Some(Arrived::Signal(member, body)) = parse(&message) else {
            panic!("no signal");
        };
        assert_eq!(member, "StopUnit");
        let mut body = Reader::new(&body);
        assert_eq!(body.string().unwrap(), "a.scope");
        assert_eq!(body.string().unwrap(), "replace");
        assert_eq!(body.string(), None);
    }

    proptest! {
        #[test]
        fn no_bytes_hurt(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            parse(&bytes);
            if let Ok(fixed) = bytes[..bytes.len().min(FIXED)].try_into() {
                length(fixed);
            }
        }
    }
}
