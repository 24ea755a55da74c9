//! Looks at a library's bytes before anything opens it: is the file whole, is it for this machine, what does a
//! section hold. Never maps or runs anything, and trusts no number it reads.
//!
//! A truncated file is SIGBUS inside dlopen, so this comes before it.

pub mod dynamic; // what it asks of a machine, and shows to others

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

use object::Endianness;
use object::elf;
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader};
use object::read::{ReadCache, ReadRef};

/// Bytes of an ELF file header (64 bit).
const HEADER: u64 = size_of::<elf::FileHeader64<Endianness>>() as u64;

#[cfg(target_arch = "x86_64")]
const MACHINE: elf::Machine = elf::EM_X86_64;
#[cfg(target_arch = "aarch64")]
const MACHINE: elf::Machine = elf::EM_AARCH64;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("name this architecture's ELF machine number here");

/// Why a file cannot be a library for this machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ElfError {
    /// It does not begin like an ELF file.
    #[error("is not an ELF file")]
    NotElf,
    /// Its tables or segments reach past its end. Also the state of a file that is still being written.
    #[error("is truncated: needs {needs} bytes, has {has}")]
    Truncated {
        /// Bytes that the tables and segments need.
        needs: u64,
        /// Bytes in the file.
        has: u64,
    },
    /// Built for another processor.
    #[error("is built for {found}, this machine is {}", std::env::consts::ARCH)]
    Machine {
        /// The other processor.
        found: String,
    },
    /// An executable or an object file.
    #[error("is {0}, not a shared library (crate-type = [\"cdylib\"])")]
    NotLibrary(&'static str),
    /// The tables contradict themselves.
    #[error("is a damaged ELF file: {0}")]
    Damaged(String),
}

/// Checks that these bytes are a whole shared library for this machine.
///
/// # Errors
/// An [`ElfError`] whose text continues a sentence that began with the file's name.
pub fn check<'d>(bytes: impl ReadRef<'d>) -> Result<(), ElfError> {
    let header = header(bytes)?;
    let endian = header.endian().map_err(damaged)?;
    check_machine(header.e_machine(endian))?;
    if !header.is_class_64() || !header.is_little_endian() {
        let found = "a 32-bit or big-endian processor".to_owned();
        return Err(ElfError::Machine { found });
    }
    match header.e_type(endian) {
        elf::ET_DYN => {}
        elf::ET_REL => return Err(ElfError::NotLibrary("an object file")),
        elf::ET_EXEC => return Err(ElfError::NotLibrary("an executable")),
        _ => return Err(ElfError::NotLibrary("another kind of ELF file")),
    }
    let (needs, has) = (size_needed(header, endian, bytes)?, len(bytes));
    if needs > has {
        return Err(ElfError::Truncated { needs, has });
    }
    Ok(())
}

/// The bytes of the section of this name, or `None` if the file has none (or cannot be read).
pub fn section<'d>(bytes: impl ReadRef<'d>, name: &str) -> Option<&'d [u8]> {
    let header = header(bytes).ok()?;
    let endian = header.endian().ok()?;
    let sections = header.sections(endian, bytes).ok()?;
    let (_, section) = sections.section_by_name(endian, name.as_bytes())?;
    section.data(endian, bytes).ok()
}

fn header<'d>(bytes: impl ReadRef<'d>) -> Result<&'d elf::FileHeader64<Endianness>, ElfError> {
    let has = len(bytes);
    let start = bytes.read_bytes_at(0, HEADER.min(has)).unwrap_or_default();
    let magic = &elf::ELFMAG[..elf::ELFMAG.len().min(start.len())];
    if !start.starts_with(magic) {
        return Err(ElfError::NotElf);
    }
    if has < HEADER {
        let needs = HEADER;
        return Err(ElfError::Truncated { needs, has });
    }
    match start.get(4) {
        Some(2) => elf::FileHeader64::parse(bytes).map_err(damaged),
        _ => Err(ElfError::Machine {
            found: "a 32-bit processor".to_owned(),
        }),
    }
}

fn len<'d>(bytes: impl ReadRef<'d>) -> u64 {
    bytes.len().unwrap_or(0)
}

/// A file for [`check`] and [`section`]: they read its tables, a few kilobytes, and not the whole of it.
pub fn reader(file: &File) -> ReadCache<impl Read + Seek> {
    ReadCache::new(Positioned { file, at: 0 })
}

/// Reads with a position of its own: that of a descriptor belongs to all who have a copy of it.
struct Positioned<'f> {
    file: &'f File,
    at: u64,
}

impl Read for Positioned<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Seek for Positioned<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.file.metadata()?.len().checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

