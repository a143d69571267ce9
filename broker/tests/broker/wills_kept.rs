//! Wills of sessions that outlive their connections: they outlive the broker, too, and are published at
//! most once.

use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use broker::{
    Authentication, Authorizer, Client, ConnectAttempt, Identity, Limits, RefusalCause, Unmapped,
};
use mqtt::ProtocolVersion::{V5, V311};
use mqtt::{
    BinaryData, Connect, Disconnect, MessageProperties, Packet, PayloadFormat, ProtocolVersion,
    QoS, ReasonCode, TopicFilter, TopicName, UserProperty,
};

use storage::JournalKind;

use crate::session_resends::copy;
use crate::support::{
    BOTH, NEVER, Setup, TestBroker, TestClient, connect_with_will, go, staying, string, wait_for,
};

const SOON: Duration = Duration::from_secs(1);

/// A CONNECT of a client whose session stays, with a will.
fn leaving(version: ProtocolVersion, payload: &str, delay: Option<u32>) -> Connect {
    let mut connect = Connect {
        will: connect_with_will(version, "client", "will", payload).will,
        ..staying(version, "client")
    };
    connect.will.as_mut().unwrap().delay_interval = delay;
    connect
}

fn come(broker: &TestBroker, connect: Connect) -> TestClient {
    TestClient::connect(broker.address(), connect)
}

/// The client is gone without a good-bye.
fn drop_it(broker: &TestBroker, client: TestClient) {
    drop(client);
    wait_for("the end of the connection", || {
        broker.probe.status().sessions_offline == 1
    });
}

fn returning(will_return_time: Duration) -> Setup {
    Setup {
        will_return_time,
        ..Setup::default()
    }
}

/// What was published as a will.
fn wills(broker: &TestBroker) -> Vec<String> {
    let records = broker.records("all").into_iter();
    let wills = records.filter(|(topic, _)| topic == "will");
    wills.map(|(_, payload)| payload).collect()
}

fn wait_for_wills(broker: &TestBroker, expected: &[&str]) {
    wait_for("wills", || wills(broker) == expected);
}

/// Enough time for one that is due to be published.
fn expect_wills(broker: &TestBroker, expected: &[&str]) {
    std::thread::sleep(Duration::from_millis(2_500));
    broker.commit();
    assert_eq!(wills(broker), expected);
}

struct Folder {
    folder: tempfile::TempDir,
    crashes: usize,
    path: PathBuf,
}

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        let crashes = 0;
        Self {
            folder,
            crashes,
            path,
        }
    }

    fn start(&self, setup: Setup) -> TestBroker {
        TestBroker::start_at(&self.path, setup)
    }

    /// What a SIGKILL leaves when everything that is to be written is written.
    fn crash(&mut self, broker: TestBroker) {
        broker.commit();
        self.crash_at_once(broker);
    }

    fn crash_at_once(&mut self, broker: TestBroker) {
        self.crashes += 1;
        let after = self.folder.path().join(format!("after {}", self.crashes));
        copy(&self.path, &after);
        self.path = after;
        broker.stop();
    }
}

#[test]
fn will_is_published_once_when_the_broker_crashed_and_its_client_does_not_come_back() {
    for version in BOTH {
        let mut folder = Folder::new();
        let broker = folder.start(returning(NEVER));
        let _client = come(&broker, leaving(version, "gone", None));
        folder.crash(broker);
        // The time to come back begins anew with each start.
        let broker = folder.start(returning(NEVER));
        folder.crash(broker);
        let broker = folder.start(returning(NEVER));
        expect_wills(&broker, &[]);
        folder.crash(broker);
        let broker = folder.start(returning(SOON));
        assert_eq!(broker.probe.counters().wills_kept.get(), 1);
        wait_for_wills(&broker, &["gone"]);
        assert_eq!(broker.probe.counters().wills_kept.get(), 0);
        assert_eq!(broker.probe.counters().wills.get(), 1);
        // With the commit of the message it went from flash.
        folder.crash_at_once(broker);
        let broker = folder.start(returning(Duration::ZERO));
        assert_eq!(broker.probe.counters().wills_kept.get(), 0);
        assert_eq!(broker.probe.status().sessions_offline, 1);
        expect_wills(&broker, &["gone"]);
        broker.stop();
    }
}

