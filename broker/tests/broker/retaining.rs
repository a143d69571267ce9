//! Retained messages.

use std::time::Duration;

use broker::{Limits, RefusalCause};
use mqtt::ProtocolVersion::{V5, V311};
use mqtt::{
    MessageProperties, Packet, Publish, QoS, ReasonCode, RetainHandling, SubscriptionOptions,
};

use crate::support::{
    BOTH, PATIENCE, Setup, TestBroker, TestClient, publish, qos1, retained, text, wait_for,
};

/// Topic name and payload of the next messages, which must be marked as retained.
fn receive_retained(client: &mut TestClient, count: usize) -> Vec<String> {
    let received = std::iter::repeat_with(|| {
        let publish = client.receive_publish();
        assert!(publish.retain);
        format!("{} {}", publish.topic.unwrap(), text(&publish.payload))
    });
    received.take(count).collect()
}

#[test]
fn newest_retained_message_comes_when_the_subscription_is_made() {
    let broker = TestBroker::start(Setup::default());
    for version in BOTH {
        let mut publisher = broker.client(version, "publisher");
        publisher.retain_acknowledged("a/1", "old");
        publisher.retain_acknowledged("a/1", "new");
        publisher.retain_acknowledged("a/2", "x");
        publisher.publish_acknowledged("a/1", "not retained");
        let mut subscriber = broker.client(version, "subscriber");
        subscriber.subscribe("a/#");
        assert_eq!(receive_retained(&mut subscriber, 2), ["a/1 new", "a/2 x"]);
        // Who is there already gets it as any other message.
        publisher.retain_acknowledged("a/2", "y");
        let received = subscriber.receive_publish();
        assert!(!received.retain);

        publisher.retain_acknowledged("a/1", "");
        assert_eq!(subscriber.receive_payloads(1), [""]);
        let mut late = broker.client(version, "late");
        late.subscribe("#");
        assert_eq!(receive_retained(&mut late, 1), ["a/2 y"]);
        late.expect_nothing();
    }
    assert_eq!(broker.probe.status().retained_messages, 1);
}

#[test]
fn retained_messages_are_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let broker = TestBroker::start_at(folder.path(), Setup::default());
    let mut publisher = broker.client(V5, "publisher");
    publisher.retain_acknowledged("kept", "old");
    publisher.retain_acknowledged("cleared", "x");
    publisher.retain_acknowledged("kept", "new");
    publisher.retain_acknowledged("cleared", "");
    publisher.publish(Publish {
        properties: MessageProperties {
            message_expiry_interval: Some(1),
            ..MessageProperties::default()
        },
        ..retained(publish(1, "expired", "x"))
    });
    publisher.publish(Publish {
        properties: MessageProperties {
            message_expiry_interval: Some(1_000),
            ..MessageProperties::default()
        },
        ..retained(publish(2, "expiring", "x"))
    });
    assert_eq!(publisher.receive_puback().0, 1);
    assert_eq!(publisher.receive_puback().0, 2);
    broker.stop();
    std::thread::sleep(Duration::from_millis(1_100));

    let broker = TestBroker::start_at(folder.path(), Setup::default());
    assert_eq!(broker.probe.status().retained_messages, 2);
    let mut subscriber = broker.client(V5, "subscriber");
    subscriber.subscribe("#");
    let expiring = subscriber.receive_publish();
    assert_eq!(expiring.topic.unwrap().as_str(), "expiring");
    assert!(expiring.properties.message_expiry_interval.unwrap() < 1_000);
    assert_eq!(receive_retained(&mut subscriber, 1), ["kept new"]);
    subscriber.expect_nothing();
}

#[test]
fn retained_message_takes_effect_with_its_commit() {
    let broker = TestBroker::start(Setup::held());
    let mut publisher = broker.client(V5, "publisher");
    publisher.publish(retained(publish(1, "a", "x")));
    publisher.expect_nothing();
    let mut subscriber = broker.client(V5, "subscriber");
    subscriber.subscribe("a");
    subscriber.expect_nothing();
    broker.commit();
    let received = subscriber.receive_publish();
    assert!(!received.retain, "it was published after the subscription");
    let mut late = broker.client(V5, "late");
    late.subscribe("a");
    assert_eq!(receive_retained(&mut late, 1), ["a x"]);
}

