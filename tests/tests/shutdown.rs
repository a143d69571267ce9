//! How the product ends and comes back: told to, told twice, told at a bad time, or killed. Whatever
//! it was doing, it ends, and what it has acknowledged is there afterwards.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may stop at the first surprise"
)]

#[path = "config_keys/model.rs"]
mod model;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use tests::command_line::tidegate;
use tests::deadline::{PATIENCE, retry, wait_for};
use tests::gateway::{Around, Gateway, LOOPBACK};
use tests::mqtt::{Client, Connect, Packet, Publish, SUCCESS, Version};
use tests::ports;
use tests::skip;
use tests::supervised::ExitCode;

/// "Server shutting down" of MQTT 5.
const SERVER_SHUTTING_DOWN: u8 = 0x8b;

/// One listener at an address that stays the same, with one log of one partition.
fn configuration(mqtt: u16) -> String {
    format!(
        "[[listener]]\nbind = \"127.0.0.1:{mqtt}\"\n[admin]\nbind = \"127.0.0.1:0\"\n\
         [[log]]\nname = \"readings\"\nfilters = [\"t\"]\npartitions = 1\n"
    )
}

/// Payloads of a log, from the folder of a gateway that has ended.
fn payloads(gateway: &Gateway) -> Vec<String> {
    let data = gateway.data_dir();
    let data = data.to_str().unwrap();
    let read = [
        "log", "read", "readings", "--json", "--count", "1000000", "--data", data,
    ];
    let ended = tidegate(&read).unwrap();
    assert_eq!(ended.code, ExitCode(0), "{}", ended.stderr);
    let payload = |line: &str| {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        record["payload"].as_str().unwrap().to_owned()
    };
    ended.stdout.lines().map(payload).collect()
}

/// Publishes until the connection ends, many at a time; what was acknowledged.
fn publish_until_the_end(mqtt: SocketAddr, name: &str) -> BTreeSet<String> {
    const AT_ONCE: u16 = 20;
    let mut acknowledged = BTreeSet::new();
    let Ok(mut client) = Client::connect(mqtt, &Connect::new(Version::V5, name)) else {
        return acknowledged;
    };
    for round in 0.. {
        let payload = |id: u16| format!("{name}-{round}-{id}");
        for id in 1..=AT_ONCE {
            if client
                .publish("t", payload(id).as_bytes(), Some(id))
                .is_err()
            {
                return acknowledged;
            }
        }
        for _ in 0..AT_ONCE {
            match client.receive() {
                Ok(Some(Packet::Puback { packet_id, code })) => {
                    assert_eq!(code, SUCCESS);
                    acknowledged.insert(payload(packet_id));
                }
                _ => return acknowledged,
            }
        }
    }
    acknowledged
}

/// `end` sees to the end of the gateway while four clients publish; what was acknowledged to them.
fn publish_and(
    gateway: &mut Gateway,
    life: usize,
    end: impl FnOnce(&mut Gateway),
) -> BTreeSet<String> {
    let mqtt = gateway.mqtt().unwrap();
    let clients: Vec<_> = (0..4)
        .map(|number| {
            thread::spawn(move || publish_until_the_end(mqtt, &format!("c{life}-{number}")))
        })
        .collect();
    end(gateway);
    let acknowledged = clients
        .into_iter()
        .flat_map(|client| client.join().unwrap());
    acknowledged.collect()
}

fn wait_for_records(gateway: &Gateway) {
    gateway
        .wait_metric("tidegate_log_records_total", &[], |count| count > 100.0)
        .unwrap();
}

fn expect_all(gateway: &Gateway, acknowledged: &BTreeSet<String>) {
    assert!(acknowledged.len() > 50, "{}", acknowledged.len());
    let found: BTreeSet<String> = payloads(gateway).into_iter().collect();
    let lost: Vec<_> = acknowledged.difference(&found).collect();
    assert!(
        lost.is_empty(),
        "{} acknowledged and lost: {lost:?}",
        lost.len()
    );
}

#[test]
fn acknowledged_messages_are_there_when_it_was_told_to_end() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut gateway = Gateway::start(&configuration(0)).unwrap();
        let acknowledged = publish_and(&mut gateway, 0, |gateway| {
            wait_for_records(gateway);
            assert_eq!(gateway.end(signal).unwrap(), ExitCode(0));
        });
        expect_all(&gateway, &acknowledged);
        let log = gateway.log();
        assert!(log.contains("Ended."), "{log}");
        assert!(!gateway.data_dir().join("run/addresses.json").exists());
    }
}

