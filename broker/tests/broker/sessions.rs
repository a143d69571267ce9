//! Sessions that outlive their connections.

use std::time::Duration;

use broker::Limits;
use mqtt::ProtocolVersion::{V5, V311};
use mqtt::{
    Acknowledgement, Connect, Disconnect, Packet, ProtocolVersion, ReasonCode, Subscribe,
    Subscription, Unsubscribe,
};

use crate::support::{
    BOTH, Setup, TestBroker, TestClient, TestLog, connect, connect_with_will, id, publish, qos1,
    staying, text, wait_for,
};

fn come(broker: &TestBroker, version: ProtocolVersion, client_id: &str) -> (TestClient, bool) {
    let (client, connack) = TestClient::try_connect(broker.address(), staying(version, client_id));
    assert_eq!(connack.reason_code, ReasonCode::Success);
    (client, connack.session_present)
}

fn go(broker: &TestBroker, mut client: TestClient) {
    let before = broker.probe.status().sessions_offline;
    client.send(Packet::Disconnect(Disconnect::default()));
    assert_eq!(client.receive_end(), None);
    wait_for("the end of the connection", || {
        broker.probe.status().sessions_offline > before
    });
}

#[test]
fn messages_that_come_while_a_client_is_away_wait_for_it() {
    let broker = TestBroker::start(Setup::default());
    for version in BOTH {
        let (mut client, is_present) = come(&broker, version, "client");
        assert!(!is_present || version == V5);
        client.subscribe("a/+");
        go(&broker, client);
        let mut publisher = broker.client(version, "publisher");
        for number in 0..1_000 {
            publisher.publish_acknowledged(&format!("a/{}", number % 7), number.to_string());
            publisher.publish_acknowledged("b", "not for it");
        }
        let (mut client, is_present) = come(&broker, version, "client");
        assert!(is_present);
        let expected: Vec<_> = (0..1_000).map(|number| number.to_string()).collect();
        assert_eq!(client.receive_payloads(1_000), expected);
        client.expect_nothing();
        publisher.publish_acknowledged("a/x", "now");
        assert_eq!(client.receive_payloads(1), ["now"]);
        go(&broker, client);
    }
}

#[test]
fn session_ends_with_a_clean_start_or_without_an_expiry_interval() {
    let broker = TestBroker::start(Setup::default());
    for version in BOTH {
        let (mut client, _) = come(&broker, version, "client");
        client.subscribe("a");
        go(&broker, client);
        let mut publisher = broker.client(version, "publisher");
        publisher.publish_acknowledged("a", "lost");
        // A clean start ends the earlier session, and its own ends with the connection.
        let (mut client, connack) =
            TestClient::try_connect(broker.address(), connect(version, "client"));
        assert!(!connack.session_present);
        client.expect_nothing();
        client.send(Packet::Disconnect(Disconnect::default()));
        assert_eq!(client.receive_end(), None);
        assert_eq!(broker.probe.status().sessions_offline, 0);
        let (mut client, is_present) = come(&broker, version, "client");
        assert!(!is_present);
        client.expect_nothing();
        go(&broker, client);
        let (_, connack) = TestClient::try_connect(broker.address(), connect(version, "client"));
        assert_eq!(connack.reason_code, ReasonCode::Success);
    }
}

#[test]
fn session_expires_when_nobody_comes_back() {
    let broker = TestBroker::start(Setup::default());
    let mut connect = staying(V5, "client");
    connect.properties.session_expiry_interval = Some(1);
    let (mut client, _) = TestClient::try_connect(broker.address(), connect.clone());
    client.subscribe("a");
    client.send(Packet::Disconnect(Disconnect::default()));
    assert_eq!(client.receive_end(), None);
    wait_for("its end", || broker.probe.status().sessions_offline == 0);
    let (_, connack) = TestClient::try_connect(broker.address(), connect);
    assert!(!connack.session_present);
}

