use plugin_api::{Next, Plugin, RawConfig, Request, Result, plugin};

#[derive(Default)]
struct Mine;

#[plugin]
impl Plugin for Mine {
    type Config = RawConfig;

    #[needs(response_body)]
    fn access(&self, _: &RawConfig, _: &mut Request<'_>) -> Result<Next> {
        Ok(Next::CONTINUE)
    }
}

fn main() {}
