//! The guide: from nothing to a plugin that serves, a chapter each. Text only; its code blocks are compiled and run by
//! this crate's tests. Shell blocks are not run from here: the project's walk (`cargo xtask walk`) and its end-to-end
//! tests run the same commands.
//!
//! 1. [A first plugin](first_plugin)
//! 2. [Phases](phases)
//! 3. [Configuration](configuration)
//! 4. [State of a conf](state)
//! 5. [Calling out](calling_out)
//! 6. [Testing](testing)
//! 7. [Shipping a library](shipping)
//! 8. [Debugging](debugging)
//! 9. [Moving a plugin here](moving), with the tables for [other runners](other_runners) and for [Kong](kong)

#[doc = include_str!("../guide/first-plugin.md")]
pub mod first_plugin {}

#[doc = include_str!("../guide/phases.md")]
pub mod phases {}

#[doc = include_str!("../guide/configuration.md")]
pub mod configuration {}

#[doc = include_str!("../guide/state.md")]
pub mod state {}

#[doc = include_str!("../guide/calling-out.md")]
pub mod calling_out {}

#[doc = include_str!("../guide/testing.md")]
pub mod testing {}

#[doc = include_str!("../guide/shipping.md")]
pub mod shipping {}

#[doc = include_str!("../guide/debugging.md")]
pub mod debugging {}

#[doc = include_str!("../guide/moving.md")]
pub mod moving {}

#[doc = include_str!("../MOVING.md")]
pub mod other_runners {}

#[doc = include_str!("../KONG.md")]
pub mod kong {}
