//! What a runner reads from the file before any code of a plugin runs.

use plugin_api::abi::metadata::{FIXED, MAGIC, text_len};
use plugin_api::abi::{ABI_MAJOR, ABI_MINOR, Metadata};

#[test]
fn the_text_is_its_parts_one_after_the_other() {
    const PARTS: &[&str] = &["{\"a\":", "", "1}", "ü"];
    assert_eq!(text_len(PARTS), 9);
    let metadata = Metadata::<9>::new(true, PARTS);
    assert!(format!("{metadata:?}").contains(&format!("text: {:?}", "{\"a\":1}ü".as_bytes())));
}

#[test]
fn the_fixed_part_has_the_same_size_whatever_the_text() {
    assert_eq!(size_of::<Metadata<0>>(), FIXED);
    assert_eq!(align_of::<Metadata<0>>(), 4);
    assert_eq!(size_of::<Metadata<4>>(), FIXED + 4);
}

#[test]
fn it_tells_the_version_and_whether_panics_unwind() {
    for unwinds in [true, false] {
        let metadata = format!("{:?}", Metadata::<2>::new(unwinds, &["{}"]));
        for field in [
            format!("magic: {MAGIC:?}"),
            format!("abi_major: {ABI_MAJOR}"),
            format!("abi_minor: {ABI_MINOR}"),
            "text_len: 2".to_owned(),
            format!("unwinds: {}", u8::from(unwinds)),
        ] {
            assert!(metadata.contains(&field), "{field} in {metadata}");
        }
    }
}

#[test]
#[should_panic(expected = "index out of bounds")]
fn a_text_that_does_not_fit_is_no_metadata() {
    let _ = Metadata::<1>::new(true, &["{}"]);
}