#[test]
fn acknowledged_messages_are_there_when_it_was_killed_five_times() {
    let port = ports::free().unwrap();
    let mut gateway = Gateway::start(&configuration(port)).unwrap();
    let mut acknowledged = BTreeSet::new();
    for life in 0..5 {
        acknowledged.extend(publish_and(&mut gateway, life, |gateway| {
            wait_for_records(gateway);
            gateway.kill().unwrap();
        }));
        gateway.restart(&configuration(port)).unwrap();
    }
    // Offsets stay dense, and nothing is a gap.
    let gaps = gateway.json("/status").unwrap()["store"]["gaps"].clone();
    assert_eq!(gaps, serde_json::json!([]));
    assert_eq!(gateway.end(Signal::TERM).unwrap(), ExitCode(0));
    expect_all(&gateway, &acknowledged);
}

/// A flash that cannot be written to: nothing may be promised any more, so it ends, and says with
/// what the supervisor may start it again.
#[test]
fn it_ends_and_acknowledges_nothing_more_when_a_sync_fails() {
    let tampering = [
        "-e",
        "trace=fdatasync",
        "-e",
        "inject=fdatasync:error=EIO:when=150+",
    ];
    let Some(around) = skip::unless(Around::tampered(&tampering)) else {
        return;
    };
    let mut gateway = Gateway::start_around(around, &configuration(0)).unwrap();
    let acknowledged = publish_and(&mut gateway, 0, |gateway| {
        assert_eq!(gateway.wait_end().unwrap(), ExitCode(74));
    });
    let log = gateway.log();
    assert!(log.contains("the store has failed"), "{log}");
    expect_all(&gateway, &acknowledged);
}

#[test]
fn clients_are_told_and_wills_are_not_published_when_it_ends() {
    let mut gateway = Gateway::start(&configuration(0)).unwrap();
    let mqtt = gateway.mqtt().unwrap();
    let with_will = Connect {
        will: Some(tests::mqtt::Will {
            topic: "t".to_owned(),
            payload: b"gone".to_vec(),
            retain: false,
        }),
        ..Connect::new(Version::V5, "new")
    };
    let mut new = Client::connect(mqtt, &with_will).unwrap();
    let mut old = Client::connect(mqtt, &Connect::new(Version::V311, "old")).unwrap();
    let publish = Publish::new("t", "published");
    assert_eq!(old.publish_acknowledged(publish).unwrap(), SUCCESS);
    assert_eq!(gateway.end(Signal::TERM).unwrap(), ExitCode(0));
    let code = SERVER_SHUTTING_DOWN;
    assert_eq!(new.receive().unwrap(), Some(Packet::Disconnect { code }));
    assert_eq!(new.receive().unwrap(), None);
    assert_eq!(
        old.receive().unwrap(),
        None,
        "MQTT 3.1.1 has no words for it"
    );
    assert_eq!(payloads(&gateway), ["published"]);
}

/// Ends it in the middle of its start: with the signal after 0, 1, 2 ... milliseconds.
#[test]
fn it_ends_when_it_is_told_so_while_it_starts() {
    for pause_ms in [0, 1, 2, 5, 10, 20, 40, 80] {
        let mut gateway = Gateway::spawn(Around::default(), &configuration(0)).unwrap();
        thread::sleep(Duration::from_millis(pause_ms));
        let code = gateway.end(Signal::TERM).unwrap();
        // Before it listens for the signal the system ends it.
        assert!(
            [0, 128 + 15].contains(&code.0),
            "{code} after {pause_ms} ms"
        );
        // What it leaves behind, it understands.
        gateway.restart(&configuration(0)).unwrap();
        assert_eq!(gateway.end(Signal::TERM).unwrap(), ExitCode(0));
    }
}

fn bridged(bootstrap: SocketAddr, request_timeout: &str) -> String {
    format!(
        "gateway_id = \"gw\"\n{LOOPBACK}\n[bridge]\nbootstrap = [\"{bootstrap}\"]\n\
         request_timeout = \"{request_timeout}\"\n\
         [[bridge.route]]\nname = \"r\"\nlog = \"default\"\ntopic = \"t\"\n"
    )
}

fn publish_one(gateway: &Gateway) {
    let mut client = gateway.client("c").unwrap();
    let publish = Publish::new("t", "payload");
    assert_eq!(client.publish_acknowledged(publish).unwrap(), SUCCESS);
}

#[test]
fn it_ends_when_the_cluster_cannot_be_reached_or_says_nothing() {
    let nobody = SocketAddr::from((Ipv4Addr::LOCALHOST, ports::free().unwrap()));
    // Accepts, since the system does, and never says a word.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    for bootstrap in [nobody, silent.local_addr().unwrap()] {
        let mut gateway = Gateway::start(&bridged(bootstrap, "5m")).unwrap();
        publish_one(&gateway);
        assert_eq!(
            gateway.end(Signal::TERM).unwrap(),
            ExitCode(0),
            "{bootstrap}"
        );
    }
}

