//! A supervisor in the background.
