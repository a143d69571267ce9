//! Every cause for which a connection ends, and what its client is told before: the table in
//! docs/mqtt.md.

use std::net::Shutdown;
use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

use broker::{CLIENT_ID_BYTES_MAX, EndCause, Limits};
use mqtt::ProtocolVersion::{V5, V311};
use mqtt::{Connect, Packet, ProtocolVersion, ReasonCode};

use crate::support::{BOTH, Setup, TestBroker, TestClient, connect, publish, wait_for};

/// The code of the last packet, a CONNACK or DISCONNECT; `None` for a mere close.
fn last_word(client: &mut TestClient) -> Option<ReasonCode> {
    let code = match client.try_receive()? {
        Packet::Connack(connack) => connack.reason_code,
        Packet::Disconnect(disconnect) => disconnect.reason_code,
        other => panic!("{other:?} is no last word"),
    };
    assert_eq!(client.try_receive(), None, "something follows");
    Some(code)
}

/// What a client of MQTT 5 is told, and one of MQTT 3.1.1, for which only CONNACK has words.
fn expected(cause: EndCause) -> (Option<ReasonCode>, Option<ReasonCode>) {
    let disconnect = |code| (Some(code), None);
    match cause {
        // It knows why; it is gone; its version is not known yet.
        EndCause::Client | EndCause::EndOfStream | EndCause::ConnectTimeout => (None, None),
        EndCause::Invalid => disconnect(ReasonCode::MalformedPacket),
        EndCause::KeepAliveTimeout => disconnect(ReasonCode::KeepAliveTimeout),
        EndCause::Refused => {
            let code = Some(ReasonCode::ClientIdentifierNotValid);
            (code, code)
        }
        EndCause::RefusedPublish => disconnect(ReasonCode::TopicNameInvalid),
        EndCause::Shutdown => disconnect(ReasonCode::ServerShuttingDown),
        EndCause::SlowSubscriber | EndCause::Suspended => disconnect(ReasonCode::QuotaExceeded),
        EndCause::TakenOver => disconnect(ReasonCode::SessionTakenOver),
    }
}

fn setup(cause: EndCause) -> Setup {
    let limits = match cause {
        EndCause::ConnectTimeout => Limits {
            connect_timeout: Duration::from_millis(50),
            ..Limits::default()
        },
        EndCause::SlowSubscriber => Limits {
            mailbox_bytes_max: 16_384,
            packet_bytes_max: 16_384,
            inflight_max: NonZeroU16::MIN,
            ..Limits::default()
        },
        _ => Limits::default(),
    };
    Setup {
        memory: &["live"],
        ..Setup::with_limits(limits)
    }
}

/// A client whose connection ends for this cause; `None` where that takes half a minute.
fn ending(
    broker: &mut TestBroker,
    cause: EndCause,
    version: ProtocolVersion,
) -> Option<TestClient> {
    let address = broker.address();
    let mut client = match cause {
        EndCause::ConnectTimeout => TestClient::open(address, version),
        EndCause::KeepAliveTimeout => {
            let connect = Connect {
                keep_alive_seconds: 1,
                ..connect(version, "client")
            };
            TestClient::connect(address, connect)
        }
        EndCause::Refused => {
            let mut client = TestClient::open(address, version);
            let name = "x".repeat(CLIENT_ID_BYTES_MAX + 1);
            client.send(Packet::Connect(Box::new(connect(version, &name))));
            client
        }
        // mqtt/protocol::server_suspension has it, with a clock of its own.
        EndCause::Suspended => return None,
        _ => broker.client(version, "client"),
    };
    match cause {
        EndCause::Client => client.send_bytes(&[0xe0, 0]),
        EndCause::EndOfStream => client.stream.shutdown(Shutdown::Write).unwrap(),
        EndCause::Invalid => client.send_bytes(&[0xc1, 0]),
        EndCause::RefusedPublish => client.publish(publish(0, "$SYS/mine", "x")),
        EndCause::Shutdown => broker.begin_shutdown(),
        EndCause::SlowSubscriber => {
            client.subscribe("live");
            let mut publisher = broker.client(version, "publisher");
            for _ in 0..10 {
                publisher.publish_acknowledged("live", [b'x'; 8_000]);
            }
            assert!(matches!(client.receive(), Packet::Publish(_)));
        }
        EndCause::TakenOver => drop(broker.client(version, "client")),
        EndCause::ConnectTimeout
        | EndCause::KeepAliveTimeout
        | EndCause::Refused
        | EndCause::Suspended => {}
    }
    Some(client)
}

#[test]
fn what_can_be_said_is_said_before_a_connection_ends_whatever_the_cause() {
    for cause in EndCause::ALL {
        for version in BOTH {
            let mut broker = TestBroker::start(setup(*cause));
            let Some(mut client) = ending(&mut broker, *cause, version) else {
                continue;
            };
            let (v5, v311) = expected(*cause);
            let told = if version == V5 { v5 } else { v311 };
            assert_eq!(last_word(&mut client), told, "{cause:?} {version}");
            let ended = &broker.probe.counters().ended;
            wait_for("the count", || ended.get(*cause) > 0);
        }
    }
}

/// Whoever does not take its answers in full is told that, if it takes so much.
#[test]
fn answer_that_a_client_takes_no_packets_for_ends_its_connection() {
    let broker = TestBroker::start(Setup::default());
    let mut connect = connect(V5, "client");
    connect.properties.maximum_packet_size = NonZeroU32::new(20);
    let mut client = TestClient::connect(broker.address(), connect);
    let filters = b"\0\x01a\0".repeat(20);
    client.send_bytes(&[b"\x82\x53\0\x01\0", &filters[..]].concat());
    assert_eq!(client.receive_end(), Some(ReasonCode::PacketTooLarge));
}

/// One of MQTT 3.1.1 cannot be told, and is not held to it.
#[test]
fn keep_alive_of_the_server_holds_for_clients_that_are_told() {
    let broker = TestBroker::start(Setup::with_limits(Limits {
        keep_alive_seconds_max: Some(NonZeroU16::MIN),
        ..Limits::default()
    }));
    let mut older = broker.client(V311, "older");
    for asked in [0, 600] {
        let connect = Connect {
            keep_alive_seconds: asked,
            ..connect(V5, "client")
        };
        let (mut client, connack) = TestClient::try_connect(broker.address(), connect);
        assert_eq!(connack.properties.server_keep_alive_seconds, Some(1));
        assert_eq!(client.receive_end(), Some(ReasonCode::KeepAliveTimeout));
    }
    older.expect_nothing();
}
