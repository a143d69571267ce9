//! One binary: built so that the same sources give the same bytes, and looked at before it is given out.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::elf::Facts;
use crate::cross::{self, Target};
use crate::{command, workspace};

/// Where sources lie on the machine that builds, and the names that stand for them in the binary.
#[derive(Debug)]
pub(super) struct Places {
    renamed: Vec<(PathBuf, String)>,
    /// Not renamed by the compiler, and not to be found in the binary either.
    forbidden: Vec<PathBuf>,
}

impl Places {
    /// Of this machine. Dependencies must have been fetched.
    pub(super) fn here() -> Result<Self> {
        let cargo_home = env::var_os("CARGO_HOME").map(PathBuf::from);
        let cargo_home = cargo_home
            .or_else(|| env::home_dir().map(|home| home.join(".cargo")))
            .context("no cargo home: set CARGO_HOME")?;
        let mut renamed = vec![(workspace::root(), String::from("/tidegate"))];
        let registries = cargo_home.join("registry/src");
        let entries = std::fs::read_dir(&registries);
        for entry in entries.with_context(|| format!("list {}", registries.display()))? {
            renamed.push((entry?.path(), String::from("/cargo")));
        }
        // Where the sources of the standard library are installed, rustc names them; else its own name
        // for them is in the binary: this one.
        let sysroot = PathBuf::from(cross::rustc(&["--print", "sysroot"])?);
        let version = cross::rustc(&["-vV"])?;
        let commit = version
            .lines()
            .find_map(|line| line.strip_prefix("commit-hash: "));
        let name = format!("/rustc/{}", commit.unwrap_or("unknown"));
        renamed.push((sysroot.join("lib/rustlib/src/rust"), name));
        let forbidden = vec![
            cargo_home,
            sysroot,
            workspace::root(),
            cross::target_folder()?,
        ];
        Ok(Self { renamed, forbidden })
    }

    fn rust_flags(&self, target: &Target) -> String {
        let flag =
            |(from, to): &(PathBuf, String)| format!("--remap-path-prefix={}={to}", from.display());
        let mut flags: Vec<_> = self.renamed.iter().map(flag).collect();
        if !target.is_static {
            // Debian's linker of armhf aligns to pages of 4 KiB; rustc's own aligns to 64 KiB.
            flags.push(String::from("-Clink-arg=-Wl,-z,max-page-size=65536"));
        }
        // What cargo divides arguments by in this variable.
        flags.join("\x1f")
    }

    fn c_flags(&self) -> String {
        let flag =
            |(from, to): &(PathBuf, String)| format!("-ffile-prefix-map={}={to}", from.display());
        self.renamed.iter().map(flag).collect::<Vec<_>>().join(" ")
    }

    /// Fails if a path of this machine is in the binary.
    fn check(&self, binary: &[u8]) -> Result<()> {
        for path in &self.forbidden {
            let path = path.as_os_str().as_encoded_bytes();
            if let Some(at) = binary.windows(path.len()).position(|window| window == path) {
                let rest = binary.iter().skip(at).take(120).copied();
                let text: Vec<u8> = rest.take_while(u8::is_ascii_graphic).collect();
                bail!(
                    "a path of this machine is in the binary, at {at:#x}: {}",
                    String::from_utf8_lossy(&text)
                );
            }
        }
        Ok(())
    }
}

/// A binary that is as promised.
pub(super) struct Built {
    pub(super) target: &'static Target,
    pub(super) bytes: Vec<u8>,
    pub(super) facts: Facts,
}

/// Builds with profile `dist` and checks what came out.
pub(super) fn build(target: &'static Target, places: &Places, epoch: u64) -> Result<Built> {
    let bytes = compile(target, places, epoch, true)?;
    let facts = Facts::of(&bytes)?;
    let promised = facts.check(target).and_then(|()| places.check(&bytes));
    promised.with_context(|| format!("the binary for {}", target.triple))?;
    Ok(Built {
        target,
        bytes,
        facts,
    })
}

