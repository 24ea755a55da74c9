use plugin_api::{Next, Plugin, RawConfig, Request, Result, plugin};

#[derive(Default)]
struct Mine;

#[plugin]
impl Plugin for Mine {
    type Config = RawConfig;

    fn access(&self, _: &RawConfig, _: Request<'_>) -> Result<Next> {
        Ok(Next::CONTINUE)
    }
}

fn main() {}
