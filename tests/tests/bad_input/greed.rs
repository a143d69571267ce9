//! Clients that take more than their share: that never read, never stop, or are too many. Bounds of
//! memory are generous; without a bound in the product they would be exceeded many times.

use std::net::SocketAddr;
use std::thread;

use rustix::net::sockopt::set_socket_recv_buffer_size;
use tests::broker_process::Options;
use tests::deadline::{PATIENCE, wait_for};
use tests::mqtt::packet::puback;
use tests::mqtt::{Client, Connect, Packet, Publish, Version};
use tests::ports;

use crate::bystanders::{is_served, read};
use crate::{Scene, receive_until_end, rss_bytes};

const MIB: u64 = 1 << 20;

/// Topics below `live/` are not stored.
fn with_live_log() -> Options {
    Options {
        tables: String::from(
            "[[log]]\nname = \"live\"\nfilters = [\"live/#\"]\ndurability = \"memory\"\n\
             [[log]]\nname = \"default\"\nfilters = [\"#\"]\n",
        ),
        ..Options::default()
    }
}

/// A subscriber that will not read any more.
fn deaf(scene: &Scene, version: Version, number: usize) -> Client {
    let connect = Connect::new(version, &format!("deaf {number}"));
    let mut client = Client::connect(scene.broker.mqtt(), &connect).unwrap();
    set_socket_recv_buffer_size(client.stream(), 4096).unwrap();
    assert_eq!(client.subscribe("live/#").unwrap(), 1);
    client
}

/// Publishes that many bytes to those who do not listen, without waiting for them.
fn publish_much(publisher: &mut Client, qos_1: bool, total_bytes: usize) {
    let payload = vec![b'x'; 32 << 10];
    for _ in 0..total_bytes / payload.len() {
        if qos_1 {
            let publish = Publish::new("live/much", &payload);
            assert_eq!(publisher.publish_acknowledged(publish).unwrap(), 0);
        } else {
            publisher.publish("live/much", &payload, None).unwrap();
        }
    }
    assert_eq!(publisher.ping().unwrap(), []);
}

#[test]
fn subscribers_that_never_read_cost_a_bounded_amount_of_memory() {
    const SUBSCRIBERS: usize = 6;
    // Each may have 1 MiB waiting.
    const TOTAL_BYTES: usize = 192 << 20;
    let mut scene = Scene::start(with_live_log());
    scene.expect_undisturbed();
    let before = rss_bytes(scene.pid);
    let versions = [Version::V311, Version::V5].into_iter().cycle();
    let deaf: Vec<Client> = versions
        .take(SUBSCRIBERS)
        .enumerate()
        .map(|(number, version)| deaf(&scene, version, number))
        .collect();
    let connect = Connect::new(Version::V5, "loud");
    let mut publisher = Client::connect(scene.broker.mqtt(), &connect).unwrap();
    publish_much(&mut publisher, false, TOTAL_BYTES);
    scene.expect_undisturbed();
    let grown = rss_bytes(scene.pid).saturating_sub(before);
    assert!(
        grown < 64 * MIB,
        "{grown} bytes for {SUBSCRIBERS} deaf subscribers"
    );
    let metrics = scene.broker.metrics().unwrap();
    let dropped = metrics.sum("tidegate_broker_messages_dropped_total", &[]);
    assert!(dropped > Some(0.0), "{dropped:?}");
    drop(deaf);
    scene.finish();
}

#[test]
fn subscriber_that_never_reads_qos_1_is_disconnected_with_a_warning() {
    const TOTAL_BYTES: usize = 24 << 20;
    let mut scene = Scene::start(with_live_log());
    let deaf = deaf(&scene, Version::V5, 1);
    let connect = Connect::new(Version::V311, "loud");
    let mut publisher = Client::connect(scene.broker.mqtt(), &connect).unwrap();
    publish_much(&mut publisher, true, TOTAL_BYTES);
    scene.expect_line(&[
        "WARN",
        "Client was disconnected.",
        "deaf 1",
        "quota exceeded (0x97)",
    ]);
    scene.expect_undisturbed();
    drop(deaf);
    scene.finish();
}

#[test]
fn subscriber_that_acknowledges_nothing_holds_up_nobody() {
    let mut scene = Scene::start(Options::default());
    let connect = Connect::new(Version::V5, "silent");
    let mut silent = Client::connect(scene.broker.mqtt(), &connect).unwrap();
    silent.subscribe("bystanders").unwrap();
    for _ in 0..100 {
        scene.bystanders.exchange();
    }
    // As many as the broker has in flight for one client.
    let delivered = silent.ping().unwrap();
    assert_eq!(delivered.len(), 64);
    // Acknowledgements of what was never sent are nothing to it, those of what was let more through.
    silent.send(&puback(9_999)).unwrap();
    for packet in delivered {
        let Packet::Publish(Publish {
            packet_id: Some(packet_id),
            ..
        }) = packet
        else {
            panic!("{packet:?}");
        };
        silent.send(&puback(packet_id)).unwrap();
    }
    for _ in 64..100 {
        silent.receive_publish().unwrap();
    }
    assert_eq!(silent.ping().unwrap(), []);
    scene.finish();
}