#[test]
fn longer_expiry_interval_than_allowed_is_cut() {
    let limits = Limits {
        session_expiry_max: Some(Duration::from_secs(60)),
        ..Limits::default()
    };
    let broker = TestBroker::start(Setup::with_limits(limits));
    for (asked, told) in [(59, None), (61, Some(60)), (u32::MAX, Some(60))] {
        let mut connect = staying(V5, "client");
        connect.properties.session_expiry_interval = Some(asked);
        let (_, connack) = TestClient::try_connect(broker.address(), connect);
        assert_eq!(connack.properties.session_expiry_interval, told, "{asked}");
    }
}

#[test]
fn good_bye_says_how_long_the_session_lives() {
    let broker = TestBroker::start(Setup::default());
    let (mut client, _) = come(&broker, V5, "client");
    client.subscribe("a");
    client.send(Packet::Disconnect(Disconnect {
        session_expiry_interval: Some(0),
        ..Disconnect::default()
    }));
    assert_eq!(client.receive_end(), None);
    let (_, is_present) = come(&broker, V5, "client");
    assert!(!is_present);
}

#[test]
fn one_more_session_than_may_be_kept_is_refused() {
    let limits = Limits {
        sessions_max: 2,
        ..Limits::default()
    };
    let broker = TestBroker::start(Setup::with_limits(limits));
    for version in BOTH {
        let first = come(&broker, version, "first").0;
        let second = come(&broker, version, "second").0;
        let (_, connack) = TestClient::try_connect(broker.address(), staying(version, "third"));
        let code = match version {
            V5 => ReasonCode::QuotaExceeded,
            V311 => ReasonCode::ServerUnavailable,
        };
        assert_eq!(connack.reason_code, code);
        // Who is there already may come again, and who does not stay may come.
        go(&broker, first);
        come(&broker, version, "first");
        broker.client(version, "passing");
        drop(second);
    }
}

#[test]
fn what_was_not_acknowledged_comes_again_in_order() {
    let broker = TestBroker::start(Setup::default());
    for version in BOTH {
        let (mut client, _) = come(&broker, version, "client");
        client.subscribe("a");
        let mut publisher = broker.client(version, "publisher");
        for number in 0..10 {
            publisher.publish_acknowledged("a", number.to_string());
        }
        let mut ids = Vec::new();
        for number in 0..10 {
            match client.receive() {
                Packet::Publish(publish) => {
                    assert_eq!(text(&publish.payload), number.to_string());
                    ids.push(publish.delivery.packet_id().unwrap());
                }
                other => panic!("{other:?}"),
            }
        }
        for number in [0, 1, 2, 5] {
            let puback = Acknowledgement::new(ids[number], ReasonCode::Success);
            client.send(Packet::Puback(puback));
        }
        client.expect_nothing();
        go(&broker, client);
        publisher.publish_acknowledged("a", "10");
        let (mut client, is_present) = come(&broker, version, "client");
        assert!(is_present);
        assert_eq!(
            client.receive_payloads(7),
            ["3", "4", "6", "7", "8", "9", "10"]
        );
        client.expect_nothing();
        go(&broker, client);
    }
}

#[test]
fn take_over_loses_and_repeats_nothing() {
    let broker = TestBroker::start(Setup::default());
    for version in BOTH {
        let (mut client, _) = come(&broker, version, "client");
        client.subscribe("a");
        let mut publisher = broker.client(version, "publisher");
        let mut received = Vec::new();
        for number in 0..200 {
            publisher.publish_acknowledged("a", number.to_string());
            if number % 10 == 9 {
                let count = 1 + number % 7;
                received.extend(client.receive_payloads(count));
                // What was sent beyond is not acknowledged, and comes again.
                client.ping();
                client = come(&broker, version, "client").0;
            }
        }
        received.extend(client.receive_payloads(200 - received.len()));
        let expected: Vec<_> = (0..200).map(|number| number.to_string()).collect();
        assert_eq!(received, expected);
        client.expect_nothing();
        go(&broker, client);
    }
}

