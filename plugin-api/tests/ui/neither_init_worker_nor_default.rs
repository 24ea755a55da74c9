use plugin_api::{Plugin, RawConfig, plugin};

struct Mine;

#[plugin]
impl Plugin for Mine {
    type Config = RawConfig;
}

fn main() {}
