//! What a library asks of the machine it is opened on, and what it shows to other libraries: its dynamic section and
//! symbols. Reads only what it needs; never maps or runs anything.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use object::Endianness;
use object::elf;
use object::read::elf::{
    Dyn, FileHeader, ProgramHeader, SectionHeader, SectionTable, Sym, VersionTable,
};
use object::read::{Error, ReadRef, SymbolIndex};

type Header = elf::FileHeader64<Endianness>;

/// What the dynamic linker reads of a library.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dynamic {
    /// Its own name for others, if it has one.
    pub soname: Option<String>,
    /// Shared libraries that it needs, in order.
    pub needed: Vec<String>,
    /// Folders in which it wants them looked for.
    pub runpath: Vec<String>,
    /// Library → version → the symbols of that version that it needs.
    pub versions_needed: BTreeMap<String, BTreeMap<String, Vec<String>>>,
    /// Versions that it offers.
    pub versions_offered: BTreeSet<String>,
    /// Symbols that others can see.
    pub exported: Vec<Exported>,
    /// Its thread-local data has to fit into the room that is left at the start of a process.
    pub static_tls: bool,
    /// It wants a stack that can be executed.
    pub executable_stack: bool,
    /// Bytes of debug information.
    pub debug_info: u64,
    /// It has names for debuggers and backtraces.
    pub has_symbol_table: bool,
}

/// A symbol that others can see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// Its name.
    pub name: String,
    /// One for the whole process, whoever loads it how (STB_GNU_UNIQUE).
    pub unique: bool,
    /// The library's own code finds it by name, and may so find another's.
    pub looked_up: bool,
}

impl Dynamic {
    /// Reads a 64-bit ELF file. What contradicts itself is an error, and never a panic.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn read<'data, R: ReadRef<'data>>(data: R) -> Result<Self, Error> {
        let header = Header::parse(data)?;
        let endian = header.endian()?;
        let sections = header.sections(endian, data)?;
        let mut found = Self::default();
        for section in sections.iter() {
            let name = sections.section_name(endian, section)?;
            if name.starts_with(b".debug_") || name.starts_with(b".zdebug_") {
                found.debug_info += section.sh_size(endian);
            }
            found.has_symbol_table |= section.sh_type(endian) == elf::SHT_SYMTAB;
        }
        for segment in header.program_headers(endian, data)? {
            let executable = segment.p_flags(endian).contains(elf::PF_X);
            found.executable_stack |= segment.p_type(endian) == elf::PT_GNU_STACK && executable;
        }
        found.read_section(endian, data, &sections)?;
        found.read_symbols(endian, data, &sections)?;
        Ok(found)
    }

    fn read_section<'data, R: ReadRef<'data>>(
        &mut self,
        endian: Endianness,
        data: R,
        sections: &SectionTable<'data, Header, R>,
    ) -> Result<(), Error> {
        let Some((entries, strings)) = sections.dynamic(endian, data)? else {
            return Ok(());
        };
        let strings = sections.strings(endian, data, strings)?;
        let text = |entry: &elf::Dyn64<Endianness>| -> Result<String, Error> {
            Ok(String::from_utf8_lossy(entry.string(endian, strings)?).into_owned())
        };
        for entry in entries {
            match entry.tag(endian) {
                elf::DT_NULL => break,
                elf::DT_NEEDED => self.needed.push(text(entry)?),
                elf::DT_SONAME => self.soname = Some(text(entry)?),
                elf::DT_RUNPATH | elf::DT_RPATH => {
                    let text = text(entry)?;
                    self.runpath.extend(text.split(':').map(str::to_owned));
                }
                elf::DT_FLAGS => self.static_tls = entry.val(endian) & STATIC_TLS != 0,
                _ => {}
            }
        }
        Ok(())
    }

    fn read_symbols<'data, R: ReadRef<'data>>(
        &mut self,
        endian: Endianness,
        data: R,
        sections: &SectionTable<'data, Header, R>,
    ) -> Result<(), Error> {
        let symbols = sections.symbols(endian, data, elf::SHT_DYNSYM)?;
        let versions = sections.versions(endian, data)?;
        let looked_up = looked_up(endian, data, sections)?;
        for (index, symbol) in symbols.enumerate() {
            let name =
                String::from_utf8_lossy(symbol.name(endian, symbols.strings())?).into_owned();
            if symbol.is_undefined(endian) {
                self.needs(endian, index, name, versions.as_ref())?;
            } else if is_visible(symbol) && !name.is_empty() {
                self.exported.push(Exported {
                    name,
                    unique: symbol.st_bind() == elf::STB_GNU_UNIQUE,
                    looked_up: looked_up.contains(&index.0),
                });
            }
        }
        if let Some((mut definitions, link)) = sections.gnu_verdef(endian, data)? {
            let strings = sections.strings(endian, data, link)?;
            while let Some((_, mut names)) = definitions.next()? {
                if let Some(name) = names.next()? {
                    let name = name.name(endian, strings)?;
                    self.versions_offered
                        .insert(String::from_utf8_lossy(name).into_owned());
                }
            }
        }
        self.forget_weak(endian, data, sections)?;
        Ok(())
    }

    /// The dynamic linker goes on without versions that are marked as weak.
    fn forget_weak<'data, R: ReadRef<'data>>(
        &mut self,
        endian: Endianness,
        data: R,
        sections: &SectionTable<'data, Header, R>,
    ) -> Result<(), Error> {
        let Some((mut files, link)) = sections.gnu_verneed(endian, data)? else {
            return Ok(());
        };
        let strings = sections.strings(endian, data, link)?;
        while let Some((file, mut versions)) = files.next()? {
            let file = String::from_utf8_lossy(file.file(endian, strings)?).into_owned();
            while let Some(version) = versions.next()? {
                if version.vna_flags.get(endian).contains(elf::VER_FLG_WEAK) {
                    let name = String::from_utf8_lossy(version.name(endian, strings)?).into_owned();
                    let of_file = self.versions_needed.get_mut(&file);
                    of_file.map(|versions| versions.remove(&name));
                }
            }
        }
        Ok(())
    }

    fn needs(
        &mut self,
        endian: Endianness,
        index: SymbolIndex,
        name: String,
        versions: Option<&VersionTable<'_, Header>>,
    ) -> Result<(), Error> {
        let Some(versions) = versions else {
            return Ok(());
        };
        let version = versions.version_index(endian, index).index();
        if let Some(version) = versions.version(version)?
            && let Some(file) = version.file()
        {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let of_file = self.versions_needed.entry(text(file)).or_default();
            of_file.entry(text(version.name())).or_default().push(name);
        }
        Ok(())
    }
}

