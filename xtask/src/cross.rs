//! Building for another processor: which targets there are, what each needs of this machine, and
//! what cargo has to be told.
//!
//! Rust's standard library comes from rustup; C parts of dependencies are compiled by Debian's cross
//! compilers. Static targets are linked by the linker that comes with rustc and the C library that
//! comes with the standard library, so that nothing of the machine gets into them but that compiler's
//! output.

use std::path::{Path, PathBuf};
use std::process::Command;

use ::tests::program;
use anyhow::{Context, Result, bail, ensure};
use rustix::process::geteuid;

use crate::{command, setup, workspace};

/// The emulator of one processor, and where its libraries are looked for.
#[derive(Debug)]
pub(crate) struct Emulator {
    program: &'static str,
    /// Of Debian's cross C library: `-L` of qemu-user. A static program needs none.
    root: Option<&'static str>,
}

/// A target, in rustc's words and in Debian's.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) triple: &'static str,
    /// Debian's name of the architecture.
    pub(crate) debian: &'static str,
    /// Linked statically, with musl; else dynamically, with glibc.
    pub(crate) is_static: bool,
    pub(crate) c_compiler: &'static str,
    /// Debian packages, each with a program or file that it brings.
    packages: &'static [(&'static str, &'static str)],
    /// `None`: this machine runs it.
    emulator: Option<Emulator>,
}

const ARM64_PACKAGES: &[(&str, &str)] = &[
    ("gcc-aarch64-linux-gnu", "aarch64-linux-gnu-gcc"),
    (
        "libc6-dev-arm64-cross",
        "/usr/aarch64-linux-gnu/include/stdio.h",
    ),
];
const ARMHF_PACKAGES: &[(&str, &str)] = &[
    ("gcc-arm-linux-gnueabihf", "arm-linux-gnueabihf-gcc"),
    (
        "libc6-dev-armhf-cross",
        "/usr/arm-linux-gnueabihf/include/stdio.h",
    ),
];

/// All that anything here is built for.
pub(crate) const TARGETS: &[Target] = &[
    Target {
        triple: "aarch64-unknown-linux-musl",
        debian: "arm64",
        is_static: true,
        c_compiler: "aarch64-linux-gnu-gcc",
        packages: ARM64_PACKAGES,
        emulator: Some(Emulator {
            program: "qemu-aarch64-static",
            root: None,
        }),
    },
    Target {
        triple: "armv7-unknown-linux-gnueabihf",
        debian: "armhf",
        is_static: false,
        c_compiler: "arm-linux-gnueabihf-gcc",
        packages: ARMHF_PACKAGES,
        emulator: Some(Emulator {
            program: "qemu-arm-static",
            root: Some("/usr/arm-linux-gnueabihf"),
        }),
    },
    Target {
        triple: "x86_64-unknown-linux-musl",
        debian: "amd64",
        is_static: true,
        // Also where it is the machine's own.
        c_compiler: "x86_64-linux-gnu-gcc",
        packages: &[("gcc", "x86_64-linux-gnu-gcc")],
        emulator: None,
    },
    // Not shipped: what a user of glibc builds; the simulator of power cuts knows it.
    Target {
        triple: "aarch64-unknown-linux-gnu",
        debian: "arm64",
        is_static: false,
        c_compiler: "aarch64-linux-gnu-gcc",
        packages: ARM64_PACKAGES,
        emulator: Some(Emulator {
            program: "qemu-aarch64-static",
            root: Some("/usr/aarch64-linux-gnu"),
        }),
    },
];

/// What ships, in the order in which it is built.
pub(crate) const SHIPPED: [&str; 3] = [
    "aarch64-unknown-linux-musl",
    "armv7-unknown-linux-gnueabihf",
    "x86_64-unknown-linux-musl",
];

