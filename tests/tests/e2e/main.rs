//! End-to-end tests: the real binary, a real socket, real libraries. Every promise is a test named as a sentence.

mod failing;
mod framing;
mod logging;
mod replay;
mod serving;
