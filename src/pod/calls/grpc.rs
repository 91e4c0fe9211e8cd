//! `grpc.health.v1.Health/Check` over cleartext HTTP/2 (RFC 9113): one request, and as much of the answer as it takes.
//!
//! The answer's header fields are compressed (HPACK) and are not looked at: that the service is healthy is said in the
//! message itself, and an error has no message.

use std::net::SocketAddr;

use super::Outcome;
use super::http::USER_AGENT;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;

const END_STREAM: u8 = 0x1;
const ACK: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;

/// The longest frame that a peer may send who was not told otherwise, RFC 9113 section 4.2.
const LONGEST: usize = 16_384;

/// All that is to be said: preface, settings, one request on stream 1.
pub(super) fn request(address: SocketAddr, service: &str) -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    frame(&mut bytes, SETTINGS, 0, 0, &[]);
    // Indexed fields of the static table, RFC 7541 appendix A: `:method: POST`, `:scheme: http`.
    let mut headers = vec![0x83, 0x86];
    named(&mut headers, 4, "/grpc.health.v1.Health/Check");
    named(&mut headers, 1, &address.to_string());
    named(&mut headers, 31, "application/grpc");
    named(&mut headers, 58, USER_AGENT);
    headers.push(0x00);
    string(&mut headers, "te");
    string(&mut headers, "trailers");
    frame(&mut bytes, HEADERS, END_HEADERS, 1, &headers);
    // HealthCheckRequest: `string service = 1`.
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        integer(&mut message, service.len());
        message.extend_from_slice(service.as_bytes());
    }
    let mut data = vec![0];
    data.extend_from_slice(&(message.len() as u32).to_be_bytes());
    data.extend_from_slice(&message);
    frame(&mut bytes, DATA, END_STREAM, 1, &data);
    bytes
}

fn frame(bytes: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    bytes.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
}

/// A field whose name is in the static table: literal without indexing.
fn named(headers: &mut Vec<u8>, index: u8, value: &str) {
    match index {
        ..15 => headers.push(index),
        _ => headers.extend_from_slice(&[0x0f, index - 15]),
    }
    string(headers, value);
}

/// Not compressed; none of ours is longer than one byte can say.
fn string(headers: &mut Vec<u8>, text: &str) {
    headers.push(text.len() as u8);
    headers.extend_from_slice(text.as_bytes());
}

/// As protobuf writes one.
fn integer(bytes: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// What has come of the answer.
#[derive(Debug, Default)]
pub(super) struct Answer {
    data: Vec<u8>,
}

impl Answer {
    /// Takes the whole frames out of what was received; gives what is to be said to that, and the end.
    pub(super) fn take(&mut self, received: &mut Vec<u8>, end: bool) -> (Vec<u8>, Option<Outcome>) {
        let mut reply = Vec::new();
        while let Some(header) = received.first_chunk::<9>().copied() {
            let [a, b, c, kind, flags, s @ ..] = header;
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            if length > LONGEST {
                return (reply, Some(failure("it does not speak HTTP/2")));
            }
            if received.len() < 9 + length {
                break;
            }
            let payload: Vec<u8> = received.drain(..9 + length).skip(9).collect();
            let ours = u32::from_be_bytes(s) & 0x7fff_ffff == 1;
            match kind {
                SETTINGS if flags & ACK == 0 => frame(&mut reply, SETTINGS, ACK, 0, &[]),
                PING if flags & ACK == 0 => frame(&mut reply, PING, ACK, 0, &payload),
                DATA if ours => self
                    .data
                    .extend_from_slice(without_padding(&payload, flags)),
                RST_STREAM if ours => return (reply, Some(failure("the call was refused"))),
                GOAWAY => return (reply, Some(failure("the server is going away"))),
                _ => {}
            }
            if ours && matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
                return (reply, Some(self.judge()));
            }
        }
        let over = end.then(|| failure("the connection was closed without an answer"));
        (reply, over)
    }

    /// HealthCheckResponse: `ServingStatus status = 1`, left out when it is UNKNOWN.
    fn judge(&self) -> Outcome {
        let Some((prefix, message)) = self.data.split_first_chunk::<5>() else {
            return failure(
                "the server answered with an error: does it implement grpc.health.v1.Health, and know the service?",
            );
        };
        let status = match (prefix[0], message) {
            (0, []) => "UNKNOWN",
            (0, [0x08, 1, ..]) => return Outcome::Success,
            (0, [0x08, 2, ..]) => "NOT_SERVING",
            (0, [0x08, 3, ..]) => "SERVICE_UNKNOWN",
            _ => "UNKNOWN",
        };
        Outcome::Failure(format!("service unhealthy (responded with {status:?})"))
    }
}