#[test]
fn retain_handling_says_when_retained_messages_come() {
    let broker = TestBroker::start(Setup::default());
    let mut publisher = broker.client(V5, "publisher");
    publisher.retain_acknowledged("a", "x");
    let mut subscriber = broker.client(V5, "subscriber");
    let mut subscribe = |retain_handling| {
        let options = SubscriptionOptions {
            retain_handling,
            ..qos1()
        };
        subscriber.subscribe_with("a", options, None);
        let packets = subscriber.ping().into_iter();
        packets.filter(|p| matches!(p, Packet::Publish(_))).count()
    };
    assert_eq!(subscribe(RetainHandling::DoNotSend), 0);
    assert_eq!(subscribe(RetainHandling::SendIfNew), 0);
    assert_eq!(subscribe(RetainHandling::Send), 1);
    assert_eq!(subscribe(RetainHandling::Send), 1);
    let options = SubscriptionOptions {
        retain_handling: RetainHandling::SendIfNew,
        ..qos1()
    };
    let mut other = broker.client(V5, "other");
    other.subscribe_with("a", options, None);
    assert_eq!(receive_retained(&mut other, 1), ["a x"]);
}

#[test]
fn retain_flag_is_kept_where_the_subscription_wants_it_as_published() {
    let broker = TestBroker::start(Setup::default());
    let mut subscriber = broker.client(V5, "subscriber");
    let options = SubscriptionOptions {
        retain_as_published: true,
        ..qos1()
    };
    subscriber.subscribe_with("#", options, None);
    let mut publisher = broker.client(V5, "publisher");
    publisher.retain_acknowledged("a", "x");
    publisher.publish_acknowledged("a", "y");
    assert!(subscriber.receive_publish().retain);
    assert!(!subscriber.receive_publish().retain);
}

#[test]
fn retained_messages_come_with_the_smaller_qos_and_the_identifier() {
    let broker = TestBroker::start(Setup::default());
    let mut publisher = broker.client(V5, "publisher");
    publisher.retain_acknowledged("a", "x");
    publisher.publish(retained(publish(0, "b", "x")));
    assert_eq!(publisher.ping(), []);
    broker.commit();
    let mut subscriber = broker.client(V5, "subscriber");
    for (filter, options, qos) in [
        ("a", SubscriptionOptions::default(), QoS::AtMostOnce),
        ("a", qos1(), QoS::AtLeastOnce),
        ("b", qos1(), QoS::AtMostOnce),
    ] {
        subscriber.subscribe_with(filter, options, Some(9));
        let received = subscriber.receive_publish();
        assert_eq!(received.delivery.qos(), qos);
        assert_eq!(received.subscription_identifiers[0].get(), 9);
    }
}

#[test]
fn own_retained_messages_do_not_come_when_own_ones_are_not_wanted() {
    let broker = TestBroker::start(Setup::default());
    broker
        .client(V5, "other")
        .retain_acknowledged("b", "theirs");
    let mut client = broker.client(V5, "client");
    client.retain_acknowledged("a", "mine");
    let options = SubscriptionOptions {
        no_local: true,
        ..qos1()
    };
    client.subscribe_with("#", options, None);
    assert_eq!(receive_retained(&mut client, 1), ["b theirs"]);
    client.expect_nothing();
}

