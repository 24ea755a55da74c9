//! What an author sees who writes the attributes wrong: the message, and the place it points to.
//!
//! The compiler's own words differ between versions, so this runs with the one that wrote the expectations. After a
//! change on purpose: `TRYBUILD=overwrite cargo test -p gateway-plugin-api --test ui`, and read the difference.

const COMPILER: &str = "rustc 1.95.";

#[test]
fn a_mistake_with_the_attributes_is_explained_where_it_is() {
    let compiler = plugin_api::abi::metadata::RUSTC;
    if !compiler.starts_with(COMPILER) {
        println!("skipped: the expected messages are those of {COMPILER}x, this is {compiler}");
        return;
    }
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
