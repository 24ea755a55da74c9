//! Reads and writes FlatBuffers tables, bounds-checked.
