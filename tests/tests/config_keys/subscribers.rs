//! `[limits]`: what subscribers and retained messages may take.

use std::time::Duration;

use tests::gateway::{Gateway, LOOPBACK};
use tests::mqtt::{Client, Connect, Packet, Properties, Publish, Received, SUCCESS, Version};

/// Reason codes of MQTT 5.
const TOPIC_FILTER_INVALID: u8 = 0x8f;
const TOPIC_NAME_INVALID: u8 = 0x90;
const QUOTA_EXCEEDED: u8 = 0x97;

fn start(limits: &str) -> Gateway {
    Gateway::start(&format!("{LOOPBACK}\n[limits]\n{limits}\n")).unwrap()
}

/// Publishes with QoS 1 and waits until all are acknowledged.
fn publish(gateway: &Gateway, count: usize, payload_len: usize) {
    publish_to(gateway, "t", count, payload_len);
}

fn publish_to(gateway: &Gateway, topic: &str, count: usize, payload_len: usize) {
    let mut publisher = gateway.client("publisher").unwrap();
    for _ in 0..count {
        let publish = Publish::new(topic, vec![0; payload_len]);
        assert_eq!(publisher.publish_acknowledged(publish).unwrap(), SUCCESS);
    }
}

fn subscriber(gateway: &Gateway) -> Client {
    let mut subscriber = gateway.client("subscriber").unwrap();
    assert_eq!(subscriber.subscribe("t").unwrap(), 1);
    subscriber
}

#[test]
pub(crate) fn no_more_than_inflight_max_is_sent_before_an_acknowledgement() {
    for inflight_max in [2, 5] {
        let gateway = start(&format!("inflight_max = {inflight_max}"));
        let mut subscriber = subscriber(&gateway);
        publish(&gateway, 10, 10);
        // Delivered before its own acknowledgement; with the PINGRESP comes all that may come.
        let before = subscriber.ping().unwrap();
        assert_eq!(before.len(), inflight_max, "{before:?}");
    }
}

#[test]
pub(crate) fn messages_beyond_mailbox_bytes_max_do_not_wait() {
    let full = [("reason", "mailbox_full")];
    // What is in a log is read from there when there is room again, what is in none is dropped.
    for (topic, metric, labels) in [
        ("t", "tidegate_broker_sessions_behind", [].as_slice()),
        ("$t", "tidegate_broker_messages_dropped_total", &full),
    ] {
        for (mailbox, is_beyond) in [("4KiB", true), ("1MiB", false)] {
            let gateway = start(&format!(
                "inflight_max = 1\npacket_bytes_max = \"4KiB\"\nmailbox_bytes_max = \"{mailbox}\""
            ));
            let mut subscriber = gateway.client("subscriber").unwrap();
            assert_eq!(subscriber.subscribe(topic).unwrap(), 1);
            publish_to(&gateway, topic, 20, 1000);
            let count = gateway.metric(metric, labels).unwrap();
            assert_eq!(count > 0.0, is_beyond, "{topic}: {count} with {mailbox}");
        }
    }
}

/// One may have a sixteenth of it, or 4 KiB.
#[test]
pub(crate) fn messages_beyond_all_mailboxes_bytes_max_do_not_wait() {
    for (all, is_beyond) in [("64KiB", true), ("8MiB", false)] {
        let gateway = start(&format!(
            "inflight_max = 1\npacket_bytes_max = \"4KiB\"\nall_mailboxes_bytes_max = \"{all}\""
        ));
        let mut subscriber = subscriber(&gateway);
        publish(&gateway, 20, 1000);
        let behind = gateway.metric("tidegate_broker_sessions_behind", &[]);
        assert_eq!(behind.unwrap() > 0.0, is_beyond, "with {all}");
        let waiting = gateway.metric("tidegate_broker_mailboxes_bytes", &[]);
        assert_eq!(waiting.unwrap() > 20_000.0, !is_beyond, "with {all}");
        assert_eq!(subscriber.ping().unwrap().len(), 1);
    }
}

#[test]
pub(crate) fn subscriptions_beyond_the_limit_are_refused() {
    for max in [1, 3] {
        let gateway = start(&format!("subscriptions_per_client_max = {max}"));
        let mut client = gateway.client("c").unwrap();
        for number in 0..5 {
            let code = client.subscribe(&format!("t/{number}")).unwrap();
            let expected = if number < max { 1 } else { QUOTA_EXCEEDED };
            assert_eq!(code, expected, "subscription {number} of {max}");
        }
        // The limit is each client's own.
        assert_eq!(gateway.client("d").unwrap().subscribe("t").unwrap(), 1);
    }
}

#[test]
pub(crate) fn filters_and_topics_beyond_topic_levels_max_are_refused() {
    for max in [2, 4] {
        let gateway = start(&format!("topic_levels_max = {max}"));
        let topic = |levels: usize| vec!["t"; levels].join("/");
        let mut client = gateway.client("c").unwrap();
        assert_eq!(client.subscribe(&topic(max)).unwrap(), 1);
        assert_eq!(
            client.subscribe(&topic(max + 1)).unwrap(),
            TOPIC_FILTER_INVALID
        );
        let mut publisher = gateway.client("d").unwrap();
        let fits = Publish::new(&topic(max), "payload");
        assert_eq!(publisher.publish_acknowledged(fits).unwrap(), SUCCESS);
        publisher
            .publish(&topic(max + 1), b"payload", Some(1))
            .unwrap();
        let code = match publisher.receive().unwrap() {
            Some(Packet::Puback { code, .. } | Packet::Disconnect { code }) => code,
            other => panic!("{other:?}"),
        };
        assert_eq!(code, TOPIC_NAME_INVALID);
    }
}

