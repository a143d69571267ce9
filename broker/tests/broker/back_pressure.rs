//! What publishers see when the store does not take their messages.

use std::io;
use std::path::{Path, PathBuf};

use broker::{DropCause, RefusalCause};
use mqtt::ProtocolVersion::{V5, V311};
use mqtt::{Connect, Packet, ReasonCode};
use storage::Health;
use tempfile::TempDir;

use crate::support::{
    BOTH, Setup, TestBroker, TestClient, TestLog, connect_with_will, more_than_there_is_room_for,
    publish, retained, staying, text, wait_for, with_little_room,
};

/// A data folder whose file system seems to be full when the test wants it: while a file lies beside
/// it that says so.
struct Disk(TempDir);

fn free_space(path: &Path) -> io::Result<u64> {
    let is_full = path.parent().unwrap().join("full").exists();
    Ok(if is_full { 0 } else { 1 << 40 })
}

impl Disk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("data")
    }

    fn start(&self, mut setup: Setup) -> TestBroker {
        setup.store.free_space = free_space;
        TestBroker::start_at(&self.path(), setup)
    }

    fn fill(&self, broker: &TestBroker) {
        std::fs::write(self.0.path().join("full"), "").unwrap();
        wait_for("a full disk", || {
            matches!(broker.store.health(), Health::DiskFull { .. })
        });
    }

    fn clean_up(&self, broker: &TestBroker) {
        std::fs::remove_file(self.0.path().join("full")).unwrap();
        wait_for("room on the disk", || {
            broker.store.health() == Health::Ready
        });
    }
}

fn refused(broker: &TestBroker, cause: RefusalCause) -> u64 {
    broker.probe.counters().refused.get(cause)
}

#[test]
fn full_disk_is_told_to_mqtt5_in_the_place_of_the_acknowledgement() {
    let disk = Disk::new();
    let broker = disk.start(Setup::held());
    let mut subscriber = broker.client(V5, "subscriber");
    subscriber.subscribe("#");
    let mut publisher = broker.client(V5, "publisher");
    publisher.publish(publish(1, "a", "taken"));
    assert_eq!(publisher.ping(), []);
    disk.fill(&broker);
    publisher.publish(publish(2, "a", "refused"));
    publisher.publish(retained(publish(3, "a", "refused")));
    publisher.expect_nothing();
    broker.commit();
    assert_eq!(publisher.receive_puback(), (1, ReasonCode::Success));
    assert_eq!(publisher.receive_puback(), (2, ReasonCode::QuotaExceeded));
    assert_eq!(publisher.receive_puback(), (3, ReasonCode::QuotaExceeded));
    assert_eq!(subscriber.receive_payloads(1), ["taken"]);
    subscriber.expect_nothing();
    disk.clean_up(&broker);
    publisher.publish(publish(4, "a", "taken again"));
    assert_eq!(publisher.ping(), []);
    broker.commit();
    assert_eq!(publisher.receive_puback(), (4, ReasonCode::Success));
    assert_eq!(broker.records("all").len(), 2);
    assert_eq!(refused(&broker, RefusalCause::DiskFull), 2);
    assert_eq!(broker.probe.status().retained_messages, 0);
}

#[test]
fn publishes_of_a_311_client_are_held_while_the_disk_is_full_and_stored_in_order() {
    let disk = Disk::new();
    let broker = disk.start(Setup::default());
    let mut subscriber = broker.client(V311, "subscriber");
    subscriber.subscribe("#");
    disk.fill(&broker);
    let mut publisher = broker.client(V311, "publisher");
    for number in 1..=10 {
        publisher.publish(publish(number, "a", number.to_string()));
    }
    // Everything else is answered.
    publisher.expect_nothing();
    publisher.subscribe("b");
    publisher.expect_nothing();
    assert_eq!(broker.probe.status().held_publishes, 10);
    subscriber.expect_nothing();
    disk.clean_up(&broker);
    for number in 1..=10 {
        assert_eq!(publisher.receive_puback(), (number, ReasonCode::Success));
        assert_eq!(subscriber.receive_payloads(1), [number.to_string()]);
    }
    assert_eq!(broker.records("all").len(), 10);
    assert_eq!(broker.probe.status().held_publishes, 0);
    publisher.publish_acknowledged("a", "and on");
}

