//! End-to-end tests: the real binary, a real socket, real libraries. Every promise is a test named as a sentence.

mod configuration;
mod failing;
mod framing;
mod kong_plugins;
mod listing;
mod log_phase;
mod logging;
mod processes;
mod refusing;
mod replay;
mod serving;
mod socket;
mod swapping;
