use plugin_api::config;

#[config]
union Config {
    a: u32,
    b: f32,
}

fn main() {}
