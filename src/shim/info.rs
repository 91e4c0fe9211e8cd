//! `-info`: what the runtime can do. Without it containerd gives no container a user namespace.

use prost::Message;

use super::NAME;
use super::proto::Any;
use crate::spec;

/// `containerd.types.RuntimeInfo`: api/types/introspection.proto.
#[derive(Clone, PartialEq, Message)]
struct RuntimeInfo {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    version: Option<RuntimeVersion>,
    #[prost(message, optional, tag = "4")]
    features: Option<Any>,
}

#[derive(Clone, PartialEq, Message)]
struct RuntimeVersion {
    #[prost(string, tag = "1")]
    version: String,
    #[prost(string, tag = "2")]
    revision: String,
}

/// The answer, encoded.
pub(super) fn info() -> Vec<u8> {
    let info = RuntimeInfo {
        name: NAME.into(),
        version: Some(RuntimeVersion {
            version: env!("CARGO_PKG_VERSION").into(),
            revision: option_env!("RUNP_COMMIT").unwrap_or_default().into(),
        }),
        features: Some(Any {
            type_url: "types.containerd.io/opencontainers/runtime-spec/1/features/Features".into(),
            value: spec::features().to_string().into_bytes(),
        }),
    };
    info.encode_to_vec()
}
