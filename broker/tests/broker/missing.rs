//! What retention took before a session had read it is told.

use bytes::Bytes;
use mqtt::ProtocolVersion::V5;
use mqtt::{Connect, ProtocolVersion, Publish, ReasonCode};
use storage::{Message, Offset, StoreOptions};

use crate::support::{
    BOTH, Setup, TestBroker, TestClient, TestLog, connect, go, staying, wait_for,
};

fn come(broker: &TestBroker, version: ProtocolVersion, client_id: &str) -> TestClient {
    let (client, connack) = TestClient::try_connect(broker.address(), staying(version, client_id));
    assert_eq!(connack.reason_code, ReasonCode::Success);
    client
}

/// A log that keeps 2 MiB, and one that keeps everything.
fn setup() -> Setup {
    let setup = Setup::default();
    Setup {
        logs: vec![
            TestLog {
                retention_bytes: Some(2 << 20),
                ..TestLog::new("short", &["short/#"])
            },
            TestLog::new("long", &["long/#"]),
        ],
        store: StoreOptions {
            ring_bytes_max: 0,
            ..setup.store
        },
        ..setup
    }
}

/// So much that retention takes the first of it.
fn fill(broker: &TestBroker) {
    let log = broker.store.log("short").unwrap();
    let partition = log.partitions().next().unwrap();
    let first = broker.store.durable().next();
    for _ in 0..100 {
        let message = Message {
            topic: "short/a".into(),
            payload: Bytes::from(vec![b'x'; 60_000]),
            client_id: "publisher".into(),
            qos: 1,
            ..Message::default()
        };
        let appended = broker.store.append(log.id, b"", &message).unwrap();
        broker.store.wait_durable(appended.commit).unwrap();
    }
    wait_for("retention", || {
        broker.store.log_start(partition) > Offset(0)
    });
    // What is before the start is there until its segment goes. With these three MiB no more goes.
    wait_for("the end of segments", || {
        let mut reader = broker.store.commit_reader(first);
        reader.read(1).unwrap();
        let (bytes, _) = broker.store.partition_usage(partition);
        !reader.take_missing().is_empty() && bytes < 3 << 20
    });
}

fn told(message: &Publish) -> Vec<String> {
    let properties = message.properties.user_properties.iter();
    let told = properties.filter(|property| property.name.as_str() == "tidegate-missing");
    told.map(|property| property.value.as_str().to_owned())
        .collect()
}

#[test]
fn session_is_told_once_what_retention_took_before_it_came_back() {
    for version in BOTH {
        let broker = TestBroker::start(setup());
        let names = ["client", "other"].map(|name| format!("{name} {version:?}"));
        let mut client = come(&broker, version, &names[0]);
        client.subscribe("short/#");
        let mut other = come(&broker, version, &names[1]);
        other.subscribe("long/#");
        go(&broker, client);
        go(&broker, other);
        let before = broker.probe.counters().missing_reports.get();
        fill(&broker);
        let mut publisher = broker.client(V5, "publisher");
        publisher.publish_acknowledged("long/a", "long");
        let mut client = come(&broker, version, &names[0]);
        let first = client.receive_publish();
        let reports = told(&first);
        assert_eq!(reports.len(), usize::from(version == V5), "{reports:?}");
        if let Some(report) = reports.first() {
            assert!(report.starts_with("reason=retention;commits="), "{report}");
            assert!(report.contains(";at-most="), "{report}");
        }
        assert_eq!(told(&client.receive_publish()), [] as [&str; 0]);
        assert_eq!(broker.probe.counters().missing_reports.get(), before + 1);
        // Retention may take more of what it has not read yet.
        go(&broker, client);
        let before = broker.probe.counters().missing_reports.get();
        // Nothing of its log was taken.
        let mut other = come(&broker, version, &names[1]);
        assert_eq!(told(&other.receive_publish()), [] as [&str; 0]);
        assert_eq!(broker.probe.counters().missing_reports.get(), before);
        go(&broker, other);
    }
}

#[test]
fn client_that_takes_small_packets_only_gets_its_message_without_the_report() {
    let broker = TestBroker::start(setup());
    let mut client = come(&broker, V5, "client");
    client.subscribe("short/small");
    go(&broker, client);
    fill(&broker);
    let mut publisher = broker.client(V5, "publisher");
    publisher.publish_acknowledged("short/small", "x");
    let mut connect = Connect {
        clean_start: false,
        ..connect(V5, "client")
    };
    connect.properties.session_expiry_interval = Some(3_600);
    connect.properties.maximum_packet_size = std::num::NonZeroU32::new(40);
    let (mut client, _) = TestClient::try_connect(broker.address(), connect);
    let message = client.receive_publish();
    assert_eq!(told(&message), [] as [&str; 0]);
    assert_eq!(broker.probe.counters().missing_reports.get(), 1);
}
