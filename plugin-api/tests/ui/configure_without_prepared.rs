use plugin_api::{ConfContext, Plugin, RawConfig, Result, plugin};

#[derive(Default)]
struct Mine;

#[plugin]
impl Plugin for Mine {
    type Config = RawConfig;

    fn configure(&self, config: RawConfig, _: &ConfContext) -> Result<RawConfig> {
        Ok(config)
    }
}

fn main() {}
