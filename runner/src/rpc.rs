//! The gateway's socket: listener → connection → frame → message, on which thread a call runs, its deadline.

mod buffers;
mod connection;
mod drain;
mod event_loop;
mod event_loops;
mod exchange;
pub mod hand_over;
mod input;
pub mod large;
mod listener;
mod peer;
mod poller;
mod readiness;
mod rest;
mod run;
pub mod server;
mod serving;
mod task;
mod threads;
mod watchdog;