#[test]
fn will_is_published_when_the_broker_was_shut_down_and_its_client_does_not_come_back() {
    for version in BOTH {
        let folder = Folder::new();
        let broker = folder.start(returning(NEVER));
        let _client = come(&broker, leaving(version, "gone", None));
        broker.stop();
        for _ in 0..2 {
            let broker = folder.start(returning(NEVER));
            expect_wills(&broker, &[]);
            broker.stop();
        }
        let broker = folder.start(returning(SOON));
        wait_for_wills(&broker, &["gone"]);
        broker.stop();
    }
}

#[test]
fn will_is_not_published_when_its_client_comes_back_after_a_crash() {
    for version in BOTH {
        let mut folder = Folder::new();
        let broker = folder.start(returning(NEVER));
        let _client = come(&broker, leaving(version, "old", None));
        folder.crash(broker);
        let broker = folder.start(returning(NEVER));
        let client = come(&broker, leaving(version, "new", None));
        folder.crash(broker);
        let broker = folder.start(returning(SOON));
        wait_for_wills(&broker, &["new"]);
        // Back without a will, there is none.
        let _again = come(&broker, leaving(version, "newest", None));
        drop(client);
        folder.crash(broker);
        let broker = folder.start(returning(NEVER));
        let _client = come(&broker, staying(version, "client"));
        folder.crash(broker);
        let broker = folder.start(returning(Duration::ZERO));
        assert_eq!(broker.probe.counters().wills_kept.get(), 0);
        broker.stop();
    }
}

#[test]
fn will_is_gone_for_good_with_a_good_bye_and_when_it_was_published() {
    for version in BOTH {
        let mut folder = Folder::new();
        let broker = folder.start(returning(NEVER));
        let client = come(&broker, leaving(version, "taken back", None));
        assert_eq!(broker.probe.counters().wills_kept.get(), 1);
        go(&broker, client);
        assert_eq!(broker.probe.counters().wills_kept.get(), 0);
        folder.crash(broker);
        let broker = folder.start(returning(Duration::ZERO));
        expect_wills(&broker, &[]);
        let client = come(&broker, leaving(version, "published", None));
        drop_it(&broker, client);
        wait_for_wills(&broker, &["published"]);
        folder.crash_at_once(broker);
        let broker = folder.start(returning(Duration::ZERO));
        expect_wills(&broker, &["published"]);
        broker.stop();
    }
}

/// Its client had gone, and does not get the time that others have to come back.
#[test]
fn delayed_will_goes_on_waiting_after_a_crash() {
    let mut folder = Folder::new();
    let broker = folder.start(returning(NEVER));
    let client = come(&broker, leaving(V5, "gone", Some(4)));
    drop_it(&broker, client);
    folder.crash(broker);
    let broker = folder.start(returning(NEVER));
    wait_for_wills(&broker, &["gone"]);
    broker.stop();
}

#[test]
fn waiting_will_is_published_when_its_session_ends() {
    let mut folder = Folder::new();
    let broker = folder.start(returning(NEVER));
    let client = come(&broker, leaving(V5, "clean start", Some(3_600)));
    drop_it(&broker, client);
    folder.crash(broker);
    let broker = folder.start(returning(NEVER));
    let mut clean = Connect {
        clean_start: true,
        ..leaving(V5, "expiry", None)
    };
    clean.properties.session_expiry_interval = Some(2);
    let _client = come(&broker, clean);
    wait_for_wills(&broker, &["clean start"]);
    folder.crash(broker);
    let broker = folder.start(returning(NEVER));
    wait_for_wills(&broker, &["clean start", "expiry"]);
    assert_eq!(broker.probe.status().sessions_offline, 0);
    folder.crash(broker);
    let broker = folder.start(returning(Duration::ZERO));
    expect_wills(&broker, &["clean start", "expiry"]);
    broker.stop();
}

#[test]
fn will_of_a_connection_that_is_taken_over_is_published_and_that_of_the_newer_one_kept() {
    let mut folder = Folder::new();
    let broker = folder.start(returning(NEVER));
    let _first = come(&broker, leaving(V5, "first", None));
    let _second = come(&broker, leaving(V5, "second", None));
    wait_for_wills(&broker, &["first"]);
    assert_eq!(broker.probe.counters().wills_kept.get(), 1);
    folder.crash(broker);
    let broker = folder.start(returning(SOON));
    wait_for_wills(&broker, &["first", "second"]);
    broker.stop();
}

