//! What happens to one request: which plugins run, in what order, and what they decided.

pub mod assign;
pub mod service;
