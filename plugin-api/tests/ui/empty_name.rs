use plugin_api::{Plugin, RawConfig, plugin};

#[derive(Default)]
struct Mine;

#[plugin(name = "")]
impl Plugin for Mine {
    type Config = RawConfig;
}

fn main() {}
