//! Each limit that counts is counted, under its own name, and no other.

use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

use broker::{Limit, Limits, ListenerOptions};
use mqtt::ProtocolVersion::V5;
use mqtt::{Connect, ReasonCode};

use crate::support::{
    Setup, TestBroker, TestClient, connect, more_than_there_is_room_for, publish, qos1, retained,
    staying, wait_for, with_little_room,
};

fn hits(broker: &TestBroker) -> Vec<(Limit, u64)> {
    let counters = &broker.probe.counters().limits;
    let all = Limit::ALL
        .iter()
        .map(|limit| (*limit, counters.get(*limit)));
    all.filter(|(_, hits)| *hits > 0).collect()
}

fn expect_only(broker: &TestBroker, limit: Limit, count: u64) {
    let expected = [(limit, count)];
    wait_for("the limit", || hits(broker) == expected);
}

fn start(limits: Limits) -> TestBroker {
    TestBroker::start(Setup::with_limits(limits))
}

fn window_of_one() -> Limits {
    Limits {
        inflight_max: NonZeroU16::MIN,
        ..Limits::default()
    }
}

#[test]
fn nothing_is_counted_within_the_limits() {
    let broker = start(Limits::default());
    let mut client = TestClient::connect(broker.address(), staying(V5, "client"));
    client.subscribe("a/#");
    for number in 0..20 {
        client.publish(retained(publish(0, &format!("a/{number}"), "x")));
    }
    assert_eq!(client.receive_payloads(20).len(), 20);
    assert_eq!(hits(&broker), []);
}

#[test]
fn connections_beyond_the_limits_of_a_listener_are_counted() {
    let mut options = ListenerOptions::new("127.0.0.1:0".parse().unwrap());
    options.connections_max = 2;
    let broker = TestBroker::start(Setup {
        listeners: vec![options],
        ..Setup::default()
    });
    let _there = [broker.client(V5, "one"), broker.client(V5, "two")];
    assert_eq!(hits(&broker), []);
    let mut third = TestClient::open(broker.address(), V5);
    assert_eq!(third.try_receive(), None);
    expect_only(&broker, Limit::ConnectionsMax, 1);

    let broker = start(Limits {
        accept_rate_max: NonZeroU32::new(2).unwrap(),
        ..Limits::default()
    });
    let _one = broker.client(V5, "one");
    assert_eq!(hits(&broker), []);
    let _others = ["two", "three", "four"].map(|name| broker.client(V5, name));
    expect_only(&broker, Limit::AcceptRateMax, 3);
}

#[test]
fn connection_that_a_limit_ends_is_counted() {
    let broker = start(Limits {
        connect_timeout: Duration::from_millis(100),
        ..Limits::default()
    });
    let mut silent = TestClient::open(broker.address(), V5);
    assert_eq!(silent.try_receive(), None);
    expect_only(&broker, Limit::ConnectTimeout, 1);

    let broker = start(Limits {
        packet_bytes_max: 1_000,
        ..Limits::default()
    });
    let mut client = broker.client(V5, "client");
    client.publish(publish(1, "a", "x".repeat(1_000)));
    assert_eq!(client.receive_end(), Some(ReasonCode::PacketTooLarge));
    expect_only(&broker, Limit::PacketBytesMax, 1);

    let mut setup = Setup::held();
    setup.limits.receive_maximum = NonZeroU16::MIN;
    let broker = TestBroker::start(setup);
    let mut client = broker.client(V5, "client");
    client.publish(publish(1, "a", "x"));
    client.publish(publish(2, "a", "x"));
    assert_eq!(
        client.receive_end(),
        Some(ReasonCode::ReceiveMaximumExceeded)
    );
    expect_only(&broker, Limit::ReceiveMaximum, 1);
}

#[test]
fn window_that_holds_messages_back_is_counted() {
    let broker = start(window_of_one());
    let mut slow = broker.client(V5, "slow");
    slow.subscribe("a");
    let mut publisher = broker.client(V5, "publisher");
    publisher.publish_acknowledged("a", "0");
    assert_eq!(hits(&broker), []);
    publisher.publish_acknowledged("a", "1");
    slow.receive_payloads(2);
    // It was counted when the second was tried, or when the acknowledgement of the first let it go.
    let broker = start(window_of_one());
    let mut slow = broker.client(V5, "slow");
    slow.subscribe("a");
    let mut publisher = broker.client(V5, "publisher");
    for number in 0..5 {
        publisher.publish_acknowledged("a", number.to_string());
    }
    slow.receive_payloads(5);
    wait_for("the limit", || {
        matches!(hits(&broker)[..], [(Limit::InflightMax, 1..)])
    });
}