#[test]
fn no_more_than_sixteen_publishes_of_a_311_client_are_held() {
    let disk = Disk::new();
    let broker = disk.start(Setup::default());
    disk.fill(&broker);
    let mut publisher = broker.client(V311, "publisher");
    let mut bytes = bytes::BytesMut::new();
    for number in 1..=40 {
        let packet = Packet::Publish(publish(number, "a", number.to_string()));
        packet.encode(V311, &mut bytes).unwrap();
    }
    let before = broker.probe.counters().bytes_received.get();
    publisher.send_bytes(&bytes);
    wait_for("the publishes", || {
        broker.probe.counters().bytes_received.get() == before + bytes.len() as u64
    });
    // The broker was through with it when it answers another client.
    broker.client(V5, "other").expect_nothing();
    assert_eq!(broker.probe.status().held_publishes, 16);
    disk.clean_up(&broker);
    for number in 1..=40 {
        assert_eq!(publisher.receive_puback(), (number, ReasonCode::Success));
    }
    assert_eq!(broker.records("all").len(), 40);
}

#[test]
fn no_more_than_64_kib_of_publishes_of_a_311_client_are_held() {
    let disk = Disk::new();
    let broker = disk.start(Setup::default());
    disk.fill(&broker);
    let mut publisher = broker.client(V311, "publisher");
    for number in 1..=6 {
        publisher.publish(publish(number, "a", [b'x'; 30_000]));
    }
    // The third one reaches the bound; those after it are not taken.
    wait_for("the first three", || {
        broker.probe.status().held_publishes >= 3
    });
    for _ in 0..3 {
        broker.client(V5, "other").expect_nothing();
    }
    assert_eq!(broker.probe.status().held_publishes, 3);
    disk.clean_up(&broker);
    for number in 1..=6 {
        assert_eq!(publisher.receive_puback(), (number, ReasonCode::Success));
    }
    assert_eq!(broker.records("all").len(), 6);
}

#[test]
fn held_publishes_of_a_client_that_goes_are_refused_and_not_stored() {
    let disk = Disk::new();
    let broker = disk.start(Setup::default());
    disk.fill(&broker);
    let mut publisher = broker.client(V311, "publisher");
    publisher.publish(publish(1, "a", "x"));
    publisher.publish(publish(2, "a", "y"));
    publisher.expect_nothing();
    drop(publisher);
    wait_for("the end of the session", || {
        broker.probe.status().sessions_v311 == 0
    });
    assert_eq!(refused(&broker, RefusalCause::ConnectionEnded), 2);
    assert_eq!(broker.probe.status().held_publishes, 0);
    disk.clean_up(&broker);
    broker.client(V5, "other").publish_acknowledged("a", "z");
    assert_eq!(broker.records("all"), [("a".to_owned(), "z".to_owned())]);
}

#[test]
fn qos0_reaches_its_subscribers_although_the_disk_is_full_unless_it_is_retained() {
    let disk = Disk::new();
    let broker = disk.start(Setup::default());
    let mut subscriber = broker.client(V5, "subscriber");
    subscriber.subscribe("#");
    disk.fill(&broker);
    for version in BOTH {
        let mut publisher = broker.client(version, "publisher");
        publisher.publish(publish(0, "a", "live"));
        publisher.publish(retained(publish(0, "a", "retained")));
        publisher.expect_nothing();
        assert_eq!(subscriber.receive_payloads(1), ["live"]);
    }
    subscriber.expect_nothing();
    let dropped = &broker.probe.counters().dropped;
    assert_eq!(dropped.get(DropCause::DiskFull), 2);
    assert_eq!(refused(&broker, RefusalCause::DiskFull), 2);
    disk.clean_up(&broker);
    assert_eq!(broker.records("all"), []);
}