/// A gateway that has sent a record to a cluster which does not answer, for five minutes.
fn with_a_record_in_flight() -> (kafka::model::ModelHandle, Gateway) {
    let model = model::model(&["t"]);
    let bootstrap = model.address().parse().unwrap();
    let gateway = Gateway::start(&bridged(bootstrap, "5m")).unwrap();
    publish_one(&gateway);
    let replicated = "tidegate_bridge_replicated_records_total";
    gateway
        .wait_metric(replicated, &[], |count| count == 1.0)
        .unwrap();
    model.stall();
    publish_one(&gateway);
    let in_doubt = "tidegate_bridge_in_doubt_records";
    gateway
        .wait_metric(in_doubt, &[], |count| count == 1.0)
        .unwrap();
    (model, gateway)
}

#[test]
fn it_does_not_wait_for_the_uplink_when_it_is_told_twice() {
    let (_model, mut gateway) = with_a_record_in_flight();
    gateway.process().unwrap().signal(Signal::TERM).unwrap();
    wait_for("the broker's end", PATIENCE, || {
        Ok(gateway.log().contains("Shutting down").then_some(()))
    })
    .unwrap();
    assert_eq!(gateway.end(Signal::INT).unwrap(), ExitCode(0));
    let log = gateway.log();
    assert!(log.contains("Not waiting for the uplink"), "{log}");
}

#[test]
fn it_ends_when_the_cluster_falls_silent_with_a_record_in_flight() {
    let (model, mut gateway) = with_a_record_in_flight();
    let bootstrap = model.address().parse().unwrap();
    assert_eq!(gateway.end(Signal::TERM).unwrap(), ExitCode(0));
    // The next life asks the cluster, and nothing is there twice.
    model.resume();
    gateway.restart(&bridged(bootstrap, "5m")).unwrap();
    publish_one(&gateway);
    let replicated = "tidegate_bridge_replicated_records_total";
    gateway
        .wait_metric(replicated, &[], |count| count == 3.0)
        .unwrap();
    assert_eq!(model.records("t", 0).len(), 3);
}

#[test]
fn it_ends_when_a_subscriber_reads_nothing() {
    let mut gateway = Gateway::start(&configuration(0)).unwrap();
    let mut stalled = gateway.client("stalled").unwrap();
    stalled.subscribe("#").unwrap();
    let mut publisher = gateway.client("publisher").unwrap();
    for _ in 0..60 {
        let publish = Publish::new("elsewhere", vec![0; 200 << 10]);
        assert_eq!(publisher.publish_acknowledged(publish).unwrap(), SUCCESS);
    }
    assert_eq!(gateway.end(Signal::TERM).unwrap(), ExitCode(0));
}

#[test]
fn it_serves_and_ends_well_when_its_log_lines_cannot_be_written() {
    // A full disk under the log file; likewise a pipe that nobody reads any more.
    let wrapper = ["sh", "-c", "exec \"$@\" 2>/dev/full", "sh"].map(Into::into);
    let around = Around {
        wrapper: wrapper.to_vec(),
        ..Around::default()
    };
    let mut gateway = Gateway::start_around(around, LOOPBACK).unwrap();
    publish_one(&gateway);
    gateway.process().unwrap().signal(Signal::TERM).unwrap();
    assert_eq!(gateway.wait_end().unwrap(), ExitCode(0));
}

#[test]
fn it_serves_when_the_file_of_its_addresses_cannot_be_written() {
    let data = tempfile::tempdir().unwrap();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, ports::free().unwrap()));
    let configuration = format!(
        "data_dir = \"{}\"\n[[listener]]\nbind = \"{address}\"\n[admin]\nbind = \"127.0.0.1:0\"\n",
        data.path().display()
    );
    let around = Around {
        data_dir: Some(data.path().to_owned()),
        ..Around::default()
    };
    let mut first = Gateway::start_around(around.clone(), &configuration).unwrap();
    assert_eq!(first.end(Signal::TERM).unwrap(), ExitCode(0));
    std::fs::remove_dir_all(data.path().join("run")).unwrap();
    std::fs::write(data.path().join("run"), "in the way").unwrap();

    let mut second = Gateway::spawn(around, &configuration).unwrap();
    let connect = Connect::new(Version::V5, "c");
    let mut client = retry("a connection", PATIENCE, || {
        Client::connect(address, &connect)
    })
    .unwrap();
    let publish = Publish::new("t", "payload");
    assert_eq!(client.publish_acknowledged(publish).unwrap(), SUCCESS);
    let log = second.log();
    assert!(
        log.contains("run/addresses.json cannot be written"),
        "{log}"
    );
    assert_eq!(second.end(Signal::TERM).unwrap(), ExitCode(0));
}
