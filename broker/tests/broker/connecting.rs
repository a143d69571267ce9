//! CONNECT to the end of the connection: CONNACK, keep alive, take-over, wills, limits.

use std::num::NonZeroU16;
use std::rc::Rc;
use std::time::{Duration, Instant};

use broker::{
    AllowAll, Authentication, Authorizer, Broker, BrokerOptions, CLIENT_ID_BYTES_MAX, Client,
    ConnectAttempt, EndCause, Identity, Limits, ListenerOptions, StartError,
};
use mqtt::ProtocolVersion::{V5, V311};
use mqtt::{
    Connect, ConnectProperties, Disconnect, Packet, QoS, ReasonCode, TopicFilter, TopicName,
};

use crate::support::{
    BOTH, Setup, TestBroker, TestClient, connect, connect_with_will, publish, string, wait_for,
};

fn ended(broker: &TestBroker, cause: EndCause) -> u64 {
    broker.probe.counters().ended.get(cause)
}

#[test]
fn connack_says_what_is_served() {
    let broker = TestBroker::start(Setup::with_limits(Limits {
        packet_bytes_max: 10_000,
        receive_maximum: NonZeroU16::new(17).unwrap(),
        topic_alias_maximum: 3,
        ..Limits::default()
    }));
    let mut connect = connect(V5, "client");
    connect.properties.session_expiry_interval = Some(1_000);
    let (_, connack) = TestClient::try_connect(broker.address(), connect.clone());
    assert_eq!(connack.reason_code, ReasonCode::Success);
    assert!(!connack.session_present);
    let properties = connack.properties;
    assert_eq!(properties.session_expiry_interval, None, "as asked for");
    assert_eq!(properties.receive_maximum, NonZeroU16::new(17));
    assert_eq!(properties.maximum_qos, None, "all of them");
    assert_eq!(properties.maximum_packet_size.unwrap().get(), 10_000);
    assert_eq!(properties.topic_alias_maximum, Some(3));
    assert_eq!(properties.shared_subscription_available, None);
    // Absent means yes.
    assert_eq!(properties.retain_available, None);
    assert_eq!(properties.wildcard_subscription_available, None);
    assert_eq!(properties.subscription_identifiers_available, None);
    assert_eq!(properties.server_keep_alive_seconds, None);
    assert_eq!(properties.assigned_client_identifier, None);

    connect.properties.session_expiry_interval = None;
    let (_, connack) = TestClient::try_connect(broker.address(), connect);
    assert_eq!(connack.properties.session_expiry_interval, None);
}

#[test]
fn client_without_an_identifier_gets_one_where_it_may() {
    let broker = TestBroker::start(Setup::default());
    let mut assigned = Vec::new();
    let mut clients = Vec::new();
    for _ in 0..2 {
        let (client, connack) = TestClient::try_connect(broker.address(), connect(V5, ""));
        assigned.push(connack.properties.assigned_client_identifier.unwrap());
        clients.push(client);
        clients.push(broker.client(V311, ""));
    }
    assert_ne!(assigned[0], assigned[1]);
    assert_eq!(broker.probe.status().sessions_v5, 2);
    assert_eq!(broker.probe.status().sessions_v311, 2);
    let connect = Connect {
        clean_start: false,
        ..connect(V311, "")
    };
    let (mut client, connack) = TestClient::try_connect(broker.address(), connect);
    assert_eq!(connack.reason_code, ReasonCode::ClientIdentifierNotValid);
    assert_eq!(client.receive_end(), None);
}

#[test]
fn connect_that_cannot_be_served_is_refused_with_the_reason() {
    let broker = TestBroker::start(Setup::default());
    let long = "x".repeat(CLIENT_ID_BYTES_MAX + 1);
    for version in BOTH {
        let (mut client, connack) =
            TestClient::try_connect(broker.address(), connect(version, &long));
        assert_eq!(connack.reason_code, ReasonCode::ClientIdentifierNotValid);
        assert_eq!(client.receive_end(), None);
        broker.client(version, &long[1..]);
    }
    let connect = Connect {
        properties: ConnectProperties {
            authentication_method: Some(string("SCRAM-SHA-1")),
            ..ConnectProperties::default()
        },
        ..connect(V5, "client")
    };
    let (_, connack) = TestClient::try_connect(broker.address(), connect);
    assert_eq!(connack.reason_code, ReasonCode::BadAuthenticationMethod);
    wait_for("refusals", || ended(&broker, EndCause::Refused) == 3);
}

