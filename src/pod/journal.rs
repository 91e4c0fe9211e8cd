//! The pod's append-only journal of events.
