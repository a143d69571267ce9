//! How `pub` and `sub` end when something ends them: enough messages, time, a signal, a pipe.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;

use rustix::process::Signal;
use tests::broker_process::{BrokerProcess, Options};
use tests::deadline::{PATIENCE, wait_for};
use tests::mqtt::{Client, Connect, Publish, Version};
use tests::supervised::ExitCode;

use crate::{
    Running, at, command, expect_failure, expect_success, in_shell, run, run_with_input, watcher,
};

/// Waits for a subscription, publishes a 0, and takes the first line of the subscriber's output.
fn first_line(broker: &BrokerProcess, topic: &str, output: &mut impl BufRead) -> String {
    let connect = Connect::new(Version::V5, "prompter");
    let mut prompter = Client::connect(broker.mqtt(), &connect).unwrap();
    // It is there as soon as the broker counts one subscription more.
    wait_for("the subscription", PATIENCE, || {
        let metrics = broker.metrics()?;
        let count = metrics.sum("tidegate_broker_subscriptions", &[]);
        Ok(count.filter(|count| *count >= 1.0))
    })
    .unwrap();
    prompter
        .publish_acknowledged(Publish::new(topic, "0"))
        .unwrap();
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    line
}

#[test]
fn sub_ends_after_so_many_live_messages() {
    let broker = BrokerProcess::start(Options::default()).unwrap();
    for version in Version::BOTH {
        let arguments = ["-t", "live/#", "-c", "3", "-q", "1", "-v"];
        let mut sub = Running::start(&mut command("sub", &at(broker.mqtt(), version), &arguments));
        let mut output = BufReader::new(sub.0.stdout.take().unwrap());
        assert_eq!(first_line(&broker, "live/x", &mut output), "live/x 0\n");
        let connect = Connect::new(Version::V311, "publisher");
        let mut publisher = Client::connect(broker.mqtt(), &connect).unwrap();
        for payload in ["1", "2", "3"] {
            publisher
                .publish_acknowledged(Publish::new("live/y", payload))
                .unwrap();
        }
        let mut rest = String::new();
        output.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "live/y 1\nlive/y 2\n");
        assert!(sub.0.wait().unwrap().success());
    }
}

#[test]
fn sub_ends_when_its_time_is_over_and_fails_if_messages_are_missing() {
    let broker = BrokerProcess::start(Options::default()).unwrap();
    let mut publisher = Client::connect(broker.mqtt(), &Connect::new(Version::V5, "p")).unwrap();
    publisher
        .publish_acknowledged(Publish::new("one", "x").retained())
        .unwrap();
    let at = at(broker.mqtt(), Version::V5);
    let ended = run("sub", &at, &["-t", "one", "-W", "2"]);
    expect_success(&ended);
    assert_eq!(ended.stdout, "x\n");
    let ended = run("sub", &at, &["-t", "one", "-W", "2", "-c", "2"]);
    expect_failure(&ended, 1, &["1 of 2 messages came within 2 s"]);
    assert_eq!(ended.stdout, "x\n");
}

#[test]
fn sub_has_printed_what_it_received_when_a_signal_ends_it() {
    let mut broker = BrokerProcess::start(Options::default()).unwrap();
    for (version, signal) in [(Version::V311, Signal::INT), (Version::V5, Signal::TERM)] {
        let at = at(broker.mqtt(), version);
        let mut sub = Running::start(&mut command("sub", &at, &["-t", "live", "-q", "1"]));
        let mut output = BufReader::new(sub.0.stdout.take().unwrap());
        assert_eq!(first_line(&broker, "live", &mut output), "0\n");
        sub.signal(signal);
        let status = sub.0.wait().unwrap();
        assert_eq!(status.signal(), Some(signal.as_raw()), "{status}");
        // The broker takes note and goes on.
        wait_for("the end of the subscription", PATIENCE, || {
            let metrics = broker.metrics()?;
            let count = metrics.sum("tidegate_broker_subscriptions", &[]);
            Ok(count.filter(|count| *count == 0.0))
        })
        .unwrap();
    }
    assert_eq!(broker.terminate().unwrap(), ExitCode(0));
}

#[test]
fn pub_has_published_the_lines_that_were_acknowledged_when_a_signal_ends_it() {
    let broker = BrokerProcess::start(Options::default()).unwrap();
    let mut watcher = watcher(broker.mqtt(), "lines");
    for (version, signal) in [(Version::V311, Signal::TERM), (Version::V5, Signal::INT)] {
        let at = at(broker.mqtt(), version);
        let arguments = ["-t", "lines", "-q", "1", "-l"];
        let mut publisher = Running::start(&mut command("pub", &at, &arguments));
        let mut input = publisher.0.stdin.take().unwrap();
        for line in ["as", "they", "come"] {
            // Each is published when it is there, not when the input ends.
            writeln!(input, "{line}").unwrap();
            assert_eq!(watcher.receive_publish().unwrap().payload, line.as_bytes());
        }
        publisher.signal(signal);
        let status = publisher.0.wait().unwrap();
        assert_eq!(status.signal(), Some(signal.as_raw()), "{status}");
    }
}

