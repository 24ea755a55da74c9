//! End-to-end tests: the real binary, a real socket, real libraries. Every promise is a test named as a sentence.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on panics, and says where"
)]

mod bindings;
mod bodies;
mod calling;
mod calling_bindings;
mod checking;
mod compilers;
mod configuration;
mod control;
mod crash;
mod develop;
mod explaining;
mod failing;
mod for_authors;
mod framing;
mod frozen;
mod hanging;
mod keeping;
mod kong_plugins;
mod laying;
mod limits;
mod listing;
mod load;
mod log_phase;
mod logging;
mod misbehaving;
mod new_plugin;
mod peers_bugs;
mod probe;
mod processes;
mod readme;
mod recycling;
mod refusing;
mod replay;
mod serving;
mod socket;
mod state;
mod state_folder;
mod swapping;
mod takeover;
