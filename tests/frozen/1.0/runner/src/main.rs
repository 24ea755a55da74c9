//! Opens a library as the runner of those days did, and runs one request through it: `oldest-runner LIBRARY CONF`.
//! Prints what came out, or `refused:` with the runner's reason.
#![allow(
    dead_code,
    unused_imports,
    reason = "files of the runner that do more than this needs"
)]

mod plugins;

use plugin_api::abi::metadata::SECTION;
use plugin_api::abi::numbers::phase;
use plugin_api::testing::{Instance, Request};
use plugin_api::{Error, Result, serde_json::json};

use plugins::{elf, library, metadata::Metadata};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let said = match &arguments[..] {
        [library, conf] => call(library, conf),
        _ => Err(Error::new("say which library, and its conf")),
    };
    println!(
        "{}",
        said.unwrap_or_else(|error| format!("refused: {error}"))
    );
}

fn call(file: &str, conf: &str) -> Result<String> {
    let bytes = std::fs::read(file)?;
    elf::check(&bytes)?;
    let metadata = Metadata::read(elf::section(&bytes, SECTION).unwrap_or_default())?;
    let about = metadata.check()?;
    let module = library::open(file.as_ref())?;
    let instance = Instance::of_module(module, bits(&about.phases), &json!({}))?;
    let request = Request::post("/", "stop").variable("remote_port", "1234");
    let outcome = instance.conf(conf)?.request(request);
    let Some(answer) = outcome.answer() else {
        return Ok(format!(
            "abi {:?}: went on to {}",
            metadata.abi,
            outcome.path()
        ));
    };
    let body = answer.body().to_string_lossy();
    Ok(format!(
        "abi {:?}: {} {body}",
        metadata.abi,
        answer.status()
    ))
}

fn bits(phases: &[String]) -> u32 {
    let numbers = phases.iter().filter_map(|name| match name.as_str() {
        "rewrite" => Some(phase::REWRITE),
        "access" => Some(phase::ACCESS),
        _ => None,
    });
    numbers.fold(0, |bits, number| bits | 1 << number)
}
