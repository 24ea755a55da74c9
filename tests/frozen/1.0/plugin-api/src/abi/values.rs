//! Plain values that cross the border: pointers with a length, never an owner.

#![expect(unsafe_code, reason = "turns pointers of the other side into slices")]

use abi_stable::StableAbi;

use super::numbers;

/// Bytes borrowed for the length of one function call.
#[repr(C)]
#[derive(StableAbi, Debug, Clone, Copy)]
pub struct Bytes {
    data: *const u8,
    len: usize,
}

impl Bytes {
    /// Borrows `bytes`; the receiver may use them only until the function returns.
    pub const fn new(bytes: &[u8]) -> Self {
        Self {
            data: bytes.as_ptr(),
            len: bytes.len(),
        }
    }

    /// The bytes.
    ///
    /// # Safety
    /// The value came from [`Bytes::new`], and what it borrowed from lives as long as `'a`.
    pub const unsafe fn as_slice<'a>(self) -> &'a [u8] {
        // SAFETY: by contract of this function, pointer and length come from one live slice.
        unsafe { std::slice::from_raw_parts(self.data, self.len) }
    }
}

/// What the host found: bytes that live until the end of the call, or why there are none.
#[repr(C)]
#[derive(StableAbi, Debug, Clone, Copy)]
pub struct Found {
    /// One of `ABSENT`, `PRESENT`, `VALUELESS`, `FAILED`.
    pub state: u32,
    bytes: Bytes,
}

impl Found {
    /// Nothing, for the reason `state`.
    pub const fn nothing(state: u32) -> Self {
        Self {
            state,
            bytes: Bytes::new(&[]),
        }
    }

    /// Bytes that live until the end of the call.
    pub const fn present(bytes: &[u8]) -> Self {
        Self {
            state: numbers::PRESENT,
            bytes: Bytes::new(bytes),
        }
    }

    /// The bytes, if there are any.
    ///
    /// # Safety
    /// The value came from the host of a call that lives as long as `'call`.
    pub const unsafe fn value<'call>(self) -> Option<&'call [u8]> {
        if self.state != numbers::PRESENT {
            return None;
        }
        // SAFETY: hosts keep what they hand out alive and unchanged until the end of the call.
        Some(unsafe { self.bytes.as_slice() })
    }
}

/// One entry of a map of the call.
#[repr(C)]
#[derive(StableAbi, Debug, Clone, Copy)]
pub struct FoundEntry {
    /// The name; `ABSENT` behind the last entry.
    pub name: Found,
    /// The value.
    pub value: Found,
}

/// The host's call, opaque to the plugin. Valid while a phase runs, on the thread that runs it.
#[repr(C)]
#[derive(StableAbi, Debug, Clone, Copy)]
pub struct CallPointer {
    /// Known to the host alone.
    pub pointer: *mut (),
}

/// A value of the plugin, opaque to the host: an instance or what `configure` prepared.
#[repr(C)]
#[derive(StableAbi, Debug, Clone, Copy)]
pub struct Handle {
    /// Known to the plugin alone.
    pub pointer: *mut (),
}

impl Handle {
    /// No value.
    pub const NONE: Self = Self {
        pointer: std::ptr::null_mut(),
    };
}

// SAFETY: the values behind a handle are `Send + Sync` by the bounds of the author's trait.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}
