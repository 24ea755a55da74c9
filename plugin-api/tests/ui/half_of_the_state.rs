use plugin_api::{Plugin, RawConfig, State, plugin};

#[derive(Default)]
struct Mine;

#[plugin]
impl Plugin for Mine {
    type Config = RawConfig;

    fn export_state(&self, _: &RawConfig) -> Option<State> {
        None
    }
}

fn main() {}
