//! Rules of the code base that no compiler checks. A finding fails the run; a hint does not.
//!
//! Each rule has its file, its reason beside it, and tests that it finds what it is there for.

mod arrows;
mod code;
mod decisions;
mod files;
mod metrics;
mod paths;
mod unsafe_code;
mod words;

use std::fs;
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::workspace;
use code::CodeView;

/// A tracked text file.
#[derive(Debug)]
struct Source {
    /// Relative to the root, with `/`.
    path: String,
    text: String,
    /// For Rust files: the text without comments and the contents of literals.
    code: CodeView,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        let code = if path.ends_with(".rs") {
            CodeView::of(text)
        } else {
            CodeView::default()
        };
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            code,
        }
    }

    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// `path:line: message`, with a line that counts from zero.
    fn at(&self, line: usize, message: &str) -> String {
        format!("{}:{}: {message}", self.path, line + 1)
    }
}

/// `cargo xtask tidy`.
pub(crate) fn run() -> Result<ExitCode> {
    Ok(if check()? {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Prints findings and hints; whether there are no findings.
pub(crate) fn check() -> Result<bool> {
    let sources = sources()?;
    let mut findings = Vec::new();
    findings.extend(arrows::check(&sources)?);
    findings.extend(decisions::check(&sources));
    findings.extend(files::check(&sources));
    findings.extend(metrics::check(&sources));
    findings.extend(paths::check(&sources));
    findings.extend(unsafe_code::check(&sources));
    findings.extend(words::check(&sources));
    for hint in files::hints(&sources) {
        println!("hint: {hint}");
    }
    for finding in &findings {
        println!("{finding}");
    }
    Ok(findings.is_empty())
}

/// Every file that git tracks or would track and that is text.
fn sources() -> Result<Vec<Source>> {
    let root = workspace::root();
    let mut sources = Vec::new();
    for path in workspace::files()? {
        let bytes = fs::read(root.join(&path));
        let bytes = bytes.with_context(|| format!("read {}", path.display()))?;
        if let Ok(text) = String::from_utf8(bytes) {
            sources.push(Source::new(&path.to_string_lossy(), &text));
        }
    }
    Ok(sources)
}