#[test]
fn full_mailbox_is_counted_by_its_own_bound_or_by_that_of_all() {
    let one = Limits {
        mailbox_bytes_max: 16_384,
        packet_bytes_max: 16_384,
        ..window_of_one()
    };
    let all = Limits {
        all_mailboxes_bytes_max: 65_536,
        packet_bytes_max: 16_384,
        ..window_of_one()
    };
    for (limits, limit) in [
        (one, Limit::MailboxBytesMax),
        (all, Limit::AllMailboxesBytesMax),
    ] {
        // What is in a log, and QoS 0.
        for packet_id in [1, 0] {
            let broker = start(limits.clone());
            let mut slow = broker.client(V5, "slow");
            slow.subscribe_with("a", qos1(), None);
            let mut publisher = broker.client(V5, "publisher");
            // A socket takes some of it.
            let mut is_counted = || {
                publisher.publish(publish(packet_id, "a", "x".repeat(10_000)));
                publisher.ping();
                hits(&broker).iter().any(|(counted, _)| *counted == limit)
            };
            let count = (0..10_000).find(|_| is_counted());
            assert!(count.is_some(), "{:?}", hits(&broker));
            let others = hits(&broker).into_iter().filter(|(hit, _)| *hit != limit);
            let others: Vec<_> = others.map(|(hit, _)| hit).collect();
            assert!(others.is_empty() || others == [Limit::InflightMax]);
        }
    }
}

#[test]
fn publish_that_waits_for_the_commit_queue_is_counted() {
    let broker = TestBroker::start(with_little_room());
    let mut subscriber = broker.client(V5, "subscriber");
    subscriber.subscribe("live");
    let mut publisher = broker.client(mqtt::ProtocolVersion::V311, "publisher");
    publisher.send_bytes(&more_than_there_is_room_for());
    expect_only(&broker, Limit::CommitQueueBytesMax, 1);
}

#[test]
fn retained_message_that_is_refused_is_counted() {
    let count = Limits {
        retained_count_max: 1,
        ..Limits::default()
    };
    let bytes = Limits {
        retained_bytes_max: 600,
        ..Limits::default()
    };
    for (limits, limit) in [
        (count, Limit::RetainedCountMax),
        (bytes, Limit::RetainedBytesMax),
    ] {
        let broker = start(limits);
        let mut client = broker.client(V5, "client");
        client.retain_acknowledged("a", "x".repeat(300));
        assert_eq!(hits(&broker), []);
        client.publish(retained(publish(1, "b", "x".repeat(300))));
        assert_eq!(client.receive_puback(), (1, ReasonCode::QuotaExceeded));
        expect_only(&broker, limit, 1);
    }
}

#[test]
fn client_that_is_told_less_than_it_asked_for_is_counted() {
    let broker = start(Limits {
        keep_alive_seconds_max: NonZeroU16::new(60),
        ..Limits::default()
    });
    let asking = |keep_alive_seconds| Connect {
        keep_alive_seconds,
        ..connect(V5, "client")
    };
    TestClient::connect(broker.address(), asking(60));
    assert_eq!(hits(&broker), []);
    TestClient::connect(broker.address(), asking(61));
    expect_only(&broker, Limit::KeepAliveMax, 1);

    let broker = start(Limits {
        session_expiry_max: Some(Duration::from_secs(3_600)),
        ..Limits::default()
    });
    let mut asking = staying(V5, "client");
    TestClient::connect(broker.address(), asking.clone());
    assert_eq!(hits(&broker), []);
    asking.properties.session_expiry_interval = Some(3_601);
    TestClient::connect(broker.address(), asking);
    expect_only(&broker, Limit::SessionExpiryMax, 1);
}

#[test]
fn session_beyond_the_number_is_counted() {
    let broker = start(Limits {
        sessions_max: 1,
        ..Limits::default()
    });
    let _first = TestClient::connect(broker.address(), staying(V5, "first"));
    assert_eq!(hits(&broker), []);
    let (_, connack) = TestClient::try_connect(broker.address(), staying(V5, "second"));
    assert_eq!(connack.reason_code, ReasonCode::QuotaExceeded);
    expect_only(&broker, Limit::SessionsMax, 1);
}

#[test]
fn subscription_that_is_refused_is_counted() {
    let limits = Limits {
        subscriptions_per_client_max: 1,
        topic_levels_max: 2,
        ..Limits::default()
    };
    let broker = start(limits.clone());
    let mut client = broker.client(V5, "client");
    client.subscribe("a/b");
    assert_eq!(hits(&broker), []);
    let code = client.subscribe_with("c", qos1(), None);
    assert_eq!(code, ReasonCode::QuotaExceeded);
    expect_only(&broker, Limit::SubscriptionsPerClientMax, 1);

    let broker = start(limits);
    let mut client = broker.client(V5, "client");
    let code = client.subscribe_with("a/b/c", qos1(), None);
    assert_eq!(code, ReasonCode::TopicFilterInvalid);
    expect_only(&broker, Limit::TopicLevelsMax, 1);
    client.publish(publish(1, "a/b/c", "x"));
    assert_eq!(client.receive_puback(), (1, ReasonCode::TopicNameInvalid));
    expect_only(&broker, Limit::TopicLevelsMax, 2);
}
