//! criu's protocol on the wire: protocol buffers, of which it needs numbers and bytes. The fields are those of criu's
//! `images/rpc.proto`.

/// A message that is being written.
#[derive(Debug, Clone, Default)]
pub(super) struct Message(Vec<u8>);

const NUMBER: u64 = 0;
const BYTES: u64 = 2;

impl Message {
    /// Adds a number, a boolean among them.
    pub(super) fn number(mut self, field: u64, value: u64) -> Self {
        self.varint(field << 3 | NUMBER);
        self.varint(value);
        self
    }

    /// Adds a descriptor or a pid.
    pub(super) fn int(self, field: u64, value: i32) -> Self {
        // A negative one is sign-extended.
        self.number(field, i64::from(value).cast_unsigned())
    }

    /// Adds `true`; what is not there is false.
    pub(super) fn flag(self, field: u64, value: bool) -> Self {
        match value {
            true => self.number(field, 1),
            false => self,
        }
    }

    /// Adds text, or a message.
    pub(super) fn bytes(mut self, field: u64, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
        self.varint(field << 3 | BYTES);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

impl AsRef<[u8]> for Message {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// A number or a boolean.
    Number(u64),
    /// Text or a message.
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    pub(super) fn as_int(self) -> i32 {
        match self {
            Self::Number(number) => number as i32,
            Self::Bytes(_) => 0,
        }
    }

    pub(super) fn as_bytes(self) -> &'a [u8] {
        match self {
            Self::Number(_) => &[],
            Self::Bytes(bytes) => bytes,
        }
    }
}

/// The fields of a message, in their order; `None` if it is none.
pub(super) fn fields(mut rest: &[u8]) -> Option<Vec<(u64, Value<'_>)>> {
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let key = varint(&mut rest)?;
        let value = match key & 7 {
            NUMBER => Value::Number(varint(&mut rest)?),
            BYTES => {
                let length = usize::try_from(varint(&mut rest)?).ok()?;
                let (bytes, after) = rest.split_at_checked(length)?;
                rest = after;
                Value::Bytes(bytes)
            }
            _ => return None,
        };
        fields.push((key >> 3, value));
    }
    Some(fields)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let inner = Message::default().bytes(1, "post-dump").int(2, 300);
        let message = Message::default()
            .number(1, 6)
            .flag(2, true)
            .flag(3, false)
            .int(4, -1)
            .bytes(5, &inner);
        let fields = fields(message.as_ref()).unwrap();
        assert_eq!(
            fields,
            [
                (1, Value::Number(6)),
                (2, Value::Number(1)),
                (4, Value::Number(u64::MAX)),
                (5, Value::Bytes(inner.as_ref())),
            ]
        );
        assert_eq!(fields[2].1.as_int(), -1);
        // By hand, developers.google.com/protocol-buffers: field 1, varint 150.
        assert_eq!(Message::default().number(1, 150).as_ref(), [8, 0x96, 1]);
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for bad in [
            &[8][..],
            &[8, 0x80],
            &[0x2a, 5, 1],
            &[0x0d, 1, 2, 3, 4],
            &[
                8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1,
            ],
        ] {
            assert_eq!(fields(bad), None, "{bad:?}");
        }
    }
}
