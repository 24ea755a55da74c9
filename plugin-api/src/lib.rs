//! Write API gateway plugins as native libraries with a stable ABI.
