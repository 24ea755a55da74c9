use plugin_api::{Plugin, plugin};

#[derive(Default)]
struct Mine;

#[plugin]
impl Plugin for Mine {}

fn main() {}
