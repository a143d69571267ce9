//! Packets that come slowly, in pieces, or never whole.

use std::thread;
use std::time::Duration;

use tests::broker_process::Options;
use tests::mqtt::packet::PINGREQ;
use tests::mqtt::{Client, Connect, Packet, Publish, Subscribe, Version};

use crate::bystanders::read;
use crate::{Scene, allocated_bytes, receive_until_end};

const MIB: u64 = 1 << 20;

fn limits(lines: &str) -> Options {
    Options {
        tables: format!("[limits]\n{lines}\n"),
        ..Options::default()
    }
}

#[test]
fn packets_that_come_byte_by_byte_are_taken() {
    let mut scene = Scene::start(Options::default());
    for version in Version::BOTH {
        let topic = format!("bytes/{}", version.level());
        let mut bytes = Connect::new(version, "byte by byte").encode();
        bytes.extend(Subscribe::new("#").encode(version));
        for number in 1..=3 {
            let publish = Publish {
                packet_id: Some(number),
                ..Publish::new(&topic, number.to_string())
            };
            bytes.extend(publish.encode(version));
        }
        bytes.extend(PINGREQ);
        let mut client = Client::open(scene.broker.mqtt(), version).unwrap();
        for byte in bytes {
            client.send(&[byte]).unwrap();
        }
        let (mut acknowledged, mut delivered) = (Vec::new(), Vec::new());
        while acknowledged.len() < 3 || delivered.len() < 3 {
            match client.receive().unwrap().unwrap() {
                Packet::Puback { packet_id, code: 0 } => acknowledged.push(packet_id),
                Packet::Publish(publish) => delivered.push(publish.payload),
                Packet::Connack { code: 0, .. } | Packet::Pingresp => {}
                Packet::Suback { codes, .. } if codes == [1] => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(acknowledged, [1, 2, 3]);
        assert_eq!(delivered, [b"1", b"2", b"3"]);
        let admin = scene.broker.admin().to_string();
        assert_eq!(read(&["--admin", &admin], &topic), ["1", "2", "3"]);
        scene.expect_undisturbed();
    }
    scene.finish();
}

#[test]
fn half_a_connect_is_given_up_after_the_connect_timeout() {
    let mut scene = Scene::start(limits("connect_timeout = \"500ms\""));
    let connect = Connect::new(Version::V5, "half").encode();
    let (half, _) = connect.split_at(connect.len() / 2);
    let mut clients = Vec::new();
    for bytes in [&[][..], &connect[..1], half, half, half] {
        let mut client = Client::open(scene.broker.mqtt(), Version::V5).unwrap();
        client.send(bytes).unwrap();
        clients.push(client);
    }
    scene.expect_undisturbed();
    for client in &mut clients {
        assert_eq!(receive_until_end(client), []);
    }
    for client in clients {
        let peer = client.stream().local_addr().unwrap().to_string();
        assert!(scene.broker.log().contains(&format!("peer={peer}")));
    }
    scene.expect_line(&["Connection ended.", "no CONNECT in time"]);
    let metrics = scene.broker.metrics().unwrap();
    let name = "tidegate_broker_connections_ended_total";
    assert_eq!(
        metrics.sum(name, &[("reason", "connect_timeout")]),
        Some(5.0)
    );
    scene.finish();
}

#[test]
fn connect_that_drips_is_given_up_although_something_always_comes() {
    let mut scene = Scene::start(limits("connect_timeout = \"500ms\""));
    let connect = Connect::new(Version::V5, &"x".repeat(10_000)).encode();
    let mut client = Client::open(scene.broker.mqtt(), Version::V5).unwrap();
    let mut dripping = client.stream().try_clone().unwrap();
    let drip = thread::spawn(move || {
        // 200 s, if nobody ends it.
        for byte in connect {
            use std::io::Write as _;
            if dripping.write_all(&[byte]).is_err() {
                return true;
            }
            thread::sleep(Duration::from_millis(20));
        }
        false
    });
    assert_eq!(receive_until_end(&mut client), []);
    drop(client);
    assert!(drip.join().unwrap());
    scene.expect_line(&["Connection ended.", "no CONNECT in time"]);
    scene.finish();
}

#[test]
fn half_a_publish_is_given_up_after_the_keep_alive() {
    let mut scene = Scene::start(Options::default());
    for version in Version::BOTH {
        let connect = Connect {
            keep_alive_seconds: 1,
            ..Connect::new(version, "half")
        };
        let mut client = Client::connect(scene.broker.mqtt(), &connect).unwrap();
        let publish = Publish {
            packet_id: Some(1),
            ..Publish::new("half", "never whole")
        };
        let bytes = publish.encode(version);
        client.send(&bytes[..bytes.len() - 1]).unwrap();
        let expected = match version {
            Version::V311 => vec![],
            Version::V5 => vec![Packet::Disconnect { code: 0x8d }],
        };
        assert_eq!(receive_until_end(&mut client), expected);
        scene.expect_line(&[
            "client_id=\"half\"",
            "Connection ended.",
            "keep alive timeout",
        ]);
        scene.expect_undisturbed();
    }
    let admin = scene.broker.admin().to_string();
    assert_eq!(read(&["--admin", &admin], "half").len(), 0);
    scene.finish();
}

#[test]
fn announced_length_takes_no_memory() {
    const CLIENTS: usize = 300;
    let mut scene = Scene::start(Options::default());
    scene.expect_undisturbed();
    // Also what was asked for and not touched.
    let before = allocated_bytes(scene.pid);
    // 256 KiB less a little is allowed; all of them together would be 75 MiB. A CONNECT as well as
    // a PUBLISH.
    let mut stalled = Vec::new();
    for number in 0..CLIENTS {
        let mut client = match number % 2 {
            0 => Client::open(scene.broker.mqtt(), Version::V5).unwrap(),
            _ => {
                let connect = Connect::new(Version::V5, &format!("large {number}"));
                Client::connect(scene.broker.mqtt(), &connect).unwrap()
            }
        };
        let first: &[u8] = match number % 2 {
            0 => b"\x10\xf0\xff\x0f\x00\x04MQTT\x05\x02\x00\x00",
            _ => b"\x30\xf0\xff\x0f\x00\x01a\x00",
        };
        client.send(first).unwrap();
        stalled.push(client);
    }
    scene.expect_undisturbed();
    let grown = allocated_bytes(scene.pid).saturating_sub(before);
    assert!(
        grown < 24 * MIB,
        "{grown} bytes for {CLIENTS} beginnings of packets"
    );
    // Beyond the limit the announcement alone ends it.
    for _ in 0..5 {
        let connect = Connect::new(Version::V5, "too large");
        let mut client = Client::connect(scene.broker.mqtt(), &connect).unwrap();
        client.send(b"\x30\xff\xff\xff\x7f").unwrap();
        let told = receive_until_end(&mut client);
        assert_eq!(told, [Packet::Disconnect { code: 0x95 }]);
        scene.expect_line(&["packet of 268435460 bytes, at most 262144 are allowed"]);
    }
    let grown = allocated_bytes(scene.pid).saturating_sub(before);
    assert!(
        grown < 24 * MIB,
        "{grown} bytes after packets that are too large"
    );
    drop(stalled);
    scene.finish();
}
