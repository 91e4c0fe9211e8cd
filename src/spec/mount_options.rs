//! Mount options: one table, each row with its meaning.
