//! Says that it was built for an ABI of another major version, and has nothing else in it.

#![expect(unsafe_code, reason = "the section has to be placed by hand")]

// SAFETY: nothing else lies in this section.
#[used]
#[unsafe(link_section = ".plugin_runner")]
static METADATA: [u8; 26] =
    *b"GWPLUGIN\x09\x00\x00\x00\x02\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00{}";