fn without_padding(payload: &[u8], flags: u8) -> &[u8] {
    match payload.split_first() {
        Some((padding, rest)) if flags & PADDED != 0 => {
            let length = rest.len().saturating_sub(usize::from(*padding));
            &rest[..length]
        }
        _ => payload,
    }
}

fn failure(why: &str) -> Outcome {
    Outcome::Failure(format!("rpc error: {why}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn answer(message: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        frame(&mut bytes, SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]);
        frame(&mut bytes, SETTINGS, ACK, 0, &[]);
        frame(&mut bytes, PING, 0, 0, b"12345678");
        frame(&mut bytes, HEADERS, END_HEADERS, 1, &[0x88]);
        let mut data = vec![0, 0, 0, 0, message.len() as u8];
        data.extend_from_slice(message);
        frame(&mut bytes, DATA, 0, 1, &data);
        frame(&mut bytes, HEADERS, END_HEADERS | END_STREAM, 1, &[0x88]);
        bytes
    }

    /// Byte by byte, as the worst network brings it.
    fn of(bytes: &[u8]) -> (Vec<u8>, Option<Outcome>) {
        let (mut answer, mut received, mut replies) = (Answer::default(), Vec::new(), Vec::new());
        for (i, byte) in bytes.iter().enumerate() {
            received.push(*byte);
            let (reply, outcome) = answer.take(&mut received, false);
            replies.extend(reply);
            if let Some(outcome) = outcome {
                assert_eq!(i + 1, bytes.len(), "{outcome:?} too soon");
                return (replies, Some(outcome));
            }
        }
        let (_, outcome) = answer.take(&mut received, true);
        (replies, outcome)
    }

    #[test]
    fn serving_and_nothing_else_is_healthy() {
        assert_eq!(of(&answer(&[8, 1])).1, Some(Outcome::Success));
        for (message, status) in [
            (&[8, 2][..], "NOT_SERVING"),
            (&[8, 3], "SERVICE_UNKNOWN"),
            (&[], "UNKNOWN"),
        ] {
            let text = format!("service unhealthy (responded with {status:?})");
            assert_eq!(of(&answer(message)).1, Some(Outcome::Failure(text)));
        }
        let mut error = Vec::new();
        frame(&mut error, HEADERS, END_HEADERS | END_STREAM, 1, &[0x88]);
        assert!(matches!(of(&error).1, Some(Outcome::Failure(_))));
        let mut other = b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec();
        let (_, refused) = Answer::default().take(&mut other, false);
        assert!(matches!(refused, Some(Outcome::Failure(_))));
        assert!(matches!(
            of(&answer(&[8, 1])[..60]).1,
            Some(Outcome::Failure(_))
        ));
    }

    #[test]
    fn settings_and_pings_are_acknowledged() {
        let mut expected = Vec::new();
        frame(&mut expected, SETTINGS, ACK, 0, &[]);
        frame(&mut expected, PING, ACK, 0, b"12345678");
        assert_eq!(of(&answer(&[8, 1])).0, expected);
    }

    #[test]
    fn a_long_service_name_is_said_whole() {
        let service = "s".repeat(300);
        let bytes = request("127.0.0.1:1".parse().unwrap(), &service);
        let tail = &bytes[bytes.len() - 308..];
        assert_eq!(tail[..8], [0, 0, 0, 1, 47, 0x0a, 0xac, 0x02]);
        assert!(tail[8..].iter().all(|byte| *byte == b's'));
    }

    proptest::proptest! {
        #[test]
        fn no_answer_upsets_it(bytes: Vec<u8>) {
            let mut received = bytes;
            let (_, outcome) = Answer::default().take(&mut received, true);
            proptest::prop_assert!(outcome.is_some());
        }
    }
}