impl Target {
    /// By its triple, if it is one of `allowed`.
    pub(crate) fn named(triple: &str, allowed: &[&str]) -> Result<&'static Self> {
        let target = TARGETS.iter().find(|target| target.triple == triple);
        match target {
            Some(target) if allowed.contains(&triple) => Ok(target),
            _ => bail!("--target {triple}; allowed: {}", allowed.join(", ")),
        }
    }

    /// Those of a command line, all of `allowed` if it names none.
    pub(crate) fn chosen(named: &[String], allowed: &[&str]) -> Result<Vec<&'static Self>> {
        if named.is_empty() {
            return allowed.iter().map(|t| Self::named(t, allowed)).collect();
        }
        named.iter().map(|t| Self::named(t, allowed)).collect()
    }

    /// The cross compiler and the standard library: installed as root or in CI, else the line that does it.
    pub(crate) fn prepare_build(&self) -> Result<()> {
        install_missing(self.packages)?;
        self.prepare_std()
    }

    /// As [`Self::prepare_build`], and the emulator.
    pub(crate) fn prepare_run(&self) -> Result<()> {
        if let Some(emulator) = &self.emulator {
            install_missing(&[("qemu-user-static", emulator.program)])?;
        }
        self.prepare_build()
    }

    fn prepare_std(&self) -> Result<()> {
        if self.has_std() {
            return Ok(());
        }
        let triple = self.triple;
        let by_hand = format!(
            "rustc here has no standard library for {triple}; with rustup: rustup target add {triple}. \
             Debian's rustc has none for it: install rustup (Debian package rustup, or rustup.rs)"
        );
        ensure!(may_install() && program::find("rustup").is_some(), by_hand);
        println!("Installing Rust's standard library for {triple}.");
        let mut rustup = Command::new("rustup");
        rustup.args(["target", "add", triple]);
        command::quiet(rustup.current_dir(workspace::root())).with_context(|| by_hand.clone())?;
        ensure!(self.has_std(), by_hand);
        Ok(())
    }

    fn has_std(&self) -> bool {
        let arguments = ["--print", "target-libdir", "--target", self.triple];
        rustc(&arguments).is_ok_and(|path| Path::new(&path).is_dir())
    }

    /// What cargo has to know, as environment variables.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let lower = self.triple.replace('-', "_");
        let upper = lower.to_uppercase();
        let linker = if self.is_static {
            "rust-lld"
        } else {
            self.c_compiler
        };
        let mut variables = vec![
            (format!("CC_{lower}"), self.c_compiler.to_owned()),
            (
                format!("AR_{lower}"),
                self.c_compiler.replace("-gcc", "-ar"),
            ),
            (format!("CARGO_TARGET_{upper}_LINKER"), linker.to_owned()),
        ];
        if self.emulator.is_some() {
            let runner = self.runner().join(" ");
            variables.push((format!("CARGO_TARGET_{upper}_RUNNER"), runner));
        }
        variables
    }

    /// What a program of this target is started with: nothing if this machine runs it.
    pub(crate) fn runner(&self) -> Vec<&'static str> {
        let Some(emulator) = &self.emulator else {
            return Vec::new();
        };
        let mut runner = vec![emulator.program];
        runner.extend(emulator.root.iter().flat_map(|root| ["-L", *root]));
        runner
    }

    /// `Command` for a program of this target.
    pub(crate) fn command(&self, program: &Path) -> Command {
        match self.runner().split_first() {
            Some((emulator, arguments)) => {
                let mut command = Command::new(emulator);
                command.args(arguments).arg(program);
                command
            }
            None => Command::new(program),
        }
    }
}

/// The folder in which cargo puts what it builds for `xtask`, and so what it builds for others.
pub(crate) fn target_folder() -> Result<PathBuf> {
    // <target>/<profile>/xtask
    let own = std::env::current_exe().context("find this program's path")?;
    let folder = own.ancestors().nth(2).context("no target folder")?;
    Ok(folder.to_owned())
}

/// What rustc answers, in the checkout (a toolchain file there counts).
pub(crate) fn rustc(arguments: &[&str]) -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut command = Command::new(rustc);
    command.args(arguments).current_dir(workspace::root());
    let output = command.output().context("run rustc")?;
    ensure!(
        output.status.success(),
        "rustc {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn may_install() -> bool {
    geteuid().is_root() || workspace::is_ci()
}

/// Installs the packages of those pairs whose program or file is not there.
fn install_missing(needed: &[(&'static str, &str)]) -> Result<()> {
    let is_missing = |(_, what): &&(&str, &str)| program::find(what).is_none();
    let missing: Vec<_> = needed.iter().filter(is_missing).map(|(p, _)| *p).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages = missing.join(" ");
    ensure!(
        may_install(),
        "install with: sudo apt-get install {packages}"
    );
    println!("Installing {packages}.");
    setup::install_packages(&missing)
}

#[cfg(test)]
mod tests {
    use super::{SHIPPED, Target};

    #[test]
    fn target_that_is_not_allowed_is_refused_with_those_that_are() {
        let error = Target::named("riscv64gc-unknown-linux-gnu", &SHIPPED).unwrap_err();
        assert_eq!(
            error.to_string(),
            "--target riscv64gc-unknown-linux-gnu; allowed: aarch64-unknown-linux-musl, \
             armv7-unknown-linux-gnueabihf, x86_64-unknown-linux-musl"
        );
        let all = Target::chosen(&[], &SHIPPED).unwrap();
        assert_eq!(all.iter().map(|t| t.triple).collect::<Vec<_>>(), SHIPPED);
        // It exists, and does not ship.
        assert!(Target::named("aarch64-unknown-linux-gnu", &SHIPPED).is_err());
        for triple in SHIPPED {
            assert_eq!(Target::named(triple, &SHIPPED).unwrap().triple, triple);
        }
    }

    #[test]
    fn cargo_is_told_compiler_linker_and_emulator() {
        let armv7 = Target::named(SHIPPED[1], &SHIPPED).unwrap();
        let told = armv7.environment();
        let value = |name: &str| {
            let found = told.iter().find(|(key, _)| key == name);
            found.map(|(_, value)| value.as_str())
        };
        let runner = "qemu-arm-static -L /usr/arm-linux-gnueabihf";
        assert_eq!(
            value("CARGO_TARGET_ARMV7_UNKNOWN_LINUX_GNUEABIHF_RUNNER"),
            Some(runner)
        );
        assert_eq!(
            value("AR_armv7_unknown_linux_gnueabihf"),
            Some("arm-linux-gnueabihf-ar")
        );
        let x86 = Target::named(SHIPPED[2], &SHIPPED).unwrap();
        assert!(
            !x86.environment()
                .iter()
                .any(|(key, _)| key.ends_with("RUNNER"))
        );
    }
}
