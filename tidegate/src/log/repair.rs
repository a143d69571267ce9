//! `tidegate log repair`.

use std::io::{self, IsTerminal as _, Write as _};
use std::ops::ControlFlow;

use anyhow::{Context as _, anyhow};
use storage::{
    Finding, RepairError, RepairStep, Severity, VerifyProgress, plan_repair, repair as mend,
};

use crate::admin::VerifyLine;
use crate::cli::log::LogRepairOptions;
use crate::exit::{Failure, Status};
use crate::log::folder::{explain_in_use, with_view};
use crate::log::progress::{Progress, megabytes};
use crate::log::verify::describe;
use crate::stdout::print;

/// What to do if a gateway has the folder.
const STOP_IT: &str = "repair a folder that nobody has open";
/// Findings that are kept to plan by; the rest waits for the next repair.
const FINDINGS_MAX: usize = 10_000;

pub(super) fn repair(options: &LogRepairOptions) -> Result<(), Failure> {
    let found = look(options, "found")?;
    let steps = plan_repair(&found);
    if steps.is_empty() {
        print("there is nothing that can be repaired\n")?;
        return verdict(&found);
    }
    print(&list(&steps))?;
    if options.dry_run {
        return Err(anyhow!("nothing was changed: --dry-run").into());
    }
    if !options.yes && !confirmed()? {
        return Err(anyhow!("nothing was changed").into());
    }
    let copies = tempfile::Builder::new()
        .prefix("tidegate-repair-")
        .tempdir()
        .context("create a temporary folder; TMPDIR says where")?;
    mend(&options.data, copies.path(), &steps, |step| {
        // Who does not read any more has said yes all the same.
        let _ = print(&format!("doing: {step}\n"));
    })
    .map_err(explain)?;
    verdict(&look(options, "left")?)
}

/// Says what is wrong with the folder.
fn look(options: &LogRepairOptions, word: &str) -> Result<Vec<Finding>, Failure> {
    let mut progress = Progress::new();
    with_view(&options.data, STOP_IT, |view| {
        let mut findings = Vec::new();
        let mut printed = Ok(true);
        view.verify(None, |told| {
            match &told {
                VerifyProgress::Reading {
                    bytes, bytes_total, ..
                } => {
                    let (bytes, total) = (megabytes(*bytes), megabytes(*bytes_total));
                    progress.show(|| format!("read {bytes} of {total}"));
                }
                VerifyProgress::Finding(finding) => {
                    progress.clear();
                    if findings.len() < FINDINGS_MAX {
                        findings.push(finding.clone());
                    }
                    if let VerifyLine::Finding(shown) = VerifyLine::of(view.store(), told) {
                        printed = print(&format!("{word}: {}", describe(&shown)));
                    }
                }
            }
            match printed {
                Ok(_) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        });
        printed?;
        Ok(findings)
    })?
}

fn list(steps: &[RepairStep]) -> String {
    let steps = steps.iter().map(|step| format!("to do: {step}\n"));
    steps.collect()
}

fn confirmed() -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() {
        return Err(anyhow!(
            "nothing was changed: nobody is there to ask; --yes does it"
        ));
    }
    let mut stderr = io::stderr();
    write!(stderr, "Do this? [y/N] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Warnings, such as what stands in quarantine, are no failure of the repair.
fn verdict(left: &[Finding]) -> Result<(), Failure> {
    let errors = left
        .iter()
        .filter(|f| f.severity == Severity::Error)
        .count();
    match errors {
        0 => Ok(()),
        _ => Err(anyhow!("{errors} errors are left").into()),
    }
}

fn explain(error: RepairError) -> Failure {
    match error {
        RepairError::Open(error) => explain_in_use(error, STOP_IT),
        error => Failure::with(
            Status::StoreFailed,
            anyhow::Error::from(error).context("repair the folder; what was done so far stays"),
        ),
    }
}
