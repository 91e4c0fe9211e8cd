//! What containerd 2.3 and later send to `start`: api/runtime/bootstrap/v1/bootstrap.proto.

use prost::Message;

use super::Any;

/// `BootstrapParams`.
#[derive(Clone, PartialEq, Message)]
pub(in crate::shim) struct Bootstrap {
    #[prost(string, tag = "1")]
    pub(in crate::shim) instance_id: String,
    #[prost(string, tag = "2")]
    pub(in crate::shim) namespace: String,
    #[prost(string, tag = "5")]
    pub(in crate::shim) containerd_ttrpc_address: String,
    #[prost(message, repeated, tag = "8")]
    pub(in crate::shim) extensions: Vec<Extension>,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::shim) struct Extension {
    #[prost(message, optional, tag = "1")]
    pub(in crate::shim) value: Option<Any>,
}
