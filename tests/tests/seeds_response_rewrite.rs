//! The seeds of the fuzz target `conf_response_rewrite`: see `seeds.rs`.

use std::fs;
use std::path::Path;

#[allow(
    clippy::unwrap_used,
    unreachable_pub,
    dead_code,
    reason = "the fuzz targets' own source, of which one function is used here"
)]
#[path = "../fuzz/src/text.rs"]
mod text;

#[test]
fn seeds_of_confs_of_response_rewrite_pass() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/conf_response_rewrite");
    let mut count = 0;
    for file in fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        println!("{}", path.display());
        text::conf::<response_rewrite::ResponseRewrite>(&fs::read(path).unwrap());
        count += 1;
    }
    assert!(count >= 3);
}
