//! The messages of containerd's shim protocol, as far as they are used: field numbers are those of its `.proto` files.
//!
//! Written down here instead of generated: so no compiler of protocols is needed to build, and nothing is linked that nobody
//! calls. Unknown fields are skipped when a message is read.

pub(super) mod bootstrap;
pub(super) mod cri;
pub(super) mod events;
pub(super) mod metrics;
pub(super) mod options;
pub(super) mod sandbox;
pub(super) mod task;

use prost::Message;

/// `google.protobuf.Any`: a message with its type's name.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Any {
    #[prost(string, tag = "1")]
    pub(super) type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) value: Vec<u8>,
}

impl Any {
    /// With the type's full name, as containerd's `typeurl` writes it.
    pub(super) fn of(name: &str, message: &impl Message) -> Self {
        Self {
            type_url: name.into(),
            value: message.encode_to_vec(),
        }
    }

    /// The type's full name: what is before it in the URL says nothing.
    pub(super) fn name(&self) -> &str {
        self.type_url
            .strip_prefix("type.googleapis.com/")
            .or_else(|| self.type_url.strip_prefix("types.containerd.io/"))
            .unwrap_or(&self.type_url)
    }
}

/// `google.protobuf.Empty`.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Empty {}

/// `google.protobuf.Timestamp`.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Timestamp {
    #[prost(int64, tag = "1")]
    pub(super) seconds: i64,
    #[prost(int32, tag = "2")]
    pub(super) nanos: i32,
}

impl Timestamp {
    /// The present.
    pub(super) fn now() -> Self {
        let now = jiff::Timestamp::now();
        Self {
            seconds: now.as_second(),
            nanos: now.subsec_nanosecond(),
        }
    }
}

/// `containerd.types.Mount`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Mount {
    #[prost(string, tag = "1")]
    pub(super) kind: String,
    #[prost(string, tag = "2")]
    pub(super) source: String,
    #[prost(string, tag = "3")]
    pub(super) target: String,
    #[prost(string, repeated, tag = "4")]
    pub(super) options: Vec<String>,
}
