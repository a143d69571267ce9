//! The Node programs of `tests/node/` and the packages that they need.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cache::Cache;
use crate::program;

/// Node and the folder of mqtt.js and what it needs, or the reason for a skip.
///
/// # Errors
/// When one of them is not installed.
pub fn available() -> Result<(PathBuf, PathBuf), String> {
    let node = program::require("node", "nodejs")?;
    let packages = Cache::locate()
        .map_err(|error| format!("{error:#}"))?
        .node_packages()
        .join("node_modules");
    if packages.join("mqtt").exists() {
        Ok((node, packages))
    } else {
        Err(String::from(
            "the Node packages are not installed (run ./test)",
        ))
    }
}

/// A command that runs `tests/node/<script>`.
///
/// # Errors
/// The reason for a skip, as [`available`].
pub fn command(script: &str) -> Result<Command, String> {
    let (node, packages) = available()?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("node");
    let mut command = Command::new(node);
    command.arg(folder.join(script)).env("NODE_PATH", packages);
    Ok(command)
}
