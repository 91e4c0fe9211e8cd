//! Kubernetes' validation and its messages.