#[test]
fn sub_ends_well_when_its_reader_has_gone() {
    let broker = BrokerProcess::start(Options::default()).unwrap();
    let mut publisher = Client::connect(broker.mqtt(), &Connect::new(Version::V5, "p")).unwrap();
    for number in 0..50 {
        let message = Publish::new(&format!("many/{number}"), "x").retained();
        publisher.publish_acknowledged(message).unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let status = folder.path().join("status");
    for version in Version::BOTH {
        let sub = command("sub", &at(broker.mqtt(), version), &["-t", "many/#"]);
        // The next message after the reader's end finds the pipe closed.
        let script = "{ \"$@\"; echo $? >\"$INPUT\"; } | head -n 1";
        let publishing = std::thread::scope(|scope| {
            let ended = scope.spawn(|| in_shell(script, &sub, &status));
            while !ended.is_finished() {
                publisher
                    .publish_acknowledged(Publish::new("many/0", "x"))
                    .unwrap();
            }
            ended.join().unwrap()
        });
        expect_success(&publishing);
        assert_eq!(publishing.stdout, "x\n");
        assert_eq!(fs::read_to_string(&status).unwrap(), "0\n");
    }
}

#[test]
fn other_commands_end_well_when_their_reader_has_gone_and_fail_when_the_disk_is_full() {
    let broker = BrokerProcess::start(Options::default()).unwrap();
    let at = at(broker.mqtt(), Version::V5);
    let folder = tempfile::tempdir().unwrap();
    let (lines, status) = (folder.path().join("lines"), folder.path().join("status"));
    fs::write(&lines, "x\n".repeat(2_000)).unwrap();
    let publish = ["-t", "many", "-q", "1", "-l"];
    expect_success(&run_with_input("pub", &at, &publish, &lines));
    let admin = broker.admin().to_string();
    let read = ["read", "default", "--admin", &admin, "--count", "2000"];
    let head = "{ \"$@\"; echo $? >\"$INPUT\"; } | head -n 1";
    let ended = in_shell(head, &command("log", &[], &read), &status);
    expect_success(&ended);
    assert_eq!(ended.stdout.lines().count(), 1);
    assert_eq!(fs::read_to_string(&status).unwrap(), "0\n");
    for (word, arguments) in [("log", &read[..]), ("status", &["--admin", &admin])] {
        let command = command(word, &[], arguments);
        let ended = in_shell("\"$@\" >/dev/full", &command, &status);
        expect_failure(
            &ended,
            1,
            &["write to standard output: No space left on device"],
        );
    }
}

#[test]
fn clients_fail_and_say_what_is_safe_when_the_broker_is_killed() {
    for version in Version::BOTH {
        let mut broker = BrokerProcess::start(Options::default()).unwrap();
        let at = at(broker.mqtt(), version);
        let mut sub = Running::start(&mut command("sub", &at, &["-t", "lines"]));
        let mut output = BufReader::new(sub.0.stdout.take().unwrap());
        assert_eq!(first_line(&broker, "lines", &mut output), "0\n");
        let arguments = ["-t", "lines", "-q", "1", "-l"];
        let mut publisher = Running::start(&mut command("pub", &at, &arguments));
        let mut input = publisher.0.stdin.take().unwrap();
        for line in ["1\n", "2\n"] {
            input.write_all(line.as_bytes()).unwrap();
            let mut printed = String::new();
            output.read_line(&mut printed).unwrap();
            assert_eq!(printed, line);
        }
        broker.kill().unwrap();
        let ends = |running: &mut Running| {
            let mut text = String::new();
            let mut stderr = running.0.stderr.take().unwrap();
            stderr.read_to_string(&mut text).unwrap();
            (running.0.wait().unwrap().code(), text)
        };
        let address = broker.mqtt();
        // The second line was delivered, but its acknowledgement may have been on its way.
        let (code, text) = ends(&mut publisher);
        assert_eq!(code, Some(1), "{text}");
        let lost = format!("tidegate: the broker at {address} closed the connection; ");
        let safe = text.strip_prefix(&lost).unwrap_or_else(|| panic!("{text}"));
        let possible = [
            "it acknowledged 1 of 2 messages\n",
            "it acknowledged 2 of 2 messages\n",
        ];
        assert!(possible.contains(&safe), "{text}");
        let (code, text) = ends(&mut sub);
        assert_eq!(code, Some(1), "{text}");
        assert_eq!(
            text,
            format!("tidegate: the broker at {address} closed the connection\n")
        );
    }
}
