//! Tests only: does what a plugin must not do, as its conf (and its settings, for the start) say. What cannot wait for a
//! conf is a feature of the package.

#[cfg(feature = "crash_in_constructor")]
mod constructor;
#[cfg(not(feature = "wrong_abi"))]
mod plugin;
#[cfg(not(feature = "wrong_abi"))]
mod trouble;
#[cfg(feature = "wrong_abi")]
mod wrong_abi;