#[test]
fn more_retained_messages_than_a_mailbox_holds_all_come() {
    let broker = TestBroker::start(Setup::with_limits(Limits {
        mailbox_bytes_max: 8_192,
        packet_bytes_max: 8_192,
        ..Limits::default()
    }));
    let mut publisher = broker.client(V5, "publisher");
    for number in 0..600 {
        publisher.retain_acknowledged(&format!("many/{number:03}"), [b'x'; 100]);
    }
    publisher.retain_acknowledged("many/large", vec![b'x'; 8_000]);
    for options in [qos1(), SubscriptionOptions::default()] {
        let mut subscriber = broker.client(V5, "subscriber");
        subscriber.subscribe_with("many/+", options, None);
        for number in 0..600 {
            let received = subscriber.receive_publish();
            assert_eq!(
                received.topic.unwrap().as_str(),
                format!("many/{number:03}")
            );
        }
        assert_eq!(subscriber.receive_publish().payload.len(), 8_000);
        subscriber.expect_nothing();
    }
    let counters = broker.probe.counters();
    assert_eq!(counters.dropped.get(broker::DropCause::MailboxFull), 0);
}

#[test]
fn retained_message_over_the_budget_is_refused_whole() {
    let broker = TestBroker::start(Setup::with_limits(Limits {
        retained_count_max: 1,
        ..Limits::default()
    }));
    let mut subscriber = broker.client(V5, "subscriber");
    subscriber.subscribe("#");
    let mut v5 = broker.client(V5, "v5");
    v5.retain_acknowledged("a", "1");
    v5.publish(retained(publish(7, "b", "2")));
    assert_eq!(v5.receive_puback(), (7, ReasonCode::QuotaExceeded));
    v5.publish(retained(publish(0, "b", "3")));
    v5.publish_acknowledged("b", "not retained");
    v5.retain_acknowledged("a", "replaced");
    let expected = ["1", "not retained", "replaced"];
    assert_eq!(subscriber.receive_payloads(3), expected);
    let logged: Vec<String> = broker.records("all").into_iter().map(|(_, p)| p).collect();
    assert_eq!(logged, expected);
    let refused = &broker.probe.counters().refused;
    assert_eq!(refused.get(RefusalCause::RetainedFull), 2);
}

#[test]
fn retained_message_over_the_budget_of_a_311_client_waits_for_room() {
    let broker = TestBroker::start(Setup::with_limits(Limits {
        retained_count_max: 1,
        ..Limits::default()
    }));
    let mut v5 = broker.client(V5, "v5");
    v5.retain_acknowledged("a", "1");
    let mut v311 = broker.client(V311, "v311");
    v311.publish(retained(publish(1, "b", "2")));
    v311.publish(publish(2, "c", "3"));
    v311.expect_nothing();
    v311.subscribe("other");
    wait_for("held publishes", || {
        broker.probe.status().held_publishes == 2
    });
    // With every commit they are tried again, and the second one does not overtake the first.
    v5.publish_acknowledged("d", "another commit");
    v311.expect_nothing();
    v5.retain_acknowledged("a", "");
    assert_eq!(v311.receive_puback(), (1, ReasonCode::Success));
    assert_eq!(v311.receive_puback(), (2, ReasonCode::Success));
    wait_for("no held publishes", || {
        broker.probe.status().held_publishes == 0
    });
    let topics: Vec<String> = broker.records("all").into_iter().map(|(t, _)| t).collect();
    assert_eq!(topics, ["a", "d", "a", "b", "c"]);
}

#[test]
fn retained_messages_do_not_come_back_older_while_they_are_sent() {
    let broker = TestBroker::start(Setup::with_limits(Limits {
        mailbox_bytes_max: 4_096,
        packet_bytes_max: 2_048,
        ..Limits::default()
    }));
    let mut publisher = broker.client(V5, "publisher");
    for number in 0..300 {
        publisher.retain_acknowledged(&format!("{number:03}"), [b'0'; 64]);
    }
    let mut subscriber = broker.client(V5, "subscriber");
    subscriber.subscribe_with("#", qos1(), None);
    publisher.retain_acknowledged("299", [b'1'; 64]);
    // What is retained comes after what was published, or before; newest is last.
    let end = std::time::Instant::now() + PATIENCE;
    let last_retained = loop {
        assert!(std::time::Instant::now() < end);
        let received = subscriber.receive_publish();
        if received.retain && received.topic.unwrap().as_str() == "299" {
            break received.payload;
        }
    };
    assert_eq!(last_retained, [b'1'; 64][..]);
}
