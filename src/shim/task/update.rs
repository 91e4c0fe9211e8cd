//! Update: other limits for a container that runs.

use crate::container;
use crate::shim::pod::{Pod, Reply};
use crate::shim::proto::Empty;
use crate::shim::proto::task::UpdateRequest;
use crate::shim::ttrpc::Status;

impl Pod {
    pub(super) fn update(&mut self, request: UpdateRequest) -> Reply<Empty> {
        let container = self.container(&request.id)?;
        super::lifecycle::must_live(container)?;
        let resources = request
            .resources
            .ok_or_else(|| Status::invalid("resources: required"))?;
        if !resources.name().ends_with("LinuxResources") {
            let why = format!("resources of type {:?}", resources.name());
            return Err(Status::invalid(why));
        }
        let change = serde_json::from_slice(&resources.value)
            .map_err(|e| Status::invalid(format!("resources: {e}")))?;
        container::update(&container.store, &container.id, &change)?;
        Ok(Empty {})
    }
}
