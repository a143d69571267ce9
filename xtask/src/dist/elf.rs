//! What an ELF file asks of the system that it runs on, and whether that is what was promised.

use anyhow::{Context, Result, bail, ensure};
use object::elf::{
    DT_NEEDED, EM_AARCH64, EM_ARM, EM_X86_64, FileHeader32, FileHeader64, PT_LOAD, SHT_DYNSYM,
};
use object::read::elf::{FileHeader, ProgramHeader, Sym};
use object::{Endianness, FileKind};

use crate::cross::Target;

/// The newest glibc whose symbols may be needed: that of Debian 12 is 2.36, of Ubuntu 22.04 2.35, of
/// RHEL 9 2.34.
pub(super) const GLIBC_MAX: (u32, u32) = (2, 34);

/// Libraries that every system with glibc has.
const LIBRARIES: [&str; 4] = [
    "ld-linux-armhf.so.3",
    "libc.so.6",
    "libgcc_s.so.1",
    "libm.so.6",
];

/// Pages of the Pi 5's kernel. A segment with a smaller alignment is not loaded there.
const PAGE_MAX_BYTES: u64 = 16 * 1024;

/// What is read of a file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// Debian's name of the processor.
    processor: &'static str,
    /// The path of the program that loads it; a static file has none.
    interpreter: Option<String>,
    libraries: Vec<String>,
    /// Symbols of libraries, each with the version that is asked for.
    symbols: Vec<(String, String)>,
    /// The least alignment of what is loaded.
    alignment: u64,
}

impl Facts {
    /// Of a file's bytes.
    pub(super) fn of(bytes: &[u8]) -> Result<Self> {
        let facts = match FileKind::parse(bytes)? {
            FileKind::Elf32 => read::<FileHeader32<Endianness>>(bytes),
            FileKind::Elf64 => read::<FileHeader64<Endianness>>(bytes),
            other => bail!("a file of kind {other:?}, not ELF"),
        };
        facts.context("read an ELF file")
    }

    /// Fails with what is not as promised for the target.
    pub(super) fn check(&self, target: &Target) -> Result<()> {
        ensure!(
            self.processor == target.debian,
            "a file for {}, not {}",
            self.processor,
            target.debian
        );
        ensure!(
            self.alignment >= PAGE_MAX_BYTES || target.debian == "amd64",
            "parts are aligned to {} bytes; systems with pages of {PAGE_MAX_BYTES} do not load that",
            self.alignment
        );
        if target.is_static {
            ensure!(
                self.interpreter.is_none(),
                "asks for a program that loads it"
            );
            let libraries = self.libraries.join(", ");
            ensure!(
                self.libraries.is_empty(),
                "needs {libraries}; is to be static"
            );
        }
        let unknown = |name: &&String| !LIBRARIES.contains(&name.as_str());
        if let Some(library) = self.libraries.iter().find(unknown) {
            bail!("needs {library}; allowed: {}", LIBRARIES.join(", "));
        }
        let too_new = |(_, version): &&(String, String)| glibc(version) > Some(GLIBC_MAX);
        let too_new: Vec<_> = self.symbols.iter().filter(too_new).collect();
        let named = too_new
            .iter()
            .map(|(name, version)| format!("{name} of {version}"));
        let (major, minor) = GLIBC_MAX;
        ensure!(
            too_new.is_empty(),
            "needs {}; nothing newer than GLIBC_{major}.{minor} is promised",
            named.collect::<Vec<_>>().join(", ")
        );
        Ok(())
    }

    /// Names of files that must be in the system's `/lib`: what loads it, and libraries.
    pub(super) fn libraries(&self) -> Vec<&str> {
        let loader = self.interpreter.iter();
        let loader = loader.filter_map(|path| path.rsplit('/').next());
        loader
            .chain(self.libraries.iter().map(String::as_str))
            .collect()
    }

    /// The newest glibc that is needed.
    pub(super) fn glibc(&self) -> Option<(u32, u32)> {
        self.symbols
            .iter()
            .filter_map(|(_, version)| glibc(version))
            .max()
    }
}

/// The numbers of `GLIBC_2.34`.
fn glibc(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.strip_prefix("GLIBC_")?.split('.');
    let mut next = || numbers.next().and_then(|number| number.parse().ok());
    Some((next()?, next().unwrap_or(0)))
}

