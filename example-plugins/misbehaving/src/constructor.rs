//! Crashes as soon as the library is opened.

#![expect(unsafe_code, reason = "a constructor has to be placed by hand")]

// SAFETY: the section holds pointers to functions without arguments.
#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn() = crash;

extern "C" fn crash() {
    crate::trouble::segfault();
}