#[test]
fn will_comes_back_from_flash_with_all_its_properties() {
    let mut folder = Folder::new();
    let broker = folder.start(returning(NEVER));
    let mut connect = leaving(V5, "", Some(1));
    let payload = bytes::Bytes::from(vec![b'x'; 65_000]);
    let pair = |name: &str, value: &str| UserProperty {
        name: string(name),
        value: string(value),
    };
    let message = &mut connect.will.as_mut().unwrap().message;
    message.qos = QoS::ExactlyOnce;
    message.retain = true;
    message.payload = payload.clone();
    message.properties = MessageProperties {
        payload_format: Some(PayloadFormat::Utf8),
        message_expiry_interval: Some(1_000),
        content_type: Some(string("text/plain")),
        response_topic: Some("answers".parse().unwrap()),
        correlation_data: Some(BinaryData::try_from(bytes::Bytes::from_static(&[0, 9])).unwrap()),
        user_properties: vec![
            pair("a", "1"),
            pair("a", "2"),
            pair("b", &"y".repeat(2_000)),
        ],
    };
    let _client = come(&broker, connect);
    // It is large, and leaves the journal at once.
    wait_for("the move", || {
        broker.commit();
        let store = &broker.store;
        store.journal_entries(JournalKind::Will).is_empty()
    });
    folder.crash(broker);
    let broker = folder.start(returning(SOON));
    let mut watcher = broker.client(V5, "watcher");
    watcher.subscribe("will");
    let publish = watcher.receive_publish();
    let properties = publish.properties;
    assert_eq!(publish.payload, payload);
    assert_eq!(properties.payload_format, Some(PayloadFormat::Utf8));
    let left = properties.message_expiry_interval.unwrap();
    assert!(
        (990..=1_000).contains(&left),
        "{left}: it counts from the publication"
    );
    assert_eq!(properties.content_type, Some(string("text/plain")));
    assert_eq!(properties.response_topic.unwrap().as_str(), "answers");
    assert_eq!(properties.correlation_data.unwrap().as_bytes(), [0, 9]);
    assert_eq!(
        properties.user_properties[..2],
        [pair("a", "1"), pair("a", "2")]
    );
    assert_eq!(properties.user_properties[2].value.as_str().len(), 2_000);
    let mut late = broker.client(V5, "late");
    late.subscribe("will");
    assert!(late.receive_publish().retain);
    let record = &broker.messages("all")[0];
    assert_eq!(record.qos, 2);
    assert_eq!(record.client_id, "client");
    broker.stop();
}

/// Nothing of it goes to a log: it is not kept any more before anybody has it.
#[test]
fn will_that_goes_to_subscribers_only_is_published_once() {
    let live = |will_return_time| Setup {
        unmapped: Unmapped::LiveOnly,
        will_return_time,
        ..Setup::with_logs(&[])
    };
    let mut folder = Folder::new();
    let broker = folder.start(live(NEVER));
    let _client = come(&broker, leaving(V5, "gone", None));
    folder.crash(broker);
    let broker = folder.start(live(SOON));
    let mut watcher = broker.client(V5, "watcher");
    watcher.subscribe("will");
    assert_eq!(watcher.receive_payloads(1), ["gone"]);
    folder.crash_at_once(broker);
    let broker = folder.start(live(Duration::ZERO));
    assert_eq!(broker.probe.counters().wills_kept.get(), 0);
    broker.stop();
}

#[test]
fn will_of_qos_0_is_published_once() {
    let mut folder = Folder::new();
    let broker = folder.start(returning(NEVER));
    let mut connect = leaving(V311, "gone", None);
    connect.will.as_mut().unwrap().message.qos = QoS::AtMostOnce;
    let client = come(&broker, connect.clone());
    let mut watcher = broker.client(V5, "watcher");
    watcher.subscribe("will");
    drop_it(&broker, client);
    assert_eq!(watcher.receive_payloads(1), ["gone"]);
    folder.crash_at_once(broker);
    let broker = folder.start(returning(Duration::ZERO));
    expect_wills(&broker, &["gone"]);
    broker.stop();
}

/// Only what is under `will` may be published.
struct OnlyWills;