#[test]
pub(crate) fn topics_have_no_more_aliases_than_topic_alias_sent_max() {
    const TOPIC_ALIAS: u8 = 0x23;
    const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;
    for (limits, highest) in [
        ("topic_alias_sent_max = 0", None),
        ("topic_alias_sent_max = 2", Some(2)),
        ("", Some(16)),
    ] {
        let gateway = start(limits);
        let connect = Connect {
            properties: Properties::default().number(TOPIC_ALIAS_MAXIMUM, 100),
            ..Connect::new(Version::V5, "subscriber")
        };
        let mut subscriber = Client::connect(gateway.mqtt().unwrap(), &connect).unwrap();
        assert_eq!(subscriber.subscribe("topic/#").unwrap(), 1);
        for number in 0..20 {
            publish_to(&gateway, &format!("topic/{number}"), 1, 10);
        }
        let received = subscriber.ping().unwrap();
        assert_eq!(received.len(), 20, "{limits}");
        let aliases = received.iter().filter_map(|packet| match packet {
            Packet::Publish(publish) => publish.properties.find_number(TOPIC_ALIAS),
            other => panic!("{other:?}"),
        });
        assert_eq!(aliases.max(), highest, "{limits}");
    }
}

#[test]
pub(crate) fn shared_messages_go_where_the_policy_says() {
    let named = |group: &str, policy: &str| {
        format!("{LOOPBACK}\n[[share]]\ngroup = \"{group}\"\npolicy = \"{policy}\"\n")
    };
    for (configuration, expected) in [
        (LOOPBACK.to_owned(), [3, 3]),
        (format!("share_policy = \"sticky\"\n{LOOPBACK}"), [6, 0]),
        (named("g", "sticky"), [6, 0]),
        (named("other", "sticky"), [3, 3]),
        (named("g", "round-robin"), [3, 3]),
    ] {
        let gateway = Gateway::start(&configuration).unwrap();
        let mut members = ["one", "two"].map(|name| gateway.client(name).unwrap());
        for member in &mut members {
            assert_eq!(member.subscribe("$share/g/t").unwrap(), 1);
        }
        publish(&gateway, 6, 10);
        let counts = members.map(|mut member| member.ping().unwrap().len());
        assert_eq!(counts, expected, "{configuration}");
    }
}

/// A client that subscribes gets them at once, and then again and again.
#[test]
pub(crate) fn sys_topics_come_as_often_as_sys_interval_says() {
    let topic = "$SYS/broker/clients/connected";
    for (interval, at_once, again) in [
        ("1s", true, true),
        ("1d", true, false),
        ("0s", false, false),
    ] {
        let configuration = format!("sys_interval = \"{interval}\"\n{LOOPBACK}");
        let gateway = Gateway::start(&configuration).unwrap();
        let mut client = gateway.client("c").unwrap();
        assert_eq!(client.subscribe(topic).unwrap(), 1);
        let received = client.ping().unwrap();
        assert_eq!(!received.is_empty(), at_once, "{interval}: {received:?}");
        let received = match again {
            true => client
                .receive()
                .unwrap()
                .map_or(Received::Nothing, Received::Packet),
            false => client.receive_within(Duration::from_millis(1_500)).unwrap(),
        };
        let Received::Packet(Packet::Publish(publish)) = received else {
            assert!(
                !again && received == Received::Nothing,
                "{interval}: {received:?}"
            );
            continue;
        };
        assert!(again, "{interval}: {publish:?}");
        assert_eq!(
            (publish.topic.as_str(), &publish.payload[..]),
            (topic, &b"1"[..])
        );
    }
}

#[test]
pub(crate) fn retained_messages_beyond_the_limits_are_refused() {
    let gateways = [
        start("retained_count_max = 2"),
        start("retained_bytes_max = 2500"),
    ];
    for gateway in gateways {
        let mut client = gateway.client("c").unwrap();
        let mut retain = |number: u32| {
            let publish = Publish::new(&format!("t/{number}"), vec![0; 1000]).retained();
            client.publish_acknowledged(publish).unwrap()
        };
        let codes = [0, 1, 2].map(&mut retain);
        assert_eq!(codes, [SUCCESS, SUCCESS, QUOTA_EXCEEDED]);
        // In the place of one that is there it has room.
        assert_eq!(retain(1), SUCCESS);
        let retained = gateway
            .metric("tidegate_broker_retained_messages", &[])
            .unwrap();
        assert_eq!(retained, 2.0);
    }
    let gateway = start("");
    let mut client = gateway.client("c").unwrap();
    for number in 0..3 {
        let publish = Publish::new(&format!("t/{number}"), vec![0; 1000]).retained();
        assert_eq!(client.publish_acknowledged(publish).unwrap(), SUCCESS);
    }
}
