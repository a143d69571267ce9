//! What `pub` and `sub` say, and with which status they end, when it does not work.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;

use tests::broker_process::{BrokerProcess, Options};
use tests::command_line;
use tests::mosquitto::{self, Mosquitto};
use tests::mqtt::Version;
use tests::mqtt::packet::packet;
use tests::supervised::ExitCode;
use tests::{ports, program, skip};

use crate::{at, expect_failure, expect_success, run};

const PUBLISH: [&str; 6] = ["-t", "a", "-q", "1", "-m", "x"];

/// A server for one connection that answers each read with the next of `answers` and then waits for
/// the client to go.
fn answering(answers: Vec<Vec<u8>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        for answer in answers {
            if !receive(&mut stream) {
                return;
            }
            stream.write_all(&answer).unwrap();
        }
        while receive(&mut stream) {}
    });
    address
}

fn receive(stream: &mut TcpStream) -> bool {
    stream.read(&mut [0; 4096]).is_ok_and(|len| len > 0)
}

fn connack(version: Version, code: u8) -> Vec<u8> {
    match version {
        Version::V311 => packet(0x20, &[0, code]),
        Version::V5 => packet(0x20, &[0, code, 0]),
    }
}

#[test]
fn refusal_of_the_connection_is_told_with_its_code() {
    for (version, code, text) in [
        (
            Version::V311,
            1,
            "unacceptable protocol version (return code 1)",
        ),
        (Version::V311, 3, "server unavailable (return code 3)"),
        (Version::V5, 0x88, "server unavailable (0x88)"),
        (Version::V5, 0x8a, "banned (0x8a)"),
        (Version::V5, 0x97, "quota exceeded (0x97)"),
    ] {
        for (word, arguments) in [("pub", &PUBLISH[..]), ("sub", &["-t", "a"])] {
            let broker = answering(vec![connack(version, code)]);
            let refused = format!("the broker at {broker} refused the connection: {text}");
            let ended = run(word, &at(broker, version), arguments);
            expect_failure(&ended, 1, &[&refused]);
        }
    }
}

#[test]
fn wrong_password_is_refused_and_the_right_one_is_not() {
    let available =
        mosquitto::available().and_then(|_| program::require("mosquitto_passwd", "mosquitto"));
    let Some(mosquitto_passwd) = skip::unless(available) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let mut make = Command::new(mosquitto_passwd);
    make.args(["-b", "-c", &path("accounts"), "joe", "open sesame"]);
    assert_eq!(command_line::run(&make).unwrap().code, ExitCode(0));
    fs::write(path("right"), "open sesame\nnot this\n").unwrap();
    fs::write(path("wrong"), "open barley\n").unwrap();
    let configuration = format!("allow_anonymous false\npassword_file {}", path("accounts"));
    let broker = Mosquitto::start(&configuration).unwrap();
    for version in Version::BOTH {
        let at = at(broker.address(), version);
        let with = |file: &str| {
            let login = ["-u", "joe", "--password-file", &path(file)].map(str::to_owned);
            run("pub", &[&at[..], &login].concat(), &PUBLISH)
        };
        expect_success(&with("right"));
        for ended in [
            with("wrong"),
            run("pub", &at, &PUBLISH),
            run("sub", &at, &["-t", "a"]),
        ] {
            expect_failure(&ended, 1, &["refused the connection: ", "not authorized ("]);
        }
        expect_failure(
            &with("missing"),
            1,
            &["open the password file", &path("missing")],
        );
    }
}

#[test]
fn refused_subscriptions_are_told_by_filter() {
    let broker = BrokerProcess::start(Options::default()).unwrap();
    // Longer than a group may be.
    let long = format!("$share/{}/a", "group".repeat(300));
    for (version, code) in [
        (Version::V311, "no reason given (return code 0x80)"),
        (Version::V5, "quota exceeded (0x97)"),
    ] {
        let at = at(broker.mqtt(), version);
        let ended = run("sub", &at, &["-t", "good", "-t", &long, "-W", "60"]);
        let refused = format!("the broker refused the subscription to {long}: {code}");
        expect_failure(&ended, 1, &[&refused]);
    }
}

#[test]
fn lowered_subscriptions_are_told_by_filter() {
    let Some(_) = skip::unless(mosquitto::available()) else {
        return;
    };
    let broker = Mosquitto::start("max_qos 1").unwrap();
    for version in Version::BOTH {
        let at = at(broker.address(), version);
        let ended = run("sub", &at, &["-t", "good", "-q", "2", "-W", "1"]);
        assert_eq!(ended.code, ExitCode(0), "{ended:?}");
        let granted = "tidegate: the broker grants good QoS 1 instead of QoS 2\n";
        assert_eq!(ended.stderr, granted);
    }
}

#[test]
fn wrong_words_are_refused_before_anybody_is_asked() {
    // Nobody listens there, which nobody finds out.
    let at = at(([127, 0, 0, 1], ports::free().unwrap()).into(), Version::V5);
    for (arguments, text) in [
        (
            &["pub", "-t", "a/#", "-m", "x"][..],
            "topic name has a wildcard at byte 2",
        ),
        (&["pub", "-t", "", "-m", "x"], "empty"),
        (&["pub", "-t", "a"], "required arguments were not provided"),
        (&["pub", "-t", "a", "-m", "x", "-n"], "cannot be used with"),
        (
            &["pub", "-t", "a", "-m", "x", "-q", "3"],
            "3 is not in 0..=2",
        ),
        (
            &["pub", "-t", "a", "-m", "x", "--property", "p"],
            "no `=` between name and value",
        ),
        (
            &["pub", "-t", "a", "-m", "x", "--password-file", "p"],
            "--username",
        ),
        (
            &["sub", "-t", "a#"],
            "a wildcard at byte 1 that does not fill its level",
        ),
        (
            &["sub", "-t", "a/#/b"],
            "'#' at byte 2, it may only be the last level",
        ),
        (&["sub", "-t", ""], "empty"),
        (&["sub", "-t", "a", "-c", "0"], "0 is not in 1.."),
        (&["sub", "-t", "a", "--json", "-v"], "cannot be used with"),
    ] {
        let ended = run(arguments[0], &at, &arguments[1..]);
        expect_failure(&ended, 2, &[text]);
        assert!(!ended.stderr.contains("nobody listens"), "{ended:?}");
    }
}