/// A broker whose log `full` is, beside one, `other`, that has room. How many messages it took.
fn with_full_log() -> (TestBroker, usize) {
    let full = TestLog {
        pin: Some("route"),
        ..TestLog::new("full", &["full"])
    };
    let mut setup = Setup::with_logs(&[full, TestLog::new("other", &["other"])]);
    setup.store.segment_bytes = 1 << 20;
    let broker = TestBroker::start(setup);
    let mut publisher = broker.client(V5, "publisher");
    let payload = "x".repeat(32 * 1024);
    let mut taken = 0;
    wait_for("a full log", || {
        publisher.publish(publish(1, "full", &payload));
        let (_, code) = publisher.receive_puback();
        taken += usize::from(code == ReasonCode::Success);
        code == ReasonCode::QuotaExceeded
    });
    (broker, taken)
}

/// What is in its log `full` is needed no more.
fn make_room(broker: &TestBroker) {
    let partition = broker.store.log("full").unwrap().partitions().next();
    let pin = broker.store.pin("route");
    pin.set(partition.unwrap(), storage::Offset(u64::MAX));
}

#[test]
fn full_log_refuses_as_a_full_disk_does_and_other_logs_go_on() {
    let (broker, taken) = with_full_log();
    broker
        .client(V5, "publisher")
        .publish_acknowledged("other", "goes on");
    let mut old = broker.client(V311, "old");
    old.publish(publish(7, "full", "held"));
    old.expect_nothing();
    assert_eq!(refused(&broker, RefusalCause::LogFull), 1);
    make_room(&broker);
    assert_eq!(old.receive_puback(), (7, ReasonCode::Success));
    assert!(taken > 40, "{taken}");
}

/// The client of a kept session goes without a good-bye; its will is due a second later.
fn leave_with_will(broker: &TestBroker, client_id: &str, topic: &str) {
    let mut connect = Connect {
        will: connect_with_will(V5, client_id, topic, client_id).will,
        ..staying(V5, client_id)
    };
    connect.will.as_mut().unwrap().delay_interval = Some(1);
    let before = broker.probe.status().sessions_offline;
    drop(TestClient::connect(broker.address(), connect));
    wait_for("the end of the connection", || {
        broker.probe.status().sessions_offline > before
    });
}

/// If each of them cost a look at those that are due, the last would come after more time than is waited.
#[test]
fn wills_behind_a_full_log_hold_up_no_will_of_another_log() {
    const BEHIND: u64 = 60;
    let (broker, _) = with_full_log();
    for number in 0..BEHIND {
        leave_with_will(&broker, &format!("behind-{number}"), "full");
    }
    leave_with_will(&broker, "free", "other");
    let expected = [("other".to_owned(), "free".to_owned())];
    wait_for("the will of another log", || {
        broker.records("other") == expected
    });
    assert_eq!(broker.probe.counters().wills_kept.get(), BEHIND);
    make_room(&broker);
    wait_for("the other wills", || {
        broker.probe.counters().wills_kept.get() == 0
    });
    assert_eq!(broker.probe.counters().wills.get(), BEHIND + 1);
}

#[test]
fn will_waits_until_the_disk_has_room() {
    let disk = Disk::new();
    let broker = disk.start(Setup::default());
    let mut watcher = broker.client(V5, "watcher");
    watcher.subscribe("#");
    disk.fill(&broker);
    for payload in ["first", "second"] {
        let connect = connect_with_will(V5, "client", "will", payload);
        drop(TestClient::connect(broker.address(), connect));
        wait_for("the end of the session", || {
            broker.probe.status().sessions_v5 == 1
        });
    }
    watcher.expect_nothing();
    disk.clean_up(&broker);
    assert_eq!(watcher.receive_payloads(2), ["first", "second"]);
}