/// The binary's bytes; with its symbols, for measuring, if it is not to be stripped.
pub(super) fn compile(
    target: &Target,
    places: &Places,
    epoch: u64,
    strip: bool,
) -> Result<Vec<u8>> {
    let folder = cross::target_folder()?;
    let mut cargo = workspace::cargo();
    cargo
        .args([
            "build",
            "--locked",
            "--package",
            "tidegate",
            "--profile",
            "dist",
        ])
        .args(["--target", target.triple, "--target-dir"])
        .arg(&folder)
        .envs(target.environment())
        // Flags of whoever calls would be in the binary and in no record.
        .env_remove("RUSTFLAGS")
        .env("CARGO_ENCODED_RUSTFLAGS", places.rust_flags(target))
        .env(
            format!("CFLAGS_{}", target.triple.replace('-', "_")),
            places.c_flags(),
        )
        .env("SOURCE_DATE_EPOCH", epoch.to_string());
    if !strip {
        cargo.env("CARGO_PROFILE_DIST_STRIP", "none");
    }
    let triple = target.triple;
    ensure!(
        command::cargo(&mut cargo)?,
        "tidegate does not compile for {triple}"
    );
    super::read(&folder.join(triple).join("dist/tidegate"))
}

/// Dependencies, so that [`Places::here`] knows where they are.
pub(super) fn fetch() -> Result<()> {
    let fetched = command::cargo(workspace::cargo().args(["fetch", "--locked"]))?;
    ensure!(
        fetched,
        "dependencies cannot be fetched (is there network?)"
    );
    Ok(())
}

/// Seconds since 1970 that stand for "now" in everything that is made: `SOURCE_DATE_EPOCH`, else the
/// time of the last commit.
pub(crate) fn epoch() -> Result<u64> {
    if let Ok(given) = env::var("SOURCE_DATE_EPOCH") {
        let seconds = given.parse();
        return seconds.with_context(|| {
            format!("SOURCE_DATE_EPOCH={given}; allowed: whole seconds since 1970")
        });
    }
    let time = git(&["log", "-1", "--format=%ct"]);
    time.and_then(|time| Ok(time.parse()?))
        .context("no git history here: set SOURCE_DATE_EPOCH")
}

/// What git answers in the checkout.
pub(super) fn git(arguments: &[&str]) -> Result<String> {
    output(
        Command::new("git")
            .args(arguments)
            .current_dir(workspace::root()),
    )
}

/// What a program prints, without white space around it.
pub(super) fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("run {name}"))?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name}: {}", error.trim());
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The folder of what Debian's cross compiler brings of a target, for what a dynamic binary needs.
pub(super) fn cross_libraries(target: &Target) -> PathBuf {
    let compiler = Path::new(target.c_compiler).display().to_string();
    PathBuf::from("/usr")
        .join(compiler.trim_end_matches("-gcc"))
        .join("lib")
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::Places;
    use crate::cross::{SHIPPED, Target};

    fn places() -> Places {
        Places {
            renamed: vec![(
                PathBuf::from("/build/me/tidegate"),
                String::from("/tidegate"),
            )],
            forbidden: vec![PathBuf::from("/build/me/.cargo")],
        }
    }

    #[test]
    fn path_of_the_machine_in_the_binary_is_refused_and_shown() {
        places().check(b"\x7fELF /tidegate/src /build/you").unwrap();
        let error = places()
            .check(b"\0\0/build/me/.cargo/x/lib.rs\0more")
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "a path of this machine is in the binary, at 0x2: /build/me/.cargo/x/lib.rs"
        );
    }

    #[test]
    fn both_compilers_are_told_the_names_of_places() {
        let [arm64, armhf] = [SHIPPED[0], SHIPPED[1]].map(|t| Target::named(t, &SHIPPED).unwrap());
        assert_eq!(
            places().rust_flags(arm64),
            "--remap-path-prefix=/build/me/tidegate=/tidegate"
        );
        let flags = places().rust_flags(armhf);
        assert!(
            flags.ends_with("\x1f-Clink-arg=-Wl,-z,max-page-size=65536"),
            "{flags}"
        );
        assert_eq!(
            places().c_flags(),
            "-ffile-prefix-map=/build/me/tidegate=/tidegate"
        );
    }
}
