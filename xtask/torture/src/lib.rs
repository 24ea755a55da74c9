//! Everything that can happen to a runner, while a load of calls has every answer checked. The program `torture` shows it;
//! `cargo xtask torture` starts that, and a test runs it shortly.

pub mod builds;
pub mod clients;
pub mod crashes;
pub mod lay;
pub mod ledger;
pub mod report;
pub mod routes;
pub mod runner;
pub mod samples;
pub mod torment;
