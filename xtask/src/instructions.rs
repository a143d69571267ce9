//! `cargo xtask instructions`: how many instructions of an ARM processor the program executes for a QoS 1
//! message, counted in the emulator.
//!
//! Two runs, one with few messages and one with many; the difference is the messages', without start and
//! end. Clients publish in step: each has one message in flight, and the next ones follow when all are
//! acknowledged, so that commits have about as many messages in every run.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use ::tests::broker_process::{BrokerProcess, Options};
use ::tests::mqtt::Client;
use ::tests::mqtt::packet::{Connect, Packet, Version};
use ::tests::program;
use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::command;

/// Messages of the run that is taken off: 100 of each client.
const STEPS_BEFORE: usize = 100;
const PAYLOAD_BYTES: usize = 200;

#[derive(Args)]
pub(crate) struct Arguments {
    /// A `tidegate` for arm64 or armhf, as `cargo xtask dist` builds it; several are measured in turn
    #[arg(long, required = true)]
    program: Vec<PathBuf>,
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Messages of each client
    #[arg(long, default_value_t = 400)]
    messages: usize,
    #[arg(long, default_value_t = 50)]
    clients: usize,
}

/// Measures and prints a line for each run.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    ensure!(
        arguments.clients > 0 && arguments.messages > 0 && arguments.rounds > 0,
        "--clients, --messages and --rounds: at least 1"
    );
    let folder = tempfile::tempdir().context("create a temporary folder")?;
    let plugin = compile_plugin(folder.path())?;
    for round in 1..=arguments.rounds {
        for program in &arguments.program {
            let wrapper = wrap(program, &plugin, folder.path())?;
            let count = |steps| measure(&wrapper, folder.path(), arguments.clients, steps);
            let few = count(STEPS_BEFORE)?;
            let many = count(STEPS_BEFORE + arguments.messages)?;
            let messages = u64::try_from(arguments.clients * arguments.messages)?;
            let each = many.saturating_sub(few) / messages;
            println!(
                "round {round}: {each} instructions a message: {}",
                program.display()
            );
            command::flush();
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn compile_plugin(folder: &Path) -> Result<PathBuf> {
    let source = folder.join("count.c");
    fs::write(&source, include_str!("instructions/count.c")).context("write the plugin")?;
    let plugin = folder.join("count.so");
    let mut compiler = Command::new("cc");
    compiler
        .args(["-O2", "-shared", "-fPIC", "-o"])
        .arg(&plugin)
        .arg(&source);
    command::quiet(&mut compiler).context("compile the plugin of the emulator")?;
    Ok(plugin)
}

/// A script that starts the program in the emulator with the plugin.
fn wrap(binary: &Path, plugin: &Path, folder: &Path) -> Result<PathBuf> {
    let binary = fs::canonicalize(binary).with_context(|| format!("find {}", binary.display()))?;
    let emulator = emulator_of(&binary)?;
    // The static emulator of qemu-user-static loads no plugins.
    let found = program::require(emulator.0, "qemu-user");
    let found = found.map_err(|reason| anyhow::anyhow!("{reason}; to be installed by hand"))?;
    let script = format!(
        "#!/bin/sh\nexec '{}' -L {} -plugin '{}' '{}' \"$@\"\n",
        found.display(),
        emulator.1,
        plugin.display(),
        binary.display()
    );
    let path = folder.join("tidegate");
    fs::write(&path, script).context("write a script")?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).context("write a script")?;
    Ok(path)
}

/// The emulator, and where the C library of its processor lies.
fn emulator_of(binary: &Path) -> Result<(&'static str, &'static str)> {
    let bytes = fs::read(binary).with_context(|| format!("read {}", binary.display()))?;
    let file = object::File::parse(&*bytes);
    let file = file.with_context(|| format!("read {}", binary.display()))?;
    match object::Object::architecture(&file) {
        object::Architecture::Aarch64 => Ok(("qemu-aarch64", "/usr/aarch64-linux-gnu")),
        object::Architecture::Arm => Ok(("qemu-arm", "/usr/arm-linux-gnueabihf")),
        other => bail!("{}: for {other:?}; allowed: arm64, armhf", binary.display()),
    }
}

/// Instructions of a life of the program in which each client publishes `steps` messages.
fn measure(wrapper: &Path, folder: &Path, clients: usize, steps: usize) -> Result<u64> {
    let count = folder.join("count");
    let _ = fs::remove_file(&count);
    let mut broker = BrokerProcess::start(Options {
        program: Some(wrapper.to_owned()),
        environment: vec![(String::from("COUNT_FILE"), count.display().to_string())],
        ..Options::default()
    })?;
    publish_in_step(&broker, clients, steps)?;
    // The plugin writes when the emulator ends.
    broker.terminate()?;
    let text = fs::read_to_string(&count).context("the emulator wrote no count")?;
    text.trim().parse().context("read what the plugin wrote")
}

fn publish_in_step(broker: &BrokerProcess, clients: usize, steps: usize) -> Result<()> {
    let connect = |number| {
        let id = format!("client-{number}");
        Client::connect(broker.mqtt(), &Connect::new(Version::V5, &id))
    };
    let mut clients = (0..clients).map(connect).collect::<Result<Vec<_>>>()?;
    let payload = [b'x'; PAYLOAD_BYTES];
    for step in 0..steps {
        let id = u16::try_from(step % 60_000)? + 1;
        for (number, client) in clients.iter_mut().enumerate() {
            client.publish(&format!("plant/line/{number}"), &payload, Some(id))?;
        }
        for client in &mut clients {
            let answer = client.receive()?;
            let is_puback = matches!(answer, Some(Packet::Puback { code: 0, .. }));
            ensure!(is_puback, "{answer:?} instead of PUBACK");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::emulator_of;

    #[test]
    fn what_is_no_arm_program_is_refused() {
        let own = std::env::current_exe().unwrap();
        let error = emulator_of(&own).unwrap_err().to_string();
        assert!(
            error.ends_with("for X86_64; allowed: arm64, armhf"),
            "{error}"
        );
        let error = emulator_of(Path::new(file!())).unwrap_err().to_string();
        assert!(error.starts_with("read "), "{error}");
    }
}
