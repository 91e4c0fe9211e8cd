//! Protobuf by hand: what is tested must not be what tests it.

/// A field of a protobuf message: bytes, or a string, or a message.
pub(super) fn field(number: u8, bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    let mut field = vec![number << 3 | 2];
    field.extend(varint(bytes.len() as u64));
    field.extend(bytes);
    field
}

pub(super) fn number(field: u8, value: u64) -> Vec<u8> {
    [vec![field << 3], varint(value)].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// What a message's field holds.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Number(u64),
    Bytes(Vec<u8>),
}

pub(super) fn decode(mut bytes: &[u8]) -> Vec<(u64, Value)> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = take_varint(&mut bytes);
        let value = match key & 7 {
            0 => Value::Number(take_varint(&mut bytes)),
            2 => {
                let length = take_varint(&mut bytes) as usize;
                let (value, rest) = bytes.split_at(length);
                bytes = rest;
                Value::Bytes(value.to_vec())
            }
            other => panic!("wire type {other}"),
        };
        fields.push((key >> 3, value));
    }
    fields
}

fn take_varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = bytes[0];
        *bytes = &bytes[1..];
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}

pub(super) fn number_of(fields: &[(u64, Value)], wanted: u64) -> u64 {
    let found = fields.iter().find(|(field, _)| *field == wanted);
    match found {
        Some((_, Value::Number(number))) => *number,
        _ => 0,
    }
}

/// The bytes of a field; none if it is not there.
pub(super) fn bytes_of(fields: &[(u64, Value)], wanted: u64) -> Vec<u8> {
    let found = fields.iter().find(|(field, _)| *field == wanted);
    match found {
        Some((_, Value::Bytes(bytes))) => bytes.clone(),
        _ => Vec::new(),
    }
}