impl Authorizer for OnlyWills {
    fn authenticate(&self, _: &ConnectAttempt<'_>) -> Authentication {
        Authentication::Done(Ok(Identity::new("anybody", Rc::new(7_u8))))
    }

    fn may_publish(&self, client: Client<'_>, topic: &TopicName, _: QoS, _: bool) -> bool {
        topic.as_str() == "will" && client.identity.grants::<u8>().is_some()
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
fn will_that_its_client_might_not_publish_is_not_published_after_a_restart_either() {
    let setup = |will_return_time| Setup {
        authorizer: Box::new(|| Rc::new(OnlyWills)),
        ..returning(will_return_time)
    };
    let mut folder = Folder::new();
    let broker = folder.start(setup(NEVER));
    let _allowed = come(&broker, leaving(V5, "allowed", None));
    let mut connect = Connect {
        client_id: string("other"),
        ..leaving(V5, "forbidden", None)
    };
    connect.will.as_mut().unwrap().message.topic = "other".parse().unwrap();
    let _forbidden = come(&broker, connect);
    folder.crash(broker);
    let broker = folder.start(setup(SOON));
    wait_for("the end of both", || {
        broker.probe.counters().wills_kept.get() == 0
    });
    broker.commit();
    let records = broker.records("all");
    assert_eq!(records, [("will".to_owned(), "allowed".to_owned())]);
    let refused = &broker.probe.counters().refused;
    assert_eq!(refused.get(RefusalCause::NotAuthorized), 1);
    folder.crash(broker);
    let broker = folder.start(setup(Duration::ZERO));
    assert_eq!(broker.probe.counters().wills_kept.get(), 0);
    broker.stop();
}

fn with_large_packets() -> Setup {
    Setup::with_limits(Limits {
        packet_bytes_max: 4 << 20,
        ..Limits::default()
    })
}

/// With 18 properties its will is too large.
fn with_large_will(properties: usize) -> Connect {
    let mut connect = leaving(V5, "x", None);
    let pair = UserProperty {
        name: string("name"),
        value: string(&"x".repeat(60_000)),
    };
    let will = connect.will.as_mut().unwrap();
    will.message.properties.user_properties = vec![pair; properties];
    connect
}

#[test]
fn session_that_would_keep_too_large_a_will_is_refused() {
    let broker = TestBroker::start(with_large_packets());
    let (_, connack) = TestClient::try_connect(broker.address(), with_large_will(18));
    assert_eq!(connack.reason_code, ReasonCode::QuotaExceeded);
    assert_eq!(broker.probe.status().sessions_v5, 0);
    let client = come(&broker, with_large_will(17));
    let bytes = broker.probe.counters().wills_kept_bytes.get();
    assert!(bytes > 1_000_000, "{bytes}");
    // One takes the place of the other.
    drop(client);
    let _again = come(&broker, with_large_will(17));
    wait_for("the first one", || !wills(&broker).is_empty());
    assert_eq!(broker.probe.counters().wills_kept_bytes.get(), bytes);
    // What is not kept needs no room.
    let mut once = with_large_will(18);
    once.properties.session_expiry_interval = None;
    once.client_id = string("once");
    let mut once = come(&broker, once);
    once.send(Packet::Disconnect(Disconnect::default()));
    broker.stop();
}

#[test]
fn client_that_is_refused_for_its_will_leaves_its_connection_and_its_session_as_they_are() {
    let broker = TestBroker::start(with_large_packets());
    let mut client = come(&broker, staying(V5, "client"));
    client.subscribe("a");
    let refused = |clean_start| {
        let connect = Connect {
            clean_start,
            ..with_large_will(18)
        };
        let (_, connack) = TestClient::try_connect(broker.address(), connect);
        assert_eq!(connack.reason_code, ReasonCode::QuotaExceeded);
    };
    for clean_start in [false, true] {
        refused(clean_start);
        client.expect_nothing();
    }
    let mut publisher = broker.client(V5, "publisher");
    publisher.publish_acknowledged("a", "goes on");
    assert_eq!(client.receive_payloads(1), ["goes on"]);
    go(&broker, client);
    refused(true);
    let (_client, connack) = TestClient::try_connect(broker.address(), staying(V5, "client"));
    assert!(connack.session_present);
    broker.stop();
}
