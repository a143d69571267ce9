//! The command line of `tidegate doctor`.

use std::path::PathBuf;

use clap::Args;

/// What scripts may rely on; kept in step with `exit`.
const EXIT_STATUS: &str = "\
Exit status:
  0  no problem was found; there may be warnings
  1  at least one problem was found, or it was ended before there was a result
  2  wrong command line
  78 the configuration is wrong";

#[derive(Args, Debug)]
#[command(after_help = EXIT_STATUS)]
pub(crate) struct DoctorOptions {
    /// Data folder to judge, with the default configuration; it need not exist yet
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    pub(crate) data: Option<PathBuf>,
    /// Configuration file; its data folder and its budgets are judged
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use crate::cli::Arguments;

    #[test]
    fn folder_and_configuration_exclude_each_other() {
        let parse = |line: &str| Arguments::try_parse_from(line.split(' '));
        assert!(parse("tidegate doctor").is_ok());
        assert!(parse("tidegate doctor --data /var/lib/tidegate --json").is_ok());
        let error = parse("tidegate doctor --data a --config b").unwrap_err();
        assert!(error.to_string().contains("cannot be used with"), "{error}");
    }
}
