//! The start and life of a pod on one time axis.
