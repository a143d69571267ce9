//! Finding programs.

use std::env;
use std::path::PathBuf;

/// The program's path: first in `PATH`, then where Debian puts daemons, which an ordinary user has
/// not in their path. An absolute path is looked at as it is.
#[must_use]
pub fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain([
            PathBuf::from("/usr/local/sbin"),
            PathBuf::from("/usr/sbin"),
            PathBuf::from("/sbin"),
        ])
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
}

/// Like [`find`]; the error is a reason for [`crate::skip`].
///
/// # Errors
/// When the program is not installed: which Debian package brings it.
pub fn require(name: &str, debian_package: &str) -> Result<PathBuf, String> {
    find(name).ok_or_else(|| {
        format!("{name} is not installed (Debian package {debian_package}; run ./test)")
    })
}

#[cfg(test)]
mod tests {
    use super::{find, require};

    #[test]
    fn shell_is_found_and_nonsense_is_not() {
        assert!(find("sh").is_some());
        assert_eq!(
            require("no-such-program", "nothing").unwrap_err(),
            "no-such-program is not installed (Debian package nothing; run ./test)"
        );
    }
}