#[test]
fn keep_alive_above_the_limit_is_replaced_for_mqtt5() {
    let broker = TestBroker::start(Setup::with_limits(Limits {
        keep_alive_seconds_max: NonZeroU16::new(60),
        ..Limits::default()
    }));
    for (version, asked, told) in [
        (V5, 0, Some(60)),
        (V5, 61, Some(60)),
        (V5, 60, None),
        (V311, 0, None),
    ] {
        let connect = Connect {
            keep_alive_seconds: asked,
            ..connect(version, "client")
        };
        let (_, connack) = TestClient::try_connect(broker.address(), connect);
        assert_eq!(connack.properties.server_keep_alive_seconds, told);
    }
}

#[test]
fn silent_client_is_disconnected_and_one_that_pings_is_not() {
    let broker = TestBroker::start(Setup::default());
    let mut watcher = broker.client(V5, "watcher");
    watcher.subscribe("wills/#");
    for version in BOTH {
        let connected = Instant::now();
        let silent = Connect {
            keep_alive_seconds: 1,
            ..connect_with_will(version, "silent", "wills/silent", "gone")
        };
        let mut silent = TestClient::connect(broker.address(), silent);
        let mut lively = TestClient::connect(
            broker.address(),
            Connect {
                keep_alive_seconds: 1,
                ..connect(version, "lively")
            },
        );
        let before = ended(&broker, EndCause::KeepAliveTimeout);
        wait_for("the end of the silent one", || {
            assert_eq!(lively.ping(), []);
            ended(&broker, EndCause::KeepAliveTimeout) > before
        });
        let silent_for = connected.elapsed();
        assert!(silent_for >= Duration::from_millis(1_500), "{silent_for:?}");
        let told = (version == V5).then_some(ReasonCode::KeepAliveTimeout);
        assert_eq!(silent.receive_end(), told);
        assert_eq!(watcher.receive_payloads(1), ["gone"]);
        assert_eq!(lively.ping(), []);
    }
}

#[test]
fn connection_without_connect_is_closed_in_time() {
    let broker = TestBroker::start(Setup::with_limits(Limits {
        connect_timeout: Duration::from_millis(100),
        ..Limits::default()
    }));
    let mut client = TestClient::open(broker.address(), V5);
    client.send_bytes(b"\x10");
    assert_eq!(client.receive_end(), None);
    assert_eq!(ended(&broker, EndCause::ConnectTimeout), 1);
}

#[test]
fn client_that_connects_again_takes_over() {
    let broker = TestBroker::start(Setup::held());
    let mut watcher = broker.client(V5, "watcher");
    watcher.subscribe("#");
    for version in BOTH {
        let first = connect_with_will(version, "client", "wills/client", "taken over");
        let mut first = TestClient::connect(broker.address(), first);
        first.subscribe("only the first");
        first.publish(publish(1, "a", "pending"));
        assert_eq!(first.ping(), []);
        let mut second = broker.client(version, "client");
        let told = (version == V5).then_some(ReasonCode::SessionTakenOver);
        assert_eq!(first.receive_end(), told);
        assert_eq!(broker.probe.status().subscriptions, 1);

        // What was published stays on its way, and the second is nothing to it.
        assert_eq!(second.ping(), []);
        broker.commit();
        assert_eq!(watcher.receive_payloads(2), ["pending", "taken over"]);
        second.expect_nothing();
        second.publish(publish(1, "a", "second"));
        assert_eq!(second.ping(), []);
        broker.commit();
        assert_eq!(second.receive_puback(), (1, ReasonCode::Success));
        assert_eq!(watcher.receive_payloads(1), ["second"]);
    }
    assert_eq!(ended(&broker, EndCause::TakenOver), 2);
}

#[test]
fn take_over_does_not_disturb_the_session_that_came_after() {
    let broker = TestBroker::start(Setup::default());
    let mut clients: Vec<TestClient> = (0..20).map(|_| broker.client(V5, "client")).collect();
    let mut last = clients.pop().unwrap();
    for mut older in clients {
        assert_eq!(older.receive_end(), Some(ReasonCode::SessionTakenOver));
    }
    last.subscribe("a");
    let mut other = broker.client(V5, "other");
    other.publish_acknowledged("a", "x");
    assert_eq!(last.receive_payloads(1), ["x"]);
    wait_for("the end of all but two", || {
        broker.probe.status().sessions_v5 == 2
    });
}

