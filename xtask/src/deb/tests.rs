//! Of what goes into the package.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::control::{self, Version};
use super::notices::indented;
use super::of_architecture;
use super::staging::Staging;

#[test]
fn versions_are_dpkgs_and_others_are_refused_with_what_is_allowed() {
    for good in ["0.1.0-1", "1.2.3~rc1-1", "0.1.0+git5-1~bpo12"] {
        assert_eq!(Version::parse(good).unwrap().to_string(), good);
    }
    for bad in [
        "",
        "0.1.0",
        "v0.1.0-1",
        "0.1.0-",
        "0.1 0-1",
        "0.1.0-1/2",
        "1:0.1.0-1",
    ] {
        let error = Version::parse(bad).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("--version {bad}; allowed: ")),
            "{error}"
        );
    }
    let version = Version::of_workspace().unwrap().to_string();
    assert!(version.ends_with("-1"), "{version}");
}

#[test]
fn architecture_decides_what_the_package_needs() {
    let version = Version::parse("0.1.0-1").unwrap();
    let control = |arch| control::control(of_architecture(arch).unwrap(), &version, 1025);
    assert!(control("arm64").contains("\nArchitecture: arm64\n"));
    assert!(control("arm64").contains("\nDepends: systemd (>= 247)\n"));
    assert!(control("armhf").contains("\nDepends: systemd (>= 247), libc6 (>= 2.34), libgcc-s1\n"));
    assert!(control("amd64").contains("\nInstalled-Size: 2\n"));
    let error = of_architecture("sparc")
        .map(|_| ())
        .unwrap_err()
        .to_string();
    assert_eq!(error, "--arch sparc; allowed: arm64, armhf, amd64");
}

#[test]
fn control_files_are_about_what_is_staged() {
    let folder = tempfile::tempdir().unwrap();
    let staging = Staging::new(folder.path()).unwrap();
    staging.file("usr/bin/tidegate", "program", 0o755).unwrap();
    staging
        .file("etc/tidegate/tidegate.toml", "", 0o640)
        .unwrap();
    staging.folder_mode("etc/tidegate", 0o750).unwrap();
    let version = Version::parse("0.1.0-1").unwrap();
    control::write(&staging, of_architecture("arm64").unwrap(), &version).unwrap();
    let read = |path: &str| fs::read_to_string(folder.path().join(path)).unwrap();
    assert_eq!(read("DEBIAN/conffiles"), "/etc/tidegate/tidegate.toml\n");
    assert_eq!(
        read("DEBIAN/md5sums"),
        "a9c449d4fa44e9e5a41c574ae55ce4d9  usr/bin/tidegate\n",
        "no conffile, nothing of DEBIAN"
    );
    let mode = |path: &str| {
        fs::metadata(folder.path().join(path))
            .unwrap()
            .permissions()
            .mode()
            & 0o7777
    };
    for (path, bits) in [
        ("usr/bin", 0o755),
        ("usr/bin/tidegate", 0o755),
        ("etc/tidegate", 0o750),
        ("etc/tidegate/tidegate.toml", 0o640),
        ("DEBIAN/postinst", 0o755),
        ("DEBIAN/control", 0o644),
    ] {
        assert_eq!(mode(path), bits, "{path}");
    }
}

#[test]
fn text_of_a_field_has_no_empty_line() {
    assert_eq!(indented("\na\n\n b\n"), " a\n .\n  b\n");
}