#[test]
fn input_that_cannot_be_read_is_named_before_anybody_is_asked() {
    let at5 = at(([127, 0, 0, 1], ports::free().unwrap()).into(), Version::V5);
    let at311 = at(
        ([127, 0, 0, 1], ports::free().unwrap()).into(),
        Version::V311,
    );
    for (at, arguments, texts) in [
        (
            &at5,
            &["-f", "/no/such/file"][..],
            ["open /no/such/file", "No such file"],
        ),
        (&at5, &["-f", "/"], ["read /", "directory"]),
        (
            &at5,
            &["-f", "/dev/zero"],
            ["read /dev/zero", "longer than 67108864 bytes"],
        ),
        (
            &at311,
            &["-m", "x", "--property", "a=b"],
            ["user properties", "--mqtt-version 5"],
        ),
    ] {
        let ended = run("pub", at, &[&["-t", "a"], arguments].concat());
        expect_failure(&ended, 1, &texts);
    }
}

#[test]
fn broker_that_is_not_there_or_is_none_is_named() {
    let product = BrokerProcess::start(Options::default()).unwrap();
    let nobody: SocketAddr = ([127, 0, 0, 1], ports::free().unwrap()).into();
    for version in Version::BOTH {
        for (word, arguments) in [("pub", &PUBLISH[..]), ("sub", &["-t", "a"])] {
            let ended = run(word, &at(nobody, version), arguments);
            expect_failure(&ended, 1, &[&format!("nobody listens at {nobody}; ")]);
            // A server of something else, and one that says nothing at all.
            let ended = run(word, &at(product.admin(), version), arguments);
            expect_failure(&ended, 1, &[&product.admin().to_string()]);
            let silent = answering(Vec::new());
            let mut at = at(silent, version);
            at.extend(["--timeout", "1"].map(str::to_owned));
            let ended = run(word, &at, arguments);
            let expected = format!("no answer from {silent} to CONNECT within 1 s");
            expect_failure(&ended, 1, &[&expected]);
        }
    }
}

#[test]
fn broker_that_owes_an_answer_is_not_waited_for_without_end() {
    for version in Version::BOTH {
        for (word, arguments, texts) in [
            ("pub", &PUBLISH[..], "; it acknowledged 0 of 1 messages"),
            ("sub", &["-t", "a"], ""),
        ] {
            let broker = answering(vec![connack(version, 0)]);
            let mut at = at(broker, version);
            at.extend(["--timeout", "1"].map(str::to_owned));
            let ended = run(word, &at, arguments);
            let expected = format!("the broker at {broker} has not answered for 1 s{texts}\n");
            expect_failure(&ended, 1, &[&expected]);
        }
    }
}

#[test]
fn refused_message_is_told_with_the_brokers_reason() {
    // PUBACK for packet 1: quota exceeded, with a reason string.
    let reason = [0, 1, 0x97, 12, 0x1f, 0, 9];
    let puback = packet(0x40, &[&reason[..], b"disk full"].concat());
    let broker = answering(vec![connack(Version::V5, 0), puback]);
    let ended = run("pub", &at(broker, Version::V5), &PUBLISH);
    let refused = "the broker refused message 1: quota exceeded (0x97): disk full; ";
    expect_failure(&ended, 1, &[refused, "it acknowledged 0 messages"]);
}

#[test]
fn message_that_is_too_large_for_the_broker_is_a_failure() {
    let broker = BrokerProcess::start(Options::default()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let large = folder.path().join("large");
    fs::write(&large, vec![b'x'; 300_000]).unwrap();
    let publish = ["-t", "a", "-q", "1", "-f", large.to_str().unwrap()];
    let ended = run("pub", &at(broker.mqtt(), Version::V5), &publish);
    let told = "packet of 300010 bytes, the broker at";
    expect_failure(
        &ended,
        1,
        &[told, "takes at most 262144", "0 of 1 messages"],
    );
    // In 3.1.1 a broker has no words for it.
    let ended = run("pub", &at(broker.mqtt(), Version::V311), &publish);
    expect_failure(
        &ended,
        1,
        &["closed the connection; it acknowledged 0 of 1 messages"],
    );
    // The largest that fits passes, one byte more does not: 10 bytes are the fixed header, topic,
    // packet identifier and the (no) properties.
    for (len, code) in [(262_144 - 10, 0), (262_144 - 9, 1)] {
        fs::write(&large, vec![b'x'; len]).unwrap();
        let ended = run("pub", &at(broker.mqtt(), Version::V5), &publish);
        assert_eq!(ended.code, ExitCode(code), "{ended:?}");
    }
}

#[test]
fn help_tells_what_each_exit_status_means() {
    for word in ["pub", "sub"] {
        let help = run(word, &[], &["--help"]);
        expect_success(&help);
        for line in [
            "Exit status:",
            "  0  ",
            "  1  ",
            "  2  ",
            "Ended by a signal",
        ] {
            assert!(help.stdout.contains(line), "{}", help.stdout);
        }
    }
}