/// Each of them asks for messages from its own beginning on.
#[test]
fn subscription_of_a_client_that_is_behind_does_not_reach_back() {
    let broker = TestBroker::start(Setup::default());
    let (mut client, _) = come(&broker, V5, "client");
    client.subscribe("a");
    go(&broker, client);
    let mut publisher = broker.client(V5, "publisher");
    for number in 0..100 {
        publisher.publish_acknowledged("a", number.to_string());
        publisher.publish_acknowledged("b", "before");
    }
    let (mut client, _) = come(&broker, V5, "client");
    client.send(Packet::Subscribe(Subscribe {
        packet_id: id(77),
        subscriptions: vec![Subscription {
            filter: "b".parse().unwrap(),
            options: qos1(),
        }],
        subscription_identifier: None,
        user_properties: Vec::new(),
    }));
    let mut payloads = Vec::new();
    loop {
        match client.receive() {
            Packet::Suback(_) => break,
            Packet::Publish(publish) => {
                let packet_id = publish.delivery.packet_id().unwrap();
                let puback = Acknowledgement::new(packet_id, ReasonCode::Success);
                client.send(Packet::Puback(puback));
                payloads.push(text(&publish.payload));
            }
            other => panic!("{other:?}"),
        }
    }
    publisher.publish_acknowledged("b", "after");
    payloads.extend(client.receive_payloads(101 - payloads.len()));
    let own = (0..100).map(|number| number.to_string());
    let expected: Vec<_> = own.chain(["after".to_owned()]).collect();
    assert_eq!(payloads, expected);
    client.expect_nothing();
}

#[test]
fn will_of_a_client_that_was_taken_over_is_published_and_its_session_goes_on() {
    let broker = TestBroker::start(Setup::default());
    let mut watcher = broker.client(V5, "watcher");
    watcher.subscribe("will");
    let connect = Connect {
        clean_start: false,
        ..connect_with_will(V311, "client", "will", "gone")
    };
    let (mut client, _) = TestClient::try_connect(broker.address(), connect);
    client.subscribe("a");
    let (mut client, is_present) = come(&broker, V311, "client");
    assert!(is_present);
    assert_eq!(watcher.receive_payloads(1), ["gone"]);
    watcher.publish_acknowledged("a", "still there");
    assert_eq!(client.receive_payloads(1), ["still there"]);
}

/// Messages that nobody subscribed to when they were published are not pushed when their commit is
/// there; whoever came in between must get them from the log.
#[test]
fn message_on_its_way_to_flash_reaches_a_client_that_comes_back_meanwhile() {
    let broker = TestBroker::start(Setup::with_logs(&[
        TestLog::held("held", &["held/#"]),
        TestLog::new("all", &["#"]),
    ]));
    for version in BOTH {
        let (mut client, _) = come(&broker, version, "client");
        client.subscribe("held/#");
        go(&broker, client);
        let mut publisher = broker.client(version, "publisher");
        publisher.publish(publish(7, "held/a", "first"));
        assert_eq!(publisher.ping(), []);
        let (mut client, _) = come(&broker, version, "client");
        client.expect_nothing();
        publisher.publish(publish(8, "held/a", "second"));
        assert_eq!(publisher.ping(), []);
        broker.commit();
        assert_eq!(client.receive_payloads(2), ["first", "second"]);
        client.expect_nothing();
        publisher.publish(publish(9, "held/a", "third"));
        assert_eq!(publisher.ping().len(), 2);
        broker.commit();
        assert_eq!(client.receive_payloads(1), ["third"]);
        client.expect_nothing();
        go(&broker, client);
    }
}

