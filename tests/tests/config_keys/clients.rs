//! `[limits]`: what a client is told when it connects, and what it may send.

use std::time::Duration;

use tests::gateway::{Gateway, LOOPBACK};
use tests::mqtt::{Client, Connect, Packet, Properties, Publish, Received, SUCCESS, Version};

/// Properties of CONNACK.
const SERVER_KEEP_ALIVE: u8 = 0x13;
const RECEIVE_MAXIMUM: u8 = 0x21;
const MAXIMUM_PACKET_SIZE: u8 = 0x27;

const SESSION_EXPIRY_INTERVAL: u8 = 0x11;

/// Reason code of a session too many.
const QUOTA_EXCEEDED: u8 = 0x97;

/// Reason code of a packet beyond Maximum Packet Size.
const PACKET_TOO_LARGE: u8 = 0x95;

fn connack(gateway: &Gateway, keep_alive_seconds: u16) -> (Client, Properties) {
    let connect = Connect {
        keep_alive_seconds,
        ..Connect::new(Version::V5, "c")
    };
    let (client, connack) = Client::try_connect(gateway.mqtt().unwrap(), &connect).unwrap();
    match connack {
        Packet::Connack {
            code: SUCCESS,
            properties,
            ..
        } => (client, properties),
        other => panic!("{other:?}"),
    }
}

#[test]
pub(crate) fn packets_beyond_packet_bytes_max_end_the_connection() {
    for (text, bytes) in [("2KiB", 2_048), ("100000", 100_000)] {
        let value = text
            .parse::<u32>()
            .map_or_else(|_| format!("\"{text}\""), |n| n.to_string());
        let configuration = format!("{LOOPBACK}\n[limits]\npacket_bytes_max = {value}\n");
        let gateway = Gateway::start(&configuration).unwrap();
        let (mut client, properties) = connack(&gateway, 0);
        assert_eq!(properties.find_number(MAXIMUM_PACKET_SIZE), Some(bytes));
        // 100 bytes are more than enough for everything beside the payload.
        let fits = vec![0; bytes as usize - 100];
        let code = client
            .publish_acknowledged(Publish::new("t", fits))
            .unwrap();
        assert_eq!(code, SUCCESS, "{text}");
        client
            .publish("t", &vec![0; bytes as usize], Some(2))
            .unwrap();
        let end = client.receive().unwrap();
        let code = PACKET_TOO_LARGE;
        assert_eq!(end, Some(Packet::Disconnect { code }), "{text}");
    }
}

#[test]
pub(crate) fn connack_tells_receive_maximum_and_keep_alive() {
    let tight = format!("{LOOPBACK}\n[limits]\nreceive_maximum = 7\nkeep_alive_max = \"90s\"\n");
    let gateway = Gateway::start(&tight).unwrap();
    for (asked, told) in [(0, Some(90)), (60, None), (91, Some(90))] {
        let (_, properties) = connack(&gateway, asked);
        assert_eq!(properties.find_number(RECEIVE_MAXIMUM), Some(7));
        assert_eq!(properties.find_number(SERVER_KEEP_ALIVE), told, "{asked}");
    }
    let gateway = Gateway::start(LOOPBACK).unwrap();
    let (_, properties) = connack(&gateway, 0);
    assert_eq!(properties.find_number(RECEIVE_MAXIMUM), Some(64));
    assert_eq!(properties.find_number(SERVER_KEEP_ALIVE), None);
}

fn come(gateway: &Gateway, client_id: &str, seconds: u32) -> (Client, u8, Properties) {
    let properties = Properties::default().number(SESSION_EXPIRY_INTERVAL, seconds);
    let connect = Connect {
        properties,
        ..Connect::new(Version::V5, client_id)
    };
    let (client, connack) = Client::try_connect(gateway.mqtt().unwrap(), &connect).unwrap();
    match connack {
        Packet::Connack {
            code, properties, ..
        } => (client, code, properties),
        other => panic!("{other:?}"),
    }
}

#[test]
pub(crate) fn connack_tells_session_expiry_max() {
    let told = |gateway: &Gateway, asked| {
        let (_, code, properties) = come(gateway, "c", asked);
        assert_eq!(code, SUCCESS);
        properties.find_number(SESSION_EXPIRY_INTERVAL)
    };
    let start = |expiry: &str| {
        let limits = format!("{LOOPBACK}\n[limits]\nsession_expiry_max = \"{expiry}\"\n");
        Gateway::start(&limits).unwrap()
    };
    let week = Gateway::start(LOOPBACK).unwrap();
    assert_eq!(told(&week, 604_801), Some(604_800));
    assert_eq!(told(&week, 604_800), None, "as asked for");
    assert_eq!(told(&start("1h"), 604_801), Some(3_600));
    assert_eq!(told(&start("0s"), u32::MAX), None, "without an end");
}

#[test]
pub(crate) fn sessions_beyond_sessions_max_are_refused() {
    let few = format!("{LOOPBACK}\n[limits]\nsessions_max = 2\n");
    let gateway = Gateway::start(&few).unwrap();
    let stays = [come(&gateway, "a", 60), come(&gateway, "b", 60)];
    assert!(stays.iter().all(|(_, code, _)| *code == SUCCESS));
    assert_eq!(come(&gateway, "c", 60).1, QUOTA_EXCEEDED);
    assert_eq!(come(&gateway, "c", 0).1, SUCCESS, "it does not stay");
    assert_eq!(come(&gateway, "a", 60).1, SUCCESS, "it is there already");
}

#[test]
pub(crate) fn publishers_wait_when_commit_queue_bytes_max_are_on_their_way() {
    // Acknowledged at once and written when the queue is full, or in a minute.
    let start = |queue: &str| {
        Gateway::start(&format!(
            "{LOOPBACK}\n[limits]\npacket_bytes_max = \"64KiB\"\n\
             commit_queue_bytes_max = \"{queue}\"\n\
             [[log]]\nname = \"later\"\nfilters = [\"t\"]\ndurability = \"interval:60s\"\n"
        ))
        .unwrap()
    };
    let [small, large] = ["64KiB", "8MiB"].map(start);
    for gateway in [&small, &large] {
        let mut client = gateway.client("c").unwrap();
        for _ in 0..3 {
            let publish = Publish::new("t", vec![0; 40 << 10]);
            assert_eq!(client.publish_acknowledged(publish).unwrap(), SUCCESS);
        }
    }
    let durable = |gateway: &Gateway| {
        let name = "tidegate_log_high_watermark";
        gateway.metric(name, &[("log", "later")]).unwrap()
    };
    assert_eq!(
        durable(&small),
        2.0,
        "two had to be written to make room for the third"
    );
    assert_eq!(durable(&large), 0.0);
}

#[test]
pub(crate) fn silent_connections_are_closed_after_connect_timeout() {
    let start = |timeout: &str| {
        let configuration = format!("{LOOPBACK}\n[limits]\nconnect_timeout = \"{timeout}\"\n");
        let gateway = Gateway::start(&configuration).unwrap();
        let client = Client::open(gateway.mqtt().unwrap(), Version::V5).unwrap();
        (gateway, client)
    };
    let (_patient, mut waits) = start("5m");
    let (gateway, mut closed) = start("100ms");
    assert_eq!(closed.receive().unwrap(), None);
    let labels = [("reason", "connect_timeout")];
    gateway
        .wait_metric("tidegate_broker_connections_ended_total", &labels, |n| {
            n == 1.0
        })
        .unwrap();
    let received = waits.receive_within(Duration::from_millis(300)).unwrap();
    assert_eq!(received, Received::Nothing, "this one has minutes");
}
