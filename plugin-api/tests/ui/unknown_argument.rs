use plugin_api::{Plugin, RawConfig, plugin};

#[derive(Default)]
struct Mine;

#[plugin(name = "mine", prio = 7)]
impl Plugin for Mine {
    type Config = RawConfig;
}

fn main() {}