#[test]
fn will_is_published_unless_the_client_says_good_bye() {
    let broker = TestBroker::start(Setup::default());
    let mut watcher = broker.client(V5, "watcher");
    watcher.subscribe("wills/#");
    type End = fn(&mut TestClient);
    let good_bye: End = |client| client.send(Packet::Disconnect(Disconnect::default()));
    let drop_it: End = |client| client.stream.shutdown(std::net::Shutdown::Both).unwrap();
    let malformed: End = |client| client.send_bytes(b"\x00\x00");
    let with_will: End = |client| {
        client.send(Packet::Disconnect(Disconnect {
            reason_code: ReasonCode::DisconnectWithWillMessage,
            ..Disconnect::default()
        }));
    };
    for (version, name, end, is_published) in [
        (V311, "good-bye", good_bye, false),
        (V5, "good-bye", good_bye, false),
        (V311, "dropped", drop_it, true),
        (V5, "dropped", drop_it, true),
        (V311, "malformed", malformed, true),
        (V5, "malformed", malformed, true),
        (V5, "with will", with_will, true),
    ] {
        let topic = format!("wills/{name}");
        let mut client = TestClient::connect(
            broker.address(),
            connect_with_will(version, name, &topic, name),
        );
        end(&mut client);
        wait_for("the end of the session", || {
            broker.probe.status().sessions_v311 + broker.probe.status().sessions_v5 == 1
        });
        if is_published {
            assert_eq!(watcher.receive_payloads(1), [name]);
        }
        watcher.expect_nothing();
    }
    // Like any message, a will is in the log, under its client's name.
    let clients: Vec<_> = broker
        .messages("all")
        .into_iter()
        .map(|m| m.client_id)
        .collect();
    assert_eq!(clients.len(), 5);
    assert_eq!(clients[0], "dropped");
    assert_eq!(broker.probe.counters().wills.get(), 5);
}

#[test]
fn will_delay_ends_with_the_session_which_ends_with_the_connection() {
    let broker = TestBroker::start(Setup::default());
    let mut watcher = broker.client(V5, "watcher");
    watcher.subscribe("#");
    for session_expiry_interval in [None, Some(0)] {
        let mut connect = connect_with_will(V5, "client", "will", "x");
        connect.will.as_mut().unwrap().delay_interval = Some(1_000);
        connect.properties.session_expiry_interval = session_expiry_interval;
        drop(TestClient::connect(broker.address(), connect));
        assert_eq!(watcher.receive_payloads(1), ["x"]);
    }
    watcher.expect_nothing();
}

#[test]
fn will_of_qos2_that_is_retained_is_published() {
    let broker = TestBroker::start(Setup::default());
    let mut watcher = broker.client(V5, "watcher");
    watcher.subscribe("#");
    let mut connect = connect_with_will(V311, "client", "will", "x");
    let message = &mut connect.will.as_mut().unwrap().message;
    message.qos = QoS::ExactlyOnce;
    message.retain = true;
    drop(TestClient::connect(broker.address(), connect));
    assert_eq!(watcher.receive_publish().delivery.qos(), QoS::AtLeastOnce);
    let mut late = broker.client(V5, "late");
    late.subscribe("#");
    assert!(late.receive_publish().retain);
    assert_eq!(broker.messages("all")[0].qos, 2);
}

#[test]
fn connection_beyond_the_limit_is_closed_at_once() {
    let broker = TestBroker::start(Setup {
        listeners: vec![
            ListenerOptions {
                connections_max: 2,
                ..ListenerOptions::new("127.0.0.1:0".parse().unwrap())
            },
            ListenerOptions::new("127.0.0.1:0".parse().unwrap()),
        ],
        ..Setup::default()
    });
    let first = broker.client(V5, "first");
    let mut second = broker.client(V5, "second");
    let mut third = TestClient::open(broker.address(), V5);
    assert_eq!(third.receive_end(), None);
    // The other listener has its own count.
    TestClient::connect(broker.addresses[1], connect(V5, "elsewhere"));
    assert_eq!(second.ping(), []);
    let listeners = broker.probe.status().listeners;
    assert_eq!((listeners[0].accepted, listeners[0].refused), (2, 1));
    assert_eq!((listeners[1].accepted, listeners[1].refused), (1, 0));
    drop(first);
    wait_for("room", || {
        broker.probe.status().listeners[0].connections == 1
    });
    broker.client(V5, "third").expect_nothing();
}

