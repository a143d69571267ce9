//! Section 1: `tidegate` and a page for each subcommand, down to `tidegate log read`.

use anyhow::Result;
use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::page::{Edition, MANUAL, Page, see_also};

/// What the first line of a list of exit statuses is.
const EXIT_STATUS: &str = "Exit status:\n";

/// What stands where, once the package is installed.
const FILES: &[(&str, &str)] = &[
    (
        "/etc/tidegate/tidegate.toml",
        "The configuration that the unit tidegate.service runs with; see tidegate.toml(5).",
    ),
    (
        "/var/lib/tidegate",
        "The data folder: logs, sessions, retained messages.",
    ),
    (
        "/usr/share/doc/tidegate",
        "Changes, licences, how to operate it, drop-ins for the unit, and files for an image on a card.",
    ),
];

/// The pages of a command that was built, and of what is below it.
pub(crate) fn pages(command: &Command, edition: &Edition) -> Result<Vec<Page>> {
    let mut pages = vec![page(command, edition)?];
    for below in visible(command) {
        pages.extend(self::pages(below, edition)?);
    }
    Ok(pages)
}

fn page(command: &Command, edition: &Edition) -> Result<Page> {
    let name = display_name(command);
    let man = Man::new(command.clone())
        .title(name.to_uppercase())
        .date(&edition.date)
        .source(format!("tidegate {}", edition.version))
        .manual(MANUAL);
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    if command
        .get_arguments()
        .any(|argument| !argument.is_hide_set())
    {
        man.render_options_section(&mut text)?;
    }
    if visible(command).next().is_some() {
        man.render_subcommands_section(&mut text)?;
    }
    let mut rest = Roff::new();
    if let Some(after) = command.get_after_help() {
        as_it_is(&mut rest, &after.to_string());
    }
    if is_about_files(command) {
        files(&mut rest);
    }
    see_also(&mut rest, &relatives(command));
    // The first page has what quotes and dashes need; twice it would count as two pages.
    text.extend_from_slice(rest.render().as_bytes());
    Ok(Page {
        name: man.get_filename(),
        text,
    })
}

/// What `--help` ends with, in its own lines.
fn as_it_is(roff: &mut Roff, after: &str) {
    let (heading, text) = match after.strip_prefix(EXIT_STATUS) {
        Some(text) => ("EXIT STATUS", text),
        None => ("NOTES", after),
    };
    roff.control("SH", [heading]);
    roff.control("nf", []);
    for line in text.lines() {
        roff.text([roman(line)]);
    }
    roff.control("fi", []);
}

fn files(roff: &mut Roff) {
    roff.control("SH", ["FILES"]);
    for (path, what) in FILES {
        roff.control("TP", []);
        roff.text([bold(*path)]);
        roff.text([roman(*what)]);
    }
}

/// The whole program, and what runs it.
fn is_about_files(command: &Command) -> bool {
    ["tidegate", "tidegate-run"].contains(&display_name(command).as_str())
}

/// The page above, and the configuration's. Those below stand in the list of subcommands.
fn relatives(command: &Command) -> Vec<(String, &'static str)> {
    let name = display_name(command);
    let above = name.rsplit_once('-').map(|(above, _)| above.to_owned());
    let mut relatives: Vec<_> = above.map(|above| (above, "1")).into_iter().collect();
    relatives.push((String::from("tidegate.toml"), "5"));
    relatives
}

fn visible(command: &Command) -> impl Iterator<Item = &Command> {
    command
        .get_subcommands()
        .filter(|below| !below.is_hide_set())
}

/// With hyphens, as the page is named.
fn display_name(command: &Command) -> String {
    let name = command.get_display_name();
    name.unwrap_or_else(|| command.get_name()).to_owned()
}
