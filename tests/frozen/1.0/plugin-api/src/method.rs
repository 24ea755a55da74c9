//! Methods of HTTP, by number.

use std::fmt;

/// A method, numbered as APISIX does (protocol: `A6.Method`). One without a number prints as `UNKNOWN`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Method(pub(crate) u8);

const NAMES: [&str; 15] = [
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "DELETE",
    "MKCOL",
    "COPY",
    "MOVE",
    "OPTIONS",
    "PROPFIND",
    "PROPPATCH",
    "LOCK",
    "UNLOCK",
    "PATCH",
    "TRACE",
];

#[expect(missing_docs, reason = "the names say it")]
impl Method {
    pub const GET: Self = Self(0);
    pub const HEAD: Self = Self(1);
    pub const POST: Self = Self(2);
    pub const PUT: Self = Self(3);
    pub const DELETE: Self = Self(4);
    pub const MKCOL: Self = Self(5);
    pub const COPY: Self = Self(6);
    pub const MOVE: Self = Self(7);
    pub const OPTIONS: Self = Self(8);
    pub const PROPFIND: Self = Self(9);
    pub const PROPPATCH: Self = Self(10);
    pub const LOCK: Self = Self(11);
    pub const UNLOCK: Self = Self(12);
    pub const PATCH: Self = Self(13);
    pub const TRACE: Self = Self(14);
}

impl Method {
    /// The name, in capitals.
    pub fn as_str(self) -> &'static str {
        NAMES.get(usize::from(self.0)).copied().unwrap_or("UNKNOWN")
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
