//! What the program asks of the kernel, compared with what its unit lets it have. The unit itself needs a running
//! systemd; here the calls are recorded, and each must be one that the filter passes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use rustix::process::Signal;
use tests::command_line;
use tests::gateway::{Around, Gateway, LOOPBACK};
use tests::mqtt::{Publish, SUCCESS};
use tests::supervised::ExitCode;
use tests::{http, ports, program, skip};

use crate::units::unit;

type Calls = BTreeSet<String>;

/// systemd's groups of system calls, with the groups in them resolved.
fn groups(analyze: &std::path::Path) -> BTreeMap<String, Calls> {
    let mut command = Command::new(analyze);
    command.args(["syscall-filter", "--no-pager"]);
    let text = command_line::run(&command).unwrap().stdout;
    let mut direct: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut group = String::new();
    for line in text.lines() {
        match line.strip_prefix(' ') {
            None => line.clone_into(&mut group),
            Some(call) if call.trim_start().starts_with('#') => {}
            Some(call) => {
                let calls = direct.entry(group.clone()).or_default();
                calls.push(call.trim().to_owned());
            }
        }
    }
    let resolve = |name: &String| (name.clone(), resolved(&direct, name));
    direct.keys().map(resolve).collect()
}

fn resolved(direct: &BTreeMap<String, Vec<String>>, name: &str) -> Calls {
    match direct.get(name) {
        None => Calls::from([name.to_owned()]),
        Some(parts) => parts
            .iter()
            .flat_map(|part| resolved(direct, part))
            .collect(),
    }
}

/// What the unit's filter passes: its lines one after the other, as systemd.exec(5) has it.
fn allowed(unit: &str, groups: &BTreeMap<String, Calls>) -> Calls {
    let mut allowed = Calls::new();
    let lines = unit.lines();
    for line in lines.filter_map(|line| line.strip_prefix("SystemCallFilter=")) {
        let (takes, names) = match line.strip_prefix('~') {
            Some(names) => (true, names),
            None => (false, line),
        };
        for name in names.split_whitespace() {
            let calls = groups.get(name).cloned();
            let calls = calls.unwrap_or_else(|| Calls::from([name.to_owned()]));
            match takes {
                true => allowed.retain(|call| !calls.contains(call)),
                false => allowed.extend(calls),
            }
        }
    }
    allowed
}

/// Everything that is done from start to end, as strace writes it.
fn record(strace: &std::path::Path) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("calls");
    let wrapper = [
        strace.as_os_str(),
        "-D".as_ref(),
        "-f".as_ref(),
        "-qq".as_ref(),
    ];
    let mut wrapper: Vec<_> = wrapper.map(Into::into).to_vec();
    wrapper.extend([
        "-e".into(),
        "signal=none".into(),
        "-o".into(),
        file.clone().into(),
    ]);
    let around = Around {
        wrapper,
        ..Around::default()
    };
    let nobody = ports::free().unwrap();
    let configuration = format!(
        "gateway_id = \"gw\"\n{LOOPBACK}\n[storage]\nsegment_bytes = \"1MiB\"\n\
         [[log]]\nname = \"short\"\nfilters = [\"t\"]\nretention.bytes = \"2MiB\"\n\
         [bridge]\nbootstrap = [\"localhost:{nobody}\"]\n\
         [[bridge.route]]\nname = \"r\"\nlog = \"short\"\ntopic = \"t\"\n"
    );
    let mut gateway = Gateway::start_around(around, &configuration).unwrap();
    let mut client = gateway.client("c").unwrap();
    client.subscribe("other").unwrap();
    for _ in 0..60 {
        let publish = Publish::new("t", vec![7; 100_000]);
        assert_eq!(client.publish_acknowledged(publish).unwrap(), SUCCESS);
    }
    for path in ["/status", "/metrics", "/log/list", "/log/verify"] {
        http::get(gateway.admin().unwrap(), path).unwrap();
    }
    // Another start has something to recover.
    gateway.kill().unwrap();
    let first = fs::read_to_string(&file).unwrap();
    gateway.restart(&configuration).unwrap();
    assert_eq!(gateway.end(Signal::TERM).unwrap(), ExitCode(0));
    format!("{first}\n{}", fs::read_to_string(&file).unwrap())
}

/// The names of the calls, from lines such as `17 fdatasync(5) = 0`; not those from before the program began.
fn names(record: &str) -> Calls {
    let names = record.lines().filter_map(|line| {
        let call = line
            .trim_start()
            .trim_start_matches(|c: char| c.is_ascii_digit());
        let name = call.trim_start().split('(').next()?;
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        (!name.is_empty() && name.chars().all(is_name)).then(|| name.to_owned())
    });
    names.collect()
}

#[test]
fn every_system_call_of_the_program_passes_the_filter_of_its_unit() {
    let Some(analyze) = skip::unless(program::require("systemd-analyze", "systemd")) else {
        return;
    };
    let Some(strace) = skip::unless(program::require("strace", "strace")) else {
        return;
    };
    let text = fs::read_to_string(unit("tidegate.service")).unwrap();
    let allowed = allowed(&text, &groups(&analyze));
    let record = record(&strace);
    let made = names(&record);
    for call in ["adjtimex", "fdatasync", "accept4"] {
        let is_made = made.contains(call) || made.contains("clock_adjtime");
        assert!(is_made, "{call} is not among {made:?}");
    }
    let refused: Vec<_> = made.difference(&allowed).collect();
    assert!(refused.is_empty(), "{refused:?} of {made:?}");

    let is_both = |line: &&str| line.contains("PROT_WRITE") && line.contains("PROT_EXEC");
    let executable: Vec<_> = record.lines().filter(is_both).collect();
    assert!(
        executable.is_empty(),
        "MemoryDenyWriteExecute: {executable:?}"
    );
    let families = text
        .lines()
        .find_map(|line| line.strip_prefix("RestrictAddressFamilies="));
    let families: Vec<_> = families.unwrap().split_whitespace().collect();
    let sockets = record
        .lines()
        .filter_map(|line| line.split_once(" socket("));
    let used: BTreeSet<_> = sockets
        .filter_map(|(_, rest)| rest.split(',').next())
        .collect();
    let refused: Vec<_> = used
        .iter()
        .filter(|family| !families.contains(family))
        .collect();
    // Only asked by the C library to order what a name resolves to; it goes on without an answer.
    assert!(
        refused.is_empty() || refused == [&"AF_NETLINK"],
        "{refused:?}"
    );
}
