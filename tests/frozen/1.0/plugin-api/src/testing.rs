//! Runs a plugin's phases in its own tests, without a runner or a gateway. Cargo feature `testing`.
//!
//! The plugin goes through the same entry points as in a runner: its conf is read from JSON, panics are caught, and
//! what a gateway would mistreat is refused by the same rules.
//!
//! ```toml
//! [dev-dependencies]
//! gateway-plugin-api = { version = "1", features = ["testing"] }
//! ```
//!
//! ```standalone_crate
//! # use plugin_api::{Next, Plugin, Request, Result, config, plugin};
//! # #[config] struct Config { key: String }
//! # #[derive(Default)] struct Guard;
//! # #[plugin(name = "guard", version = "1.0.0")]
//! # impl Plugin for Guard {
//! #     type Config = Config;
//! #     fn access(&self, config: &Config, request: &mut Request<'_>) -> Result<Next> {
//! #         match request.header("x-key") {
//! #             Some(key) if key == config.key.as_str() => Ok(Next::CONTINUE),
//! #             _ => Next::respond(401).text("no key\n").into(),
//! #         }
//! #     }
//! # }
//! use plugin_api::testing;
//!
//! # fn main() -> Result<()> {
//! let guard = testing::conf::<Guard>(r#"{"key": "secret"}"#)?;
//! assert!(guard.access(testing::Request::get("/").header("X-Key", "secret")).continues());
//! assert_eq!(guard.access(testing::Request::get("/")).answer().unwrap().status(), 401);
//! # Ok(())
//! # }
//! ```

mod call;
mod conf;
mod events;
mod host;
mod outcome;
mod request;
mod response;

pub use conf::{Conf, Instance, conf};
pub use events::Event;
pub use outcome::{Answer, Outcome};
pub use request::Request;
pub use response::Response;