fn read<Elf: FileHeader<Endian = Endianness>>(bytes: &[u8]) -> Result<Facts> {
    let header = Elf::parse(bytes)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, bytes)?;
    let segments = header.program_headers(endian, bytes)?;
    let loaded = segments.iter().filter(|s| s.p_type(endian) == PT_LOAD);
    let interpreter = segments
        .iter()
        .find_map(|s| s.interpreter(endian, bytes).transpose());
    let interpreter = interpreter.transpose()?;
    let interpreter = interpreter.map(|path| String::from_utf8_lossy(path).into_owned());
    let alignment = loaded.map(|s| s.p_align(endian).into()).min();
    let dynamic = sections.dynamic_table(endian, bytes)?;
    let needed = dynamic.iter().filter(|entry| entry.tag == DT_NEEDED);
    let libraries: Result<Vec<_>, object::Error> = needed
        .map(|entry| Ok(String::from_utf8_lossy(dynamic.string(entry)?).into_owned()))
        .collect();
    let mut symbols = Vec::new();
    if let Some(versions) = sections.versions(endian, bytes)? {
        let table = sections.symbols(endian, bytes, SHT_DYNSYM)?;
        for (index, symbol) in table.enumerate() {
            let version = versions.version_index(endian, index).index();
            if let Some(version) = versions.version(version)?
                && symbol.is_undefined(endian)
            {
                let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
                let name = text(table.symbol_name(endian, symbol)?);
                symbols.push((name, text(version.name())));
            }
        }
    }
    Ok(Facts {
        processor: match header.e_machine(endian) {
            EM_AARCH64 => "arm64",
            EM_ARM => "armhf",
            EM_X86_64 => "amd64",
            _ => "another processor",
        },
        interpreter,
        libraries: libraries?,
        symbols,
        alignment: alignment.unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::{Facts, glibc};
    use crate::cross::{SHIPPED, Target};

    fn target(debian: &str) -> &'static Target {
        let shipped = SHIPPED.iter().map(|t| Target::named(t, &SHIPPED).unwrap());
        shipped.into_iter().find(|t| t.debian == debian).unwrap()
    }

    fn armhf() -> Facts {
        let symbol = |name: &str, version: &str| (name.to_owned(), version.to_owned());
        Facts {
            processor: "armhf",
            interpreter: Some(String::from("/lib/ld-linux-armhf.so.3")),
            libraries: vec![String::from("libc.so.6")],
            symbols: vec![
                symbol("memcpy", "GLIBC_2.4"),
                symbol("__libc_start_main", "GLIBC_2.34"),
                symbol("_Unwind_Resume", "GCC_3.5"),
            ],
            alignment: 65536,
        }
    }

    #[test]
    fn glibc_up_to_the_promised_one_passes_and_a_newer_symbol_is_named() {
        let mut facts = armhf();
        facts.check(target("armhf")).unwrap();
        assert_eq!(facts.glibc(), Some((2, 34)));
        facts
            .symbols
            .push((String::from("strlcpy"), String::from("GLIBC_2.38")));
        assert_eq!(
            facts.check(target("armhf")).unwrap_err().to_string(),
            "needs strlcpy of GLIBC_2.38; nothing newer than GLIBC_2.34 is promised"
        );
        // As a number, not as text.
        assert!(glibc("GLIBC_2.4") < glibc("GLIBC_2.34"));
    }

    #[test]
    fn static_target_may_need_nothing() {
        let facts = Facts {
            processor: "arm64",
            ..armhf()
        };
        let error = facts.check(target("arm64")).unwrap_err().to_string();
        assert_eq!(error, "asks for a program that loads it");
        let facts = Facts {
            interpreter: None,
            ..facts
        };
        let error = facts.check(target("arm64")).unwrap_err().to_string();
        assert_eq!(error, "needs libc.so.6; is to be static");
    }

    #[test]
    fn other_processor_unknown_library_and_small_alignment_are_refused() {
        assert!(armhf().check(target("arm64")).is_err());
        let mut facts = armhf();
        facts.libraries.push(String::from("libssl.so.3"));
        let error = facts.check(target("armhf")).unwrap_err().to_string();
        assert!(error.starts_with("needs libssl.so.3; allowed: "), "{error}");
        let mut facts = armhf();
        facts.alignment = 4096;
        assert!(facts.check(target("armhf")).is_err());
    }

    #[test]
    fn own_program_is_read() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let facts = Facts::of(&own).unwrap();
        let libraries = facts.libraries();
        assert!(libraries.contains(&"libc.so.6"));
        assert!(libraries[0].starts_with("ld-linux"), "{libraries:?}");
        assert!(facts.glibc().is_some());
        assert!(Facts::of(b"#!/bin/sh\n").is_err());
    }
}
