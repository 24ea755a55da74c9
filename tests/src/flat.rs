//! A reader of FlatBuffers that shares no code with the runner's, for what the runner sends. It keeps every byte:
//! the generated code refuses strings that are not UTF-8.

/// A table in a buffer.
#[derive(Clone, Copy)]
pub struct Table<'a> {
    buffer: &'a [u8],
    at: usize,
}

impl<'a> Table<'a> {
    /// The root of a payload.
    pub fn root(buffer: &'a [u8]) -> Option<Self> {
        let at = read_u32(buffer, 0)?;
        Some(Self { buffer, at })
    }

    /// Where a field's value is in the buffer; `None` when it is absent.
    pub fn field(&self, number: usize) -> Option<usize> {
        let back = read_u32(self.buffer, self.at)? as u32 as i32;
        let vtable = usize::try_from(i64::try_from(self.at).ok()? - i64::from(back)).ok()?;
        let size = read_u16(self.buffer, vtable)?;
        let entry = 4 + 2 * number;
        if entry + 2 > size {
            return None;
        }
        match read_u16(self.buffer, vtable + entry)? {
            0 => None,
            offset => Some(self.at + offset),
        }
    }

    /// A byte; 0 when it is absent.
    pub fn u8(&self, number: usize) -> u8 {
        let at = self.field(number);
        at.and_then(|at| self.buffer.get(at)).copied().unwrap_or(0)
    }

    /// A number of two bytes; 0 when it is absent.
    pub fn u16(&self, number: usize) -> u16 {
        let at = self.field(number);
        at.and_then(|at| read_u16(self.buffer, at)).unwrap_or(0) as u16
    }

    /// A number of four bytes; 0 when it is absent.
    pub fn u32(&self, number: usize) -> u32 {
        let at = self.field(number);
        at.and_then(|at| read_u32(self.buffer, at)).unwrap_or(0) as u32
    }

    /// A table below this one.
    pub fn table(&self, number: usize) -> Option<Self> {
        let at = self.target(self.field(number)?)?;
        Some(Self { at, ..*self })
    }

    /// A string or a vector of bytes.
    pub fn bytes(&self, number: usize) -> Option<&'a [u8]> {
        let at = self.target(self.field(number)?)?;
        let length = read_u32(self.buffer, at)?;
        self.buffer.get(at + 4..)?.get(..length)
    }

    /// A vector of tables; empty when it is absent.
    pub fn tables(&self, number: usize) -> Vec<Self> {
        let Some(at) = self.field(number).and_then(|at| self.target(at)) else {
            return Vec::new();
        };
        let length = read_u32(self.buffer, at).unwrap_or(0);
        let items = (0..length).map(|index| self.target(at + 4 + 4 * index));
        items.flatten().map(|at| Self { at, ..*self }).collect()
    }

    fn target(&self, at: usize) -> Option<usize> {
        Some(at + read_u32(self.buffer, at)?)
    }
}

fn read_u32(buffer: &[u8], at: usize) -> Option<usize> {
    let bytes = buffer.get(at..)?.first_chunk()?;
    Some(u32::from_le_bytes(*bytes) as usize)
}

fn read_u16(buffer: &[u8], at: usize) -> Option<usize> {
    let bytes = buffer.get(at..)?.first_chunk()?;
    Some(usize::from(u16::from_le_bytes(*bytes)))
}