/// The same for whoever subscribes in between: whether it gets such a message does not depend on
/// whether others had wanted it, and a crash does not bring it behind later ones.
#[test]
fn message_on_its_way_to_flash_reaches_a_client_that_subscribes_meanwhile() {
    let broker = TestBroker::start(Setup::with_logs(&[
        TestLog::held("held", &["held/#"]),
        TestLog::new("all", &["#"]),
    ]));
    for version in BOTH {
        let mut publisher = broker.client(version, "publisher");
        let mut client = broker.client(version, "client");
        publisher.publish(publish(7, "held/a", "first"));
        assert_eq!(publisher.ping(), []);
        client.subscribe("held/#");
        client.expect_nothing();
        publisher.publish(publish(8, "held/a", "second"));
        assert_eq!(publisher.ping(), []);
        broker.commit();
        assert_eq!(client.receive_payloads(2), ["first", "second"]);
        publisher.publish(publish(9, "held/a", "third"));
        assert_eq!(publisher.ping().len(), 2);
        broker.commit();
        assert_eq!(client.receive_payloads(1), ["third"]);
        client.expect_nothing();
    }
}

/// A folder with a broker that is started anew, gracefully or as after a crash.
fn restarted(path: &std::path::Path, broker: TestBroker) -> TestBroker {
    broker.stop();
    TestBroker::start_at(path, Setup::default())
}

#[test]
fn sessions_go_on_when_the_broker_is_started_again() {
    for version in BOTH {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        let mut broker = TestBroker::start_at(&path, Setup::default());
        let (mut away, _) = come(&broker, version, "away");
        away.subscribe("a/#");
        go(&broker, away);
        let (mut there, _) = come(&broker, version, "there");
        there.subscribe("a/#");
        let mut publisher = broker.client(version, "publisher");
        for number in 0..100 {
            publisher.publish_acknowledged("a/b", number.to_string());
        }
        assert_eq!(there.receive_payloads(60).len(), 60);
        there.ping();
        for _ in 0..3 {
            broker = restarted(&path, broker);
            assert_eq!(broker.probe.status().sessions_offline, 2);
        }
        let mut publisher = broker.client(version, "publisher");
        publisher.publish_acknowledged("a", "100");
        let expected: Vec<_> = (0..=100).map(|number| number.to_string()).collect();
        let (mut away, is_present) = come(&broker, version, "away");
        assert!(is_present);
        assert_eq!(away.receive_payloads(101), expected);
        away.expect_nothing();
        let (mut there, is_present) = come(&broker, version, "there");
        assert!(is_present);
        assert_eq!(there.receive_payloads(41), expected[60..]);
        there.expect_nothing();
        broker.stop();
    }
}

#[test]
fn session_that_ended_does_not_come_back_when_the_broker_is_started_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let broker = TestBroker::start_at(&path, Setup::default());
    let (mut client, _) = come(&broker, V5, "client");
    client.subscribe("a");
    go(&broker, client);
    let broker = restarted(&path, broker);
    assert_eq!(broker.probe.status().sessions_offline, 1);
    let client = broker.client(V5, "client");
    drop(client);
    wait_for("the end", || broker.probe.status().sessions_v5 == 0);
    let broker = restarted(&path, broker);
    assert_eq!(broker.probe.status().sessions_offline, 0);
    let (_, is_present) = come(&broker, V5, "client");
    assert!(!is_present);
    broker.stop();
}

#[test]
fn subscriptions_are_as_they_were_when_the_broker_is_started_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    let broker = TestBroker::start_at(&path, Setup::default());
    let (mut client, _) = come(&broker, V5, "client");
    client.subscribe_with("a", qos1(), Some(5));
    client.subscribe("b");
    client.send(Packet::Unsubscribe(Unsubscribe {
        packet_id: id(9),
        filters: vec!["b".parse().unwrap()],
        user_properties: Vec::new(),
    }));
    assert!(matches!(client.receive(), Packet::Unsuback(_)));
    let broker = restarted(&path, broker);
    let mut publisher = broker.client(V5, "publisher");
    publisher.publish_acknowledged("b", "not wanted");
    publisher.publish_acknowledged("a", "wanted");
    let (mut client, _) = come(&broker, V5, "client");
    let publish = client.receive_publish();
    assert_eq!(text(&publish.payload), "wanted");
    let identifiers = publish.subscription_identifiers;
    assert_eq!(
        identifiers.iter().map(|id| id.get()).collect::<Vec<_>>(),
        [5]
    );
    client.expect_nothing();
    broker.stop();
}
