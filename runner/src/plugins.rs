//! Whose code runs: load, check, configure, call and replace plugin code.
//!
//! `metadata` and `compat` decide, `library` opens, `instance` calls, `generation` is one loaded build,
//! `registry` says which one serves, `pace` where it may run.

pub mod blame;
pub mod compat;
pub mod elf;
pub mod generation;
pub mod instance;
pub mod library;
pub mod metadata;
pub mod pace;
pub mod registry;
pub mod retire;
pub mod schema;
pub mod tally;

#[cfg(test)]
pub(crate) mod tests {
    pub(crate) mod fake;
}
