//! A call walks down this list; its reply walks back up.

pub mod plugins;
pub mod request; // which plugins run, in what order, and what they decided
pub mod rpc; // socket → frames → typed messages, on which thread a call runs, its deadline
pub mod supervise; // who keeps the worker alive: processes, signals, tokens, logs, libraries on disk // load, check, configure, call and replace plugin code

// Around them:
pub mod cli;
pub mod config;
pub mod dev;
pub mod exit;
pub mod telemetry;
