//! What `pub` publishes and what `sub` prints.

use std::fs;
use std::net::SocketAddr;

use tests::broker_process::{BrokerProcess, Options};
use tests::mosquitto::{self, Mosquitto};
use tests::mqtt::{Publish, Version};
use tests::skip;

use crate::{at, command, expect_failure, expect_success, in_shell, run, run_with_input, watcher};

/// Every kind of input in both versions and QoS 0 and 1, as another client receives it.
fn publish_everything(broker: SocketAddr) {
    let folder = tempfile::tempdir().unwrap();
    let (bytes, lines) = (folder.path().join("bytes"), folder.path().join("lines"));
    fs::write(&bytes, b"two\nlines \xff\x00").unwrap();
    fs::write(&lines, b"first\n\n third \r\nlast without an end").unwrap();
    let path = bytes.to_str().unwrap();
    let mut watcher = watcher(broker, "in/#");
    for version in Version::BOTH {
        let at = at(broker, version);
        for qos in ["0", "1"] {
            let topic = format!("in/{}/{qos}", version.level());
            let with = |what: &[&'static str]| [&["-t", &topic, "-q", qos], what].concat();
            let mut receive = |payload: &[u8]| {
                let received = watcher.receive_publish().unwrap();
                let has_qos = u8::from(received.packet_id.is_some()).to_string();
                assert_eq!((&received.topic, has_qos.as_str()), (&topic, qos));
                assert_eq!(received.payload, payload, "{topic}");
                assert!(!received.retain && !received.dup);
                received
            };
            expect_success(&run("pub", &at, &with(&["-m", "text \u{fc}"])));
            receive("text \u{fc}".as_bytes());
            expect_success(&run("pub", &at, &[&with(&["-f"])[..], &[path]].concat()));
            receive(b"two\nlines \xff\x00");
            expect_success(&run_with_input("pub", &at, &with(&["-f", "-"]), &lines));
            receive(b"first\n\n third \r\nlast without an end");
            expect_success(&run("pub", &at, &with(&["-n"])));
            receive(b"");
            expect_success(&run_with_input("pub", &at, &with(&["-l"]), &lines));
            for line in ["first", "", " third ", "last without an end"] {
                receive(line.as_bytes());
            }
            if version == Version::V5 {
                let properties = ["-m", "x", "--property", "a=b=c", "--property", "a="];
                expect_success(&run("pub", &at, &with(&properties)));
                let expected = Publish::new(&topic, "x").properties;
                let expected = expected.user("a", "b=c").user("a", "");
                assert_eq!(receive(b"x").properties, expected);
            }
        }
    }
}

/// A retained message reaches a later subscriber until an empty one has taken it away.
fn retain_and_clear(broker: SocketAddr) {
    for version in Version::BOTH {
        let at = at(broker, version);
        for (qos, topic) in [("0", "kept/0"), ("1", "kept/1")] {
            let with = |what: &[&'static str]| [&["-t", topic, "-q", qos], what].concat();
            expect_success(&run("pub", &at, &with(&["-r", "-m", "value"])));
            let printed = run("sub", &at, &with(&["-c", "1", "--json"]));
            expect_success(&printed);
            assert_eq!(
                printed.stdout,
                format!(
                    "{{\"topic\":\"{topic}\",\"qos\":{qos},\"retain\":true,\"payload\":\"value\"}}\n"
                )
            );
            expect_success(&run("pub", &at, &with(&["-r", "-n"])));
            let mut later = watcher(broker, topic);
            assert_eq!(later.ping().unwrap(), []);
        }
    }
}

/// Every way to print, from retained messages, so that nothing must happen at the right time.
fn print_everything(broker: SocketAddr) {
    let folder = tempfile::tempdir().unwrap();
    let bytes = folder.path().join("bytes");
    fs::write(&bytes, b"\xff\x00").unwrap();
    let path = bytes.to_str().unwrap();
    for version in Version::BOTH {
        let at = at(broker, version);
        for arguments in [
            ["-t", "seen/1", "-m", "one"],
            ["-t", "seen/2/x", "-m", "two words"],
            ["-t", "seen/3", "-f", path],
        ] {
            expect_success(&run(
                "pub",
                &at,
                &[&arguments[..], &["-r", "-q", "1"]].concat(),
            ));
        }
        let sub = |arguments: &[&str]| {
            let ended = run("sub", &at, arguments);
            expect_success(&ended);
            let mut lines: Vec<String> = ended.stdout.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        let two_filters = ["-t", "seen/1", "-t", "seen/2/#", "-c", "2"];
        assert_eq!(sub(&two_filters), ["one", "two words"]);
        assert_eq!(
            sub(&["-t", "seen/+", "-t", "seen/2/x", "-c", "3", "-v"])[..2],
            ["seen/1 one", "seen/2/x two words"]
        );
        let json = sub(&["-t", "seen/3", "-c", "1", "--json", "-q", "1"]);
        let expected = "{\"topic\":\"seen/3\",\"qos\":1,\"retain\":true,\"payload_hex\":\"ff00\"}";
        assert_eq!(json, [expected]);
        // Exactly the bytes, and a line end.
        let raw = in_shell(
            "\"$@\" >\"$INPUT\" && cmp \"$INPUT\" - <<END\n\
             $(printf one)\nEND",
            &command("sub", &at, &["-t", "seen/1", "-c", "1"]),
            &folder.path().join("raw"),
        );
        expect_success(&raw);
    }
}

#[test]
fn every_input_is_published_as_it_is_to_the_product() {
    let broker = BrokerProcess::start(Options::default()).unwrap();
    publish_everything(broker.mqtt());
}

#[test]
fn every_input_is_published_as_it_is_to_mosquitto() {
    let Some(_) = skip::unless(mosquitto::available()) else {
        return;
    };
    let broker = Mosquitto::start("").unwrap();
    publish_everything(broker.address());
}

#[test]
fn retained_message_is_printed_until_it_is_cleared() {
    let broker = BrokerProcess::start(Options::default()).unwrap();
    retain_and_clear(broker.mqtt());
    print_everything(broker.mqtt());
}

#[test]
fn retained_message_is_printed_until_it_is_cleared_at_mosquitto() {
    let Some(_) = skip::unless(mosquitto::available()) else {
        return;
    };
    let broker = Mosquitto::start("").unwrap();
    retain_and_clear(broker.address());
    print_everything(broker.address());
}

#[test]
fn qos_2_is_published_and_received() {
    let product = BrokerProcess::start(Options::default()).unwrap();
    let publish = ["-t", "twice", "-q", "2", "-m", "x"];
    let mut client = watcher(product.mqtt(), "twice");
    for version in Version::BOTH {
        expect_success(&run("pub", &at(product.mqtt(), version), &publish));
        assert_eq!(client.receive_publish().unwrap().payload, b"x");
    }
    drop(client);

    let Some(_) = skip::unless(mosquitto::available()) else {
        return;
    };
    let broker = Mosquitto::start("").unwrap();
    let mut watcher = watcher(broker.address(), "twice");
    for version in Version::BOTH {
        expect_success(&run("pub", &at(broker.address(), version), &publish));
        assert_eq!(watcher.receive_publish().unwrap().payload, b"x");
    }
}

#[test]
fn qos_2_is_refused_where_it_is_not_served() {
    let Some(_) = skip::unless(mosquitto::available()) else {
        return;
    };
    let broker = Mosquitto::start("max_qos 1").unwrap();
    let publish = ["-t", "twice", "-q", "2", "-m", "x"];
    let refused = run("pub", &at(broker.address(), Version::V5), &publish);
    expect_failure(&refused, 1, &["serves at most QoS 1: use --qos 1"]);
    let refused = run("pub", &at(broker.address(), Version::V311), &publish);
    expect_failure(
        &refused,
        1,
        &["acknowledged 0 of 1 messages", "use --qos 1"],
    );
}

#[test]
fn what_pub_says_is_acknowledged_is_in_the_log_in_its_order() {
    let mut broker = BrokerProcess::start(Options::default()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let lines = folder.path().join("lines");
    let text: String = (0..1_000).map(|number| format!("{number}\n")).collect();
    fs::write(&lines, &text).unwrap();
    let at = at(broker.mqtt(), Version::V5);
    let arguments = ["-t", "numbers", "-q", "1", "-l"];
    expect_success(&run_with_input("pub", &at, &arguments, &lines));
    broker.kill().unwrap();
    let data = broker.data_dir().to_str().unwrap();
    let arguments = [
        "read", "default", "--data", data, "--count", "2000", "--json",
    ];
    let read = run("log", &[], &arguments);
    expect_success(&read);
    let payloads = read.stdout.lines().map(|line| {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        format!("{}\n", record["payload"].as_str().unwrap())
    });
    assert_eq!(payloads.collect::<String>(), text);
}
