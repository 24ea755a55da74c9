use plugin_api::{Plugin, RawConfig, plugin};

#[derive(Default)]
struct Mine;

#[plugin(priority = "high")]
impl Plugin for Mine {
    type Config = RawConfig;
}

fn main() {}
