use plugin_api::plugin;

struct Mine;

#[plugin]
impl Mine {
    fn access(&self) {}
}

fn main() {}
