use plugin_api::config;

#[config(rename_all = "lowercase")]
struct Config {
    limit: u32,
}

fn main() {}
