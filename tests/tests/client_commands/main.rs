//! `tidegate pub` and `tidegate sub` as scripts use them: what they send and print, how they end,
//! and what they say when something is wrong. Against the product and against Debian's mosquitto.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "allowed in tests; the lints do not see that functions shared by tests are tests"
)]

mod encrypted;
mod ending;
mod exchange;
mod failing;

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tests::broker_process::binary;
use tests::command_line::{self, Ended};
use tests::mqtt::{Client, Connect, Version};
use tests::supervised::ExitCode;

/// The arguments for a broker: address and version.
fn at(broker: SocketAddr, version: Version) -> Vec<String> {
    let version = match version {
        Version::V311 => "3",
        Version::V5 => "5",
    };
    let (host, port) = (broker.ip().to_string(), broker.port().to_string());
    ["--host", &host, "--port", &port, "-V", version]
        .map(str::to_owned)
        .to_vec()
}

/// A command with its first word, the broker, and more arguments.
fn command(word: &str, at: &[String], arguments: &[&str]) -> Command {
    let mut command = Command::new(binary().unwrap());
    command.arg(word).args(at).args(arguments);
    command
}

/// Runs a command to its end.
fn run(word: &str, at: &[String], arguments: &[&str]) -> Ended {
    command_line::run(&command(word, at, arguments)).unwrap()
}

/// Runs a command to its end with a file as its standard input.
fn run_with_input(word: &str, at: &[String], arguments: &[&str], input: &Path) -> Ended {
    in_shell(
        "exec \"$@\" <\"$INPUT\"",
        &command(word, at, arguments),
        input,
    )
}

/// Runs a shell script of which the arguments are the command, and `$INPUT` a path.
fn in_shell(script: &str, command: &Command, input: &Path) -> Ended {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", script, "sh"])
        .arg(command.get_program())
        .args(command.get_args())
        .env("INPUT", input);
    command_line::run(&shell).unwrap()
}

/// Ended well, saying nothing but its output.
fn expect_success(ended: &Ended) {
    assert_eq!(
        (ended.code, ended.stderr.as_str()),
        (ExitCode(0), ""),
        "{ended:?}"
    );
}

/// Ended with this status, after one line on standard error with all of these texts.
fn expect_failure(ended: &Ended, code: i32, texts: &[&str]) {
    assert_eq!(ended.code, ExitCode(code), "{ended:?}");
    for text in texts {
        assert!(ended.stderr.contains(text), "no {text:?} in {ended:?}");
    }
    assert!(!ended.stderr.contains("panicked"), "{ended:?}");
    if code == 1 {
        assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
        assert!(ended.stderr.starts_with("tidegate: "), "{ended:?}");
    }
}

/// A client that sees what is published.
fn watcher(broker: SocketAddr, filter: &str) -> Client {
    let connect = Connect::new(Version::V5, "watcher");
    let mut client = Client::connect(broker, &connect).unwrap();
    assert_eq!(client.subscribe(filter).unwrap(), 1);
    client
}

/// A command that runs beside the test, with pipes; killed when it is dropped. It stands directly
/// under the test: a shell's background process would not get SIGINT.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Self {
        let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        Self(pipes.stderr(Stdio::piped()).spawn().unwrap())
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.0.id().try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already unless the test failed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
