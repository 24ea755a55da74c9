use plugin_api::{InitContext, Plugin, RawConfig, Result, plugin};

struct Mine;

#[plugin]
impl Plugin for Mine {
    type Config = RawConfig;

    #[needs(request_body)]
    fn init_worker(_: &InitContext) -> Result<Self> {
        Ok(Self)
    }
}

fn main() {}