fn check_machine(machine: elf::Machine) -> Result<(), ElfError> {
    if machine == MACHINE {
        return Ok(());
    }
    let found = match machine {
        elf::EM_X86_64 => "x86_64".to_owned(),
        elf::EM_AARCH64 => "aarch64".to_owned(),
        elf::EM_RISCV => "riscv".to_owned(),
        elf::EM_PPC64 => "powerpc64".to_owned(),
        elf::EM_S390 => "s390".to_owned(),
        other => format!("another processor (ELF machine {})", other.0),
    };
    Err(ElfError::Machine { found })
}

/// How long the file has to be for its tables and everything that a loader maps or reads.
fn size_needed<'d>(
    header: &elf::FileHeader64<Endianness>,
    endian: Endianness,
    bytes: impl ReadRef<'d>,
) -> Result<u64, ElfError> {
    let table = |offset: u64, count: u16, size: u16| {
        offset.saturating_add(u64::from(count) * u64::from(size))
    };
    let programs = table(
        header.e_phoff(endian),
        header.e_phnum(endian),
        header.e_phentsize(endian),
    );
    let sections = table(
        header.e_shoff(endian),
        header.e_shnum(endian),
        header.e_shentsize(endian),
    );
    let needs = HEADER.max(programs).max(sections);
    if needs > len(bytes) {
        return Ok(needs); // the tables themselves cannot be read yet
    }
    let segments = header.program_headers(endian, bytes).map_err(damaged)?;
    if !segments.iter().any(|s| s.p_type(endian) == elf::PT_LOAD) {
        return Err(ElfError::Damaged("it has nothing to load".to_owned()));
    }
    let segments = segments
        .iter()
        .filter(|s| s.p_type(endian) != elf::PT_NULL)
        .map(|s| s.p_offset(endian).saturating_add(s.p_filesz(endian)));
    let sections = header.sections(endian, bytes).map_err(damaged)?;
    let sections = sections
        .iter()
        .filter(|s| !matches!(s.sh_type(endian), elf::SHT_NOBITS | elf::SHT_NULL))
        .map(|s| s.sh_offset(endian).saturating_add(s.sh_size(endian)));
    Ok(segments.chain(sections).fold(needs, u64::max))
}

fn damaged(error: object::read::Error) -> ElfError {
    ElfError::Damaged(error.to_string())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// A real shared library: the C library that this test runs on.
    pub(crate) fn some_library() -> Vec<u8> {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let line = maps.lines().find(|l| l.contains("/libc.so")).unwrap();
        std::fs::read(&line[line.find('/').unwrap()..]).unwrap()
    }

    #[test]
    fn a_whole_library_passes_and_its_sections_can_be_read() {
        let library = some_library();
        assert_eq!(check(&*library), Ok(()));
        assert!(section(&*library, ".dynstr").is_some_and(|s| !s.is_empty()));
        assert_eq!(section(&*library, ".plugin_runner"), None);
    }

    #[test]
    fn a_file_is_read_as_its_bytes_are() {
        let library = some_library();
        for len in [0, 3, 63, library.len() / 2, library.len()] {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&library[..len]).unwrap();
            let read = reader(&file);
            assert_eq!(check(&read), check(&library[..len]), "{len} bytes");
            let names = section(&library[..len], ".dynstr");
            assert_eq!(section(&read, ".dynstr"), names, "{len} bytes");
        }
    }

    #[test]
    fn a_library_cut_anywhere_is_truncated() {
        let library = some_library();
        let cuts = (0..200)
            .map(|n| n * library.len() / 200)
            .chain([1, 4, 63, 64]);
        for cut in cuts.chain([library.len() - 1]) {
            let error = check(&library[..cut]).expect_err("a cut library passed");
            assert!(
                matches!(error, ElfError::Truncated { has, .. } if has == cut as u64),
                "cut at {cut}: {error}"
            );
        }
    }

    #[test]
    fn what_is_no_library_is_refused_by_name() {
        assert_eq!(check(&b"#!/bin/sh\n"[..]), Err(ElfError::NotElf));
        let mut other = some_library();
        other[18..20].copy_from_slice(&243u16.to_le_bytes()); // e_machine: RISC-V
        let error = check(&*other).unwrap_err().to_string();
        assert!(error.starts_with("is built for riscv, this machine is "));
        let mut executable = some_library();
        executable[16] = 2; // e_type: ET_EXEC
        let error = check(&*executable).unwrap_err().to_string();
        assert!(error.contains("an executable"), "{error}");
    }

    #[test]
    fn damaged_numbers_never_panic() {
        let library = some_library();
        for at in 0..64 {
            let mut damaged = library.clone();
            damaged[at] ^= 0xff;
            let _ = check(&*damaged);
            let _ = section(&*damaged, ".dynstr");
        }
    }
}