#[test]
fn publisher_that_reads_no_acknowledgement_gets_all_of_them_later() {
    const COUNT: u16 = 20_000;
    let mut scene = Scene::start(Options::default());
    scene.expect_undisturbed();
    let before = rss_bytes(scene.pid);
    let connect = Connect::new(Version::V311, "flood");
    let mut client = Client::connect(scene.broker.mqtt(), &connect).unwrap();
    set_socket_recv_buffer_size(client.stream(), 4096).unwrap();
    let mut writer = client.stream().try_clone().unwrap();
    let flood = thread::spawn(move || {
        use std::io::Write as _;
        for packet_id in 1..=COUNT {
            let publish = Publish {
                packet_id: Some(packet_id),
                ..Publish::new("flood", format!("{packet_id:0>200}"))
            };
            writer.write_all(&publish.encode(Version::V311)).unwrap();
        }
    });
    for _ in 0..20 {
        scene.expect_undisturbed();
    }
    let grown = rss_bytes(scene.pid).saturating_sub(before);
    assert!(grown < 96 * MIB, "{grown} bytes for one flood");
    for packet_id in 1..=COUNT {
        let expected = Packet::Puback { packet_id, code: 0 };
        assert_eq!(client.receive().unwrap(), Some(expected));
    }
    flood.join().unwrap();
    let logged = read(&["--data", &killed(&mut scene)], "flood");
    let expected = (1..=COUNT).map(|packet_id| format!("{packet_id:0>200}"));
    assert!(logged.into_iter().eq(expected));
    scene.bystanders.expect_in_folder(scene.broker.data_dir());
}

/// Kills the broker; its folder.
fn killed(scene: &mut Scene) -> String {
    assert!(!scene.broker.log().contains("panicked"));
    scene.broker.kill().unwrap();
    scene.broker.data_dir().to_str().unwrap().to_owned()
}

#[test]
fn publisher_beyond_the_receive_maximum_is_disconnected_and_keeps_what_was_acknowledged() {
    const COUNT: u16 = 10_000;
    let mut scene = Scene::start(Options::default());
    let connect = Connect::new(Version::V5, "greedy");
    let mut client = Client::connect(scene.broker.mqtt(), &connect).unwrap();
    let mut bytes = Vec::new();
    for packet_id in 1..=COUNT {
        let publish = Publish {
            packet_id: Some(packet_id),
            ..Publish::new("greed", packet_id.to_string())
        };
        bytes.extend(publish.encode(Version::V5));
    }
    client.send(&bytes).unwrap();
    let mut told = receive_until_end(&mut client);
    assert_eq!(told.pop(), Some(Packet::Disconnect { code: 0x93 }));
    let text = "more than 64 unacknowledged publications";
    scene.expect_line(&["Client broke the protocol.", "client_id=\"greedy\"", text]);
    scene.expect_undisturbed();
    let logged = read(&["--admin", &scene.broker.admin().to_string()], "greed");
    for (number, packet) in (1..).zip(&told) {
        assert_eq!(
            *packet,
            Packet::Puback {
                packet_id: number,
                code: 0
            }
        );
    }
    // More may be stored than was acknowledged, in the order of publishing and without a hole.
    let expected = (1..=logged.len()).map(|number| number.to_string());
    assert!(
        logged.len() >= told.len() && logged.iter().cloned().eq(expected),
        "{logged:?}"
    );
    scene.finish();
}

#[test]
fn connections_beyond_the_maximum_are_closed_and_let_in_when_there_is_room() {
    const MAX: usize = 5;
    let port = ports::free().unwrap();
    let crowded = SocketAddr::from(([127, 0, 0, 1], port));
    // Nobody's place becomes free by itself meanwhile.
    let listener = format!(
        "[[listener]]\nbind = \"{crowded}\"\nconnections_max = {MAX}\n\
         [limits]\nconnect_timeout = \"5m\"\n"
    );
    let mut scene = Scene::start(Options {
        tables: listener,
        ..Options::default()
    });
    // They say nothing, and so hold their places.
    let half_open: Vec<Client> = (0..MAX)
        .map(|_| Client::open(crowded, Version::V5).unwrap())
        .collect();
    for _ in 0..50 {
        // The system's own hand-shake succeeds, then it is closed.
        let mut refused = Client::open(crowded, Version::V5).unwrap();
        assert_eq!(receive_until_end(&mut refused), []);
    }
    scene.expect_line(&["WARN", "Too many connections.", &crowded.to_string()]);
    scene.expect_undisturbed();
    let metrics = scene.broker.metrics().unwrap();
    let refused = metrics.sum("tidegate_broker_connections_refused_total", &[]);
    assert_eq!(refused, Some(50.0));
    assert!(!is_served(crowded));
    assert!(is_served(scene.broker.mqtt()));
    drop(half_open);
    wait_for("room", PATIENCE, || Ok(is_served(crowded).then_some(()))).unwrap();
    scene.finish();
}
