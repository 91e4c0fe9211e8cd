//! What is accepted as a manifest; refuses the rest by field.
