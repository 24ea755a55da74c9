use plugin_api::{Plugin, RawConfig, plugin};

#[derive(Default)]
struct Mine<T>(T);

#[plugin]
impl<T: Default> Plugin for Mine<T> {
    type Config = RawConfig;
}

fn main() {}
