#![deny(unused_must_use)]
use plugin_api::{Next, Plugin, RawConfig, Request, Result, plugin};

#[derive(Default)]
struct Mine;

#[plugin]
impl Plugin for Mine {
    type Config = RawConfig;

    fn access(&self, _: &RawConfig, _: &mut Request<'_>) -> Result<Next> {
        Next::respond(401);
        Ok(Next::CONTINUE)
    }
}

fn main() {}
