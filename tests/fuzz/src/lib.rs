//! What the fuzz targets do with their input. Ordinary tests run the same functions on the seeds (`tests/seeds*.rs`),
//! so that a seed of a fault found once is checked for ever.
//!
//! A function here returns, or panics because something is wrong. It never touches the network, and of files only a
//! temporary one.

pub mod frames;
pub mod library;
pub mod messages;
pub mod received;
pub mod replies;
pub mod text;
