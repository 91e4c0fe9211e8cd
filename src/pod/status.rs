//! The Kubernetes PodStatus, computed from the lifecycle.
