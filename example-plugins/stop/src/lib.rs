//! Answers every request itself.
