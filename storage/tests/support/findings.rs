//! What `log verify` finds in a folder that nobody has open.
#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::ops::ControlFlow;
use std::path::Path;

use storage::{Finding, Severity, VerifyProgress, View};

/// All of it.
pub(crate) fn findings_and_notes(folder: &Path) -> Vec<Finding> {
    let copy = tempfile::tempdir().unwrap();
    let view = View::open(folder, copy.path()).unwrap();
    let mut findings = Vec::new();
    view.verify(None, |progress| {
        if let VerifyProgress::Finding(finding) = progress {
            findings.push(finding);
        }
        ControlFlow::Continue(())
    });
    view.close();
    findings
}

/// What somebody may have to do something about.
pub(crate) fn findings(folder: &Path) -> Vec<Finding> {
    let mut findings = findings_and_notes(folder);
    findings.retain(|finding| finding.severity != Severity::Note);
    findings
}
