//! How this machine reaches package registries: proxies, certificates, mirrors. All of it is read
//! here when it is needed and nothing of it is known beforehand.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

/// Options of apt about the way to a mirror, by the beginning of their name.
const APT_OPTIONS: &[&str] = &[
    "Acquire::Allow",
    "Acquire::Check-",
    "Acquire::Retries",
    "Acquire::http",
];

/// Environment variables by the beginning or the end of their name. Cargo sets others of its own
/// for this program, which must not reach the cargo inside.
const VARIABLE_STARTS: &[&str] = &[
    "CARGO_HTTP_",
    "CARGO_NET_",
    "CARGO_REGISTRIES_",
    "CARGO_SOURCE_",
    "CURL_CA_",
    "GIT_SSL_",
    "JAVA_TOOL_OPTIONS",
    "MAVEN_",
    "PIP_",
    "REQUESTS_CA_",
    "SSL_CERT_",
];
const VARIABLE_ENDS: &[&str] = &["_PROXY", "_proxy"];

/// Configuration of the system and, relative to the home folder, of the user.
const SYSTEM_FILES: &[&str] = &["/etc/hosts", "/etc/pip.conf", "/etc/resolv.conf"];
const USER_FILES: &[&str] = &[
    ".cargo/config.toml",
    ".config/pip/pip.conf",
    ".m2/settings.xml",
    ".pip/pip.conf",
];

/// Certificates that the owner of the machine has added.
const CERTIFICATES: &str = "/usr/local/share/ca-certificates";

#[derive(Debug)]
pub(super) struct Network {
    apt_options: Vec<String>,
}

impl Network {
    pub(super) fn of_this_machine() -> Self {
        let dump = Command::new("apt-config").arg("dump").output();
        let dump = dump.map(|output| output.stdout).unwrap_or_default();
        Self {
            apt_options: parse_apt_options(&String::from_utf8_lossy(&dump)),
        }
    }

    /// As lines of apt's configuration.
    pub(super) fn apt_options(&self) -> &[String] {
        &self.apt_options
    }

    /// This machine's files of apt sources, if they are of that release; otherwise none, and the
    /// release's usual mirror is taken.
    pub(super) fn apt_sources(&self, release: &str) -> Vec<PathBuf> {
        let listed = fs::read_dir("/etc/apt/sources.list.d")
            .into_iter()
            .flatten()
            .flatten();
        let mut files: Vec<PathBuf> = listed.map(|entry| entry.path()).collect();
        files.push("/etc/apt/sources.list".into());
        let is_of_release = |path: &PathBuf| {
            let is_read = path
                .extension()
                .is_some_and(|end| end == "list" || end == "sources");
            is_read
                && fs::read_to_string(path).is_ok_and(|text| {
                    let mut words = text.split_whitespace();
                    words.any(|word| word == release)
                })
        };
        files.retain(is_of_release);
        files.sort();
        files
    }

    /// Copies configuration and certificates to the same places.
    pub(super) fn copy_files_into(&self, root: &Path) -> Result<()> {
        let home = PathBuf::from(env::var_os("HOME").unwrap_or_default());
        let system = SYSTEM_FILES
            .iter()
            .map(|file| (PathBuf::from(file), PathBuf::from(file)));
        let user = USER_FILES
            .iter()
            .map(|file| (home.join(file), Path::new("/root").join(file)));
        let added = fs::read_dir(CERTIFICATES).into_iter().flatten().flatten();
        let added = added.map(|entry| (entry.path(), entry.path()));
        for (from, to) in system.chain(user).chain(added) {
            if from.is_file() {
                copy(&from, &inside(root, &to))?;
            }
        }
        Ok(())
    }

    /// Variables that apply inside: one that names a file does only if the file is there.
    pub(super) fn environment_inside(&self, root: &Path) -> Vec<(String, String)> {
        let applies = |(name, value): &(String, String)| {
            is_about_network(name) && (!value.starts_with('/') || names_a_place(root, value))
        };
        env::vars().filter(applies).collect()
    }
}

fn names_a_place(root: &Path, value: &str) -> bool {
    inside(root, Path::new(value)).exists()
}

fn inside(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let context = || format!("copy {} to {}", from.display(), to.display());
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).with_context(context)?;
    }
    fs::copy(from, to).with_context(context)?;
    Ok(())
}

fn is_about_network(name: &str) -> bool {
    VARIABLE_STARTS.iter().any(|start| name.starts_with(start))
        || VARIABLE_ENDS.iter().any(|end| name.ends_with(end))
}

/// `apt-config dump` prints what apt reads; a group without a value of its own is left out.
fn parse_apt_options(dump: &str) -> Vec<String> {
    let is_wanted = |line: &&str| APT_OPTIONS.iter().any(|start| line.starts_with(start));
    dump.lines()
        .filter(is_wanted)
        .filter(|line| !line.ends_with(" \"\";"))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{is_about_network, parse_apt_options};

    #[test]
    fn options_about_the_way_to_a_mirror_are_taken() {
        let dump = "Acquire \"\";\nAcquire::http \"\";\nAcquire::http::Proxy \"http://p:1\";\n\
                    Acquire::Languages \"none\";\nAcquire::Check-Date \"false\";\n";
        let expected = [
            "Acquire::http::Proxy \"http://p:1\";",
            "Acquire::Check-Date \"false\";",
        ];
        assert_eq!(parse_apt_options(dump), expected);
    }

    #[test]
    fn variables_of_cargo_itself_are_not_taken() {
        assert!(is_about_network("https_proxy") && is_about_network("CARGO_HTTP_CAINFO"));
        assert!(!is_about_network("CARGO_MANIFEST_DIR") && !is_about_network("PATH"));
    }
}
