//! Frame ↔ typed message.