/// DF_STATIC_TLS of DT_FLAGS.
const STATIC_TLS: u64 = 0x10;

fn is_visible(symbol: &elf::Sym64<Endianness>) -> bool {
    let bound = [elf::STB_GLOBAL, elf::STB_WEAK, elf::STB_GNU_UNIQUE].contains(&symbol.st_bind());
    let hidden = [elf::STV_HIDDEN, elf::STV_INTERNAL].contains(&symbol.st_visibility());
    bound && !hidden && symbol.st_type() != elf::STT_SECTION && symbol.st_type() != elf::STT_FILE
}

/// The dynamic symbols that a relocation of the library names.
fn looked_up<'data, R: ReadRef<'data>>(
    endian: Endianness,
    data: R,
    sections: &SectionTable<'data, Header, R>,
) -> Result<HashSet<usize>, Error> {
    let mut all = HashSet::new();
    for section in sections.iter() {
        if let Some((relocations, _)) = section.rela(endian, data)? {
            all.extend(
                relocations
                    .iter()
                    .map(|it| it.r_sym(endian, false) as usize),
            );
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::super::tests::some_library;
    use super::*;

    #[test]
    fn the_c_library_offers_versions_and_symbols() {
        let found = Dynamic::read(some_library().as_slice()).unwrap();
        assert_eq!(found.soname.as_deref(), Some("libc.so.6"));
        assert!(
            found.versions_offered.contains("GLIBC_2.17")
                || found.versions_offered.contains("GLIBC_2.2.5")
        );
        assert!(found.exported.iter().any(|it| it.name == "malloc"));
    }

    #[test]
    fn a_program_needs_versions_of_the_c_library() {
        let own = std::fs::File::open("/proc/self/exe").unwrap();
        let own = object::ReadCache::new(own);
        let found = Dynamic::read(&own).unwrap();
        assert!(found.needed.iter().any(|name| name == "libc.so.6"));
        let versions = &found.versions_needed["libc.so.6"];
        let symbols = versions.values().flatten();
        assert!(symbols.clone().any(|name| name == "write"), "{versions:?}");
        assert!(found.has_symbol_table && found.debug_info > 0);
    }

    #[test]
    fn damaged_bytes_never_panic() {
        let library = some_library();
        for at in (0..4096).step_by(3) {
            let mut damaged = library.clone();
            damaged[at] ^= 0xff;
            let _ = Dynamic::read(damaged.as_slice());
        }
    }
}