/// It waits on flash, so that it comes also when the broker is started anew meanwhile, and once.
#[test]
fn will_of_a_kept_session_waits_until_the_disk_has_room_also_for_another_broker() {
    let disk = Disk::new();
    let broker = disk.start(Setup::default());
    let connect = Connect {
        clean_start: false,
        ..connect_with_will(V311, "client", "will", "gone")
    };
    let client = TestClient::connect(broker.address(), connect);
    disk.fill(&broker);
    drop(client);
    wait_for("the end of the connection", || {
        broker.probe.status().sessions_offline == 1
    });
    broker.stop();
    let broker = disk.start(Setup::default());
    let mut watcher = broker.client(V5, "watcher");
    watcher.subscribe("will");
    watcher.expect_nothing();
    disk.clean_up(&broker);
    assert_eq!(watcher.receive_payloads(1), ["gone"]);
    wait_for("the end of the will", || {
        broker.probe.counters().wills_kept.get() == 0
    });
    watcher.expect_nothing();
    broker.stop();
}

#[test]
fn full_commit_queue_pauses_its_publisher_and_loses_nothing() {
    for version in BOTH {
        let mut setup = Setup::held();
        setup.store.queue_bytes_max = 4_096;
        let broker = TestBroker::start(setup);
        let mut subscriber = broker.client(V5, "subscriber");
        subscriber.subscribe("#");
        let mut publisher = broker.client(version, "publisher");
        let payload = |number: u16| format!("{number:0200}");
        for number in 1..=60 {
            publisher.publish(publish(number, "a", payload(number)));
        }
        let counters = broker.probe.counters();
        wait_for("all publishes", || counters.published.get() == 60);
        // Nobody else has anything committed: the queue was full, and more than once.
        assert!(broker.store.counters().commits() >= 3);
        broker.commit();
        for number in 1..=60 {
            assert_eq!(publisher.receive_puback(), (number, ReasonCode::Success));
            assert_eq!(subscriber.receive_payloads(1), [payload(number)]);
        }
        let records = broker.records("all").into_iter();
        let payloads: Vec<String> = records.map(|(_, payload)| payload).collect();
        assert_eq!(payloads, (1..=60).map(payload).collect::<Vec<_>>());
    }
}

#[test]
fn publish_of_a_client_that_says_good_bye_waits_for_room_and_is_not_lost() {
    let broker = TestBroker::start(with_little_room());
    let mut subscriber = broker.client(V5, "subscriber");
    subscriber.subscribe("live");
    let mut publisher = broker.client(V311, "publisher");
    publisher.send_bytes(&more_than_there_is_room_for());
    wait_for("a full queue", || broker.probe.status().held_publishes == 1);
    // Others go on as far as they need no room.
    let mut other = broker.client(V5, "other");
    other.publish_acknowledged("live", "other");
    assert_eq!(subscriber.receive_payloads(1), ["other"]);
    broker.commit();
    let expected: Vec<String> = (0..12).map(|number| format!("{number:0100}")).collect();
    assert_eq!(subscriber.receive_payloads(12), expected);
}

#[test]
fn publisher_that_waits_for_room_can_be_taken_over() {
    let broker = TestBroker::start(with_little_room());
    let mut subscriber = broker.client(V5, "subscriber");
    subscriber.subscribe("live");
    let mut publisher = broker.client(V5, "publisher");
    publisher.publish(retained(publish(0, "live", "first")));
    for number in 1..=30 {
        publisher.publish(publish(number, "live", [b'x'; 100]));
    }
    wait_for("a full queue", || broker.probe.status().held_publishes == 1);
    let mut second = broker.client(V5, "publisher");
    assert_eq!(publisher.receive_end(), Some(ReasonCode::SessionTakenOver));
    wait_for("nothing held", || broker.probe.status().held_publishes == 0);
    assert_eq!(second.ping(), []);
}

#[test]
fn log_that_commits_at_once_is_not_held_up_by_one_that_waits() {
    let broker = TestBroker::start(Setup::with_logs(&[
        TestLog::held("slow", &["slow"]),
        TestLog::new("fast", &["fast"]),
    ]));
    let mut slow = broker.client(V5, "slow");
    slow.publish(publish(1, "slow", "x"));
    slow.expect_nothing();
    broker.client(V5, "fast").publish_acknowledged("fast", "y");
    // They share the commit.
    assert_eq!(slow.receive_puback(), (1, ReasonCode::Success));
    assert_eq!(text(&broker.messages("slow")[0].payload), "x");
}
