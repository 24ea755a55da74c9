//! Bytes ↔ frame.
