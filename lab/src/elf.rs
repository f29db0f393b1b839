//! The little this crate reads from ELF files: which libraries a program loads
//! and which other modules a kernel module needs.

use object::{Object, ObjectSection, elf, read::elf::ElfFile64, read::elf::FileHeader};

/// Whether a file is an ELF file.
pub(crate) fn is_elf(data: &[u8]) -> bool {
    data.starts_with(&elf::ELFMAG)
}

/// The names of the libraries a program or library loads; none for a static one.
pub(crate) fn needed_libraries(data: &[u8]) -> Result<Vec<String>, object::Error> {
    let header = elf::FileHeader64::<object::Endianness>::parse(data)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, data)?;
    let Some((entries, link)) = sections.dynamic(endian, data)? else {
        return Ok(Vec::new());
    };
    let strings = sections.strings(endian, data, link)?;
    entries
        .iter()
        .filter(|entry| entry.d_tag.get(endian) == elf::DT_NEEDED)
        .map(|entry| {
            let offset = u32::try_from(entry.d_val.get(endian)).unwrap_or(u32::MAX);
            let name = strings.get(offset).unwrap_or_default();
            Ok(String::from_utf8_lossy(name).into_owned())
        })
        .collect()
}

/// The names of the modules that must be loaded before this one.
pub(crate) fn module_depends(data: &[u8]) -> Result<Vec<String>, object::Error> {
    let file = ElfFile64::<object::Endianness>::parse(data)?;
    let information = file.section_by_name_bytes(b".modinfo");
    let content = information.map_or(Ok(&[][..]), |section| section.data())?;
    Ok(depends_in(content))
}

/// Finds `depends=a,b` among the NUL-separated `key=value` pairs of `.modinfo`.
fn depends_in(information: &[u8]) -> Vec<String> {
    information
        .split(|byte| *byte == 0)
        .find_map(|pair| pair.strip_prefix(b"depends="))
        .map(|names| {
            String::from_utf8_lossy(names)
                .split(',')
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
                .collect()
        })
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_test_loads_libc() {
        let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(is_elf(&program));
        let libraries = needed_libraries(&program).unwrap();
        assert!(
            libraries.iter().any(|name| name == "libc.so.6"),
            "{libraries:?}"
        );
    }

    #[test]
    fn what_is_not_elf_is_an_error() {
        assert!(!is_elf(b"#!/bin/sh"));
        assert!(needed_libraries(b"#!/bin/sh").is_err());
        assert!(module_depends(b"\x7fELF").is_err());
    }

    #[test]
    fn module_dependencies_are_split() {
        let information = b"license=GPL\0depends=stp,llc\0name=bridge\0";
        assert_eq!(depends_in(information), ["stp", "llc"]);
        assert!(depends_in(b"depends=\0").is_empty());
        assert!(depends_in(b"").is_empty());
    }
}