/// Thinks for as long as it is told, by the user name.
struct Thoughtful;

impl Authorizer for Thoughtful {
    fn authenticate(&self, attempt: &ConnectAttempt<'_>) -> Authentication {
        assert!(attempt.peer.ip().is_loopback() && attempt.listener.port() > 0);
        let name = attempt.connect.username.clone().unwrap();
        Authentication::Pending(Box::pin(async move {
            match name.as_str() {
                "forever" => std::future::pending().await,
                "refused" => Err(ReasonCode::BadUserNameOrPassword),
                _ => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    Ok(Identity::new(&name, Rc::new(())))
                }
            }
        }))
    }

    fn may_publish(&self, _: Client<'_>, _: &TopicName, _: QoS, _: bool) -> bool {
        true
    }

    fn may_subscribe(&self, _: Client<'_>, _: &TopicFilter) -> bool {
        true
    }

    fn may_replay(&self, _: Client<'_>, _: &TopicFilter) -> bool {
        true
    }

    fn may_receive(&self, _: Client<'_>, _: &TopicName) -> bool {
        true
    }
}

#[test]
fn authorizer_may_take_its_time_but_not_for_ever() {
    let broker = TestBroker::start(Setup {
        authorizer: Box::new(|| Rc::new(Thoughtful)),
        limits: Limits {
            connect_timeout: Duration::from_millis(200),
            ..Limits::default()
        },
        ..Setup::default()
    });
    for (name, expected) in [
        ("known", ReasonCode::Success),
        ("refused", ReasonCode::BadUserNameOrPassword),
        ("forever", ReasonCode::ServerBusy),
    ] {
        let mut connect = connect(V5, name);
        connect.username = Some(string(name));
        let (_client, connack) = TestClient::try_connect(broker.address(), connect);
        assert_eq!(connack.reason_code, expected, "{name}");
    }
}

/// What `Broker::start` says of one listener.
fn start_error(listener: ListenerOptions) -> String {
    let folder = tempfile::tempdir().unwrap();
    let setup = Setup::default();
    let logs = [storage::LogOptions::new("default", 1)];
    let (store, threads) = storage::Store::open(folder.path(), setup.store, &logs).unwrap();
    let routing = broker::LogRouting {
        routes: Vec::new(),
        default_log: broker::StoredLog {
            log: store.log("default").unwrap().id,
            key: broker::KeyTemplate::new(Vec::new()),
            durability: broker::Durability::Commit,
        },
        unmapped: broker::Unmapped::Default,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let _in_runtime = runtime.enter();
    let mut options = BrokerOptions::new(vec![listener], routing);
    let error = match Broker::start(options.clone(), store.clone(), Rc::new(AllowAll)) {
        Ok(broker) => {
            drop(broker);
            options.routing.default_log.log = storage::LogId(77);
            Broker::start(options, store, Rc::new(AllowAll)).unwrap_err()
        }
        Err(error) => error,
    };
    threads.close();
    if let StartError::Bind { source, .. } = &error {
        return format!("{error}: {:?}", source.kind());
    }
    error.to_string()
}

#[test]
fn listener_that_cannot_be_is_refused_with_the_remedy() {
    for bind in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let error = start_error(ListenerOptions::new(bind.parse().unwrap()));
        assert!(error.starts_with(&format!("listener {bind}: the network can reach")));
        assert!(error.contains("127.0.0.1") && error.contains("allow_anonymous = true"));
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    assert_eq!(
        start_error(ListenerOptions::new(address)),
        format!("listen at {address}: AddrInUse")
    );
    for (bind, allow_anonymous) in [
        ("127.0.0.1:0", false),
        ("[::1]:0", false),
        ("[::ffff:127.0.0.1]:0", false),
        ("0.0.0.0:0", true),
    ] {
        let listener = ListenerOptions {
            allow_anonymous,
            ..ListenerOptions::new(bind.parse().unwrap())
        };
        let error = "messages are routed to log 77, which the store does not have";
        assert_eq!(start_error(listener), error, "{bind}");
    }
}
