//! ttrpc: requests and responses with a header of ten bytes, many under way on one connection.
//!
//! <https://github.com/containerd/ttrpc/blob/main/PROTOCOL.md>. Only unary calls are here: nothing of containerd's that is
//! served streams.

use prost::Message;

/// What a peer may send at most, in bytes.
pub(super) const MAX_MESSAGE: usize = 4 << 20;
/// The length of the data, the stream's id, the kind, the flags.
pub(super) const HEADER: usize = 10;
const REQUEST: u8 = 1;
const RESPONSE: u8 = 2;

#[derive(Clone, PartialEq, Message)]
pub(super) struct Request {
    #[prost(string, tag = "1")]
    pub(super) service: String,
    #[prost(string, tag = "2")]
    pub(super) method: String,
    #[prost(bytes = "vec", tag = "3")]
    pub(super) payload: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Response {
    #[prost(message, optional, tag = "1")]
    pub(super) status: Option<Status>,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) payload: Vec<u8>,
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Status {
    /// A [`Code`].
    #[prost(int32, tag = "1")]
    pub(super) code: i32,
    #[prost(string, tag = "2")]
    pub(super) message: String,
}

/// Of `google.rpc.Code`, those that are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(super) enum Code {
    Unknown = 2,
    InvalidArgument = 3,
    NotFound = 5,
    AlreadyExists = 6,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Unimplemented = 12,
}

impl Status {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code: code as i32,
            message: message.into(),
        }
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(Code::NotFound, message)
    }

    pub(super) fn precondition(message: impl Into<String>) -> Self {
        Self::new(Code::FailedPrecondition, message)
    }
}

/// What the kernel or the library refused.
impl From<crate::error::Error> for Status {
    fn from(error: crate::error::Error) -> Self {
        Self::new(Code::Unknown, error.to_string())
    }
}

/// A frame that has arrived.
#[derive(Debug, PartialEq)]
pub(super) enum Frame {
    Request(u32, Request),
    Response(u32, Response),
    /// One that is not to be understood, and why.
    Bad(u32, Status),
}

/// Takes the first frame from what has arrived. `None` if it has not come whole.
pub(super) fn take(buffer: &mut Vec<u8>) -> Option<Frame> {
    let header = *buffer.first_chunk::<HEADER>()?;
    let [l0, l1, l2, l3, s0, s1, s2, s3, kind, _] = header;
    let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
    let stream = u32::from_be_bytes([s0, s1, s2, s3]);
    if length > MAX_MESSAGE {
        // Nobody knows where the next one begins.
        buffer.clear();
        let why = format!("message of {length} bytes exceeds maximum size of {MAX_MESSAGE}");
        return Some(Frame::Bad(
            stream,
            Status::new(Code::ResourceExhausted, why),
        ));
    }
    let data = buffer.get(HEADER..HEADER + length)?;
    let frame = match kind {
        REQUEST => Request::decode(data).map(|request| Frame::Request(stream, request)),
        RESPONSE => Response::decode(data).map(|response| Frame::Response(stream, response)),
        other => {
            let why = format!("message of type {other}: only unary calls are served");
            Ok(Frame::Bad(stream, Status::new(Code::Unimplemented, why)))
        }
    };
    let frame = frame.unwrap_or_else(|e| Frame::Bad(stream, Status::invalid(e.to_string())));
    buffer.drain(..HEADER + length);
    Some(frame)
}

/// A request as it is sent.
pub(super) fn request(stream: u32, request: &Request) -> Vec<u8> {
    frame(stream, REQUEST, request)
}

/// The response to a request, as it is sent.
pub(super) fn response(stream: u32, result: Result<Vec<u8>, Status>) -> Vec<u8> {
    let response = match result {
        Ok(payload) => Response {
            status: None,
            payload,
        },
        Err(status) => Response {
            status: Some(status),
            payload: Vec::new(),
        },
    };
    frame(stream, RESPONSE, &response)
}

fn frame(stream: u32, kind: u8, message: &impl Message) -> Vec<u8> {
    let length = message.encoded_len();
    let mut frame = Vec::with_capacity(HEADER + length);
    frame.extend((length as u32).to_be_bytes());
    frame.extend(stream.to_be_bytes());
    frame.extend([kind, 0]);
    // Into a vector, which grows.
    message.encode_raw(&mut frame);
    frame
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn some_request() -> Request {
        Request {
            service: "containerd.task.v2.Task".into(),
            method: "State".into(),
            payload: vec![1, 2, 3],
        }
    }

    #[test]
    fn a_request_arrives_in_pieces() {
        let sent = request(7, &some_request());
        let mut buffer = Vec::new();
        for byte in &sent[..sent.len() - 1] {
            buffer.push(*byte);
            assert_eq!(take(&mut buffer), None);
        }
        buffer.extend([sent[sent.len() - 1], 0xff]);
        assert_eq!(take(&mut buffer), Some(Frame::Request(7, some_request())));
        assert_eq!(buffer, [0xff]);
    }

    #[test]
    fn a_message_that_is_too_long_is_refused() {
        let mut buffer = (MAX_MESSAGE as u32 + 1).to_be_bytes().to_vec();
        buffer.extend([0, 0, 0, 5, REQUEST, 0, 1, 2, 3]);
        let Some(Frame::Bad(5, status)) = take(&mut buffer) else {
            panic!("not refused");
        };
        assert_eq!(status.code, Code::ResourceExhausted as i32);
        assert!(buffer.is_empty());
    }

    #[test]
    fn what_is_no_request_is_answered_and_skipped() {
        let mut buffer = vec![0, 0, 0, 2, 0, 0, 0, 3, REQUEST, 0, 0xff, 0xff];
        buffer.extend([0, 0, 0, 1, 0, 0, 0, 4, 9, 0, 0]);
        buffer.extend(request(5, &some_request()));
        let mut next = || take(&mut buffer);
        assert!(matches!(next(), Some(Frame::Bad(3, status)) if status.code == 3));
        assert!(matches!(next(), Some(Frame::Bad(4, status)) if status.code == 12));
        assert!(matches!(next(), Some(Frame::Request(5, _))));
        assert_eq!(next(), None);
    }

    #[test]
    fn an_error_is_a_status() {
        let mut sent = response(3, Err(Status::not_found("no container \"x\"")));
        let Some(Frame::Response(3, response)) = take(&mut sent) else {
            panic!("no response");
        };
        assert_eq!(response.status.unwrap().code, 5);
    }
}
