//! What measures: the call and its check, the client, the limit, the servers, and what is counted of them. The program
//! `bench` puts it together; `cargo xtask bench` starts that.

pub mod call;
pub mod cases;
pub mod echo;
pub mod guard;
pub mod limit;
pub mod load;
pub mod plot;
pub mod process;
pub mod report;
pub mod rounds;
pub mod server;
pub mod start;
