//! A broker on a store of its own, clients that speak raw packets, and what the tests share.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use broker::{
    AllowAll, Authorizer, Broker, BrokerOptions, Durability, KeyPart, KeyTemplate, Limits,
    ListenerOptions, LogRoute, LogRouting, LogTarget, Probe, RunError, SharePolicies, StoredLog,
    Unmapped,
};
use bytes::{Bytes, BytesMut};
use mqtt::codec::{Limits as CodecLimits, decode};
use mqtt::{
    Acknowledgement, Connack, Connect, Delivery, Disconnect, MessageProperties, Packet, PacketId,
    ProtocolVersion, Publish, QoS, ReasonCode, Suback, Subscribe, Subscription,
    SubscriptionOptions, Utf8String, Will,
};
use storage::{
    AppendError, JournalKey, JournalKind, LogOptions, Offset, OnFull, Read as LogRead, Store,
    StoreOptions, StoreThreads,
};
use tempfile::TempDir;
use tokio::sync::oneshot;

/// How long to wait for what must come; only a broken broker takes so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A `commit_within` that never comes: the test commits.
pub(crate) const NEVER: Duration = Duration::from_secs(100_000);

pub(crate) const BOTH: [ProtocolVersion; 2] = [ProtocolVersion::V311, ProtocolVersion::V5];

/// Waits for what must become true.
pub(crate) fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A log as the tests want it.
#[derive(Clone)]
pub(crate) struct TestLog {
    pub(crate) name: &'static str,
    pub(crate) filters: &'static [&'static str],
    pub(crate) partitions: u16,
    pub(crate) key: KeyTemplate,
    pub(crate) durability: Durability,
    /// How long a record may wait for its commit.
    pub(crate) commit_within: Duration,
    /// If it has a pin of this name, it keeps 2 MiB and rejects more.
    pub(crate) pin: Option<&'static str>,
    /// How many bytes of records it keeps, if not very many.
    pub(crate) retention_bytes: Option<u64>,
}

impl TestLog {
    pub(crate) fn new(name: &'static str, filters: &'static [&'static str]) -> Self {
        Self {
            name,
            filters,
            partitions: 1,
            key: KeyTemplate::new(vec![KeyPart::ClientId]),
            durability: Durability::Commit,
            commit_within: Duration::ZERO,
            pin: None,
            retention_bytes: None,
        }
    }

    /// The same, with records that wait until the test commits.
    pub(crate) fn held(name: &'static str, filters: &'static [&'static str]) -> Self {
        Self {
            commit_within: NEVER,
            ..Self::new(name, filters)
        }
    }
}

type MakeAuthorizer = Box<dyn FnOnce() -> Rc<dyn Authorizer> + Send>;

/// What a broker is started with.
pub(crate) struct Setup {
    pub(crate) logs: Vec<TestLog>,
    pub(crate) default_log: TestLog,
    pub(crate) memory: &'static [&'static str],
    pub(crate) unmapped: Unmapped,
    pub(crate) limits: Limits,
    pub(crate) listeners: Vec<ListenerOptions>,
    pub(crate) shutdown_timeout: Duration,
    pub(crate) will_return_time: Duration,
    pub(crate) sys_interval: Option<Duration>,
    pub(crate) share_policies: SharePolicies,
    /// How often the `$SYS` topics were made.
    pub(crate) sys_made: Arc<AtomicU64>,
    pub(crate) store: StoreOptions,
    pub(crate) authorizer: MakeAuthorizer,
    /// What each log keeps.
    pub(crate) retention_bytes: Option<u64>,
    /// Only the test has the store; the broker is started without one.
    pub(crate) is_degraded: bool,
}

impl Default for Setup {
    /// One log, `all`, that takes everything and commits at once.
    fn default() -> Self {
        Self {
            logs: vec![TestLog::new("all", &["#"])],
            default_log: TestLog::new("default", &[]),
            memory: &[],
            unmapped: Unmapped::Default,
            limits: Limits::default(),
            listeners: vec![ListenerOptions::new("127.0.0.1:0".parse().unwrap())],
            shutdown_timeout: PATIENCE,
            will_return_time: NEVER,
            sys_interval: None,
            share_policies: SharePolicies::default(),
            sys_made: Arc::default(),
            store: StoreOptions {
                segment_bytes: 1 << 20,
                free_space_reserve_bytes: 1 << 20,
                ..StoreOptions::default()
            },
            authorizer: Box::new(|| Rc::new(AllowAll)),
            retention_bytes: None,
            is_degraded: false,
        }
    }
}

impl Setup {
    pub(crate) fn with_logs(logs: &[TestLog]) -> Self {
        Self {
            logs: logs.to_vec(),
            ..Self::default()
        }
    }

    pub(crate) fn with_limits(limits: Limits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }

    /// Everything goes into one log that commits when the test says so.
    pub(crate) fn held() -> Self {
        Self::with_logs(&[TestLog::held("all", &["#"])])
    }

    fn log_options(&self) -> Vec<LogOptions> {
        let logs = self.logs.iter().chain([&self.default_log]);
        logs.map(|log| {
            let options = LogOptions::new(log.name, log.partitions);
            let options = LogOptions {
                commit_within: log.commit_within,
                retention_bytes: log.retention_bytes.unwrap_or(options.retention_bytes),
                ..options
            };
            match log.pin {
                None => LogOptions {
                    retention_bytes: self.retention_bytes.unwrap_or(options.retention_bytes),
                    ..options
                },
                Some(pin) => LogOptions {
                    retention_bytes: 2 << 20,
                    on_full: OnFull::Reject {
                        pins: vec![pin.to_owned()],
                    },
                    ..options
                },
            }
        })
        .collect()
    }

    fn broker_options(&self, store: &Store) -> BrokerOptions {
        let stored = |log: &TestLog| StoredLog {
            log: store.log(log.name).unwrap().id,
            key: log.key.clone(),
            durability: log.durability,
        };
        let filters = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let memory = LogRoute {
            filters: filters(self.memory),
            target: LogTarget::Memory,
        };
        let logs = self.logs.iter().map(|log| LogRoute {
            filters: filters(log.filters),
            target: LogTarget::Stored(stored(log)),
        });
        let routing = LogRouting {
            routes: [memory].into_iter().chain(logs).collect(),
            default_log: stored(&self.default_log),
            unmapped: self.unmapped,
        };
        let mut options = BrokerOptions::new(self.listeners.clone(), routing);
        options.limits = self.limits.clone();
        options.shutdown_timeout = self.shutdown_timeout;
        options.will_return_time = self.will_return_time;
        options.sys_interval = self.sys_interval;
        options.share_policies = self.share_policies.clone();
        options
    }
}

/// A broker on a thread of its own.
pub(crate) struct TestBroker {
    pub(crate) store: Store,
    pub(crate) probe: Probe,
    pub(crate) addresses: Vec<SocketAddr>,
    shutdown: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<(), RunError>>>,
    threads: Option<StoreThreads>,
    folder: Option<TempDir>,
}

impl TestBroker {
    pub(crate) fn start(setup: Setup) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        let mut broker = Self::start_at(&path, setup);
        broker.folder = Some(folder);
        broker
    }

    /// Starts on a folder that may have been used before, and outlives the broker.
    pub(crate) fn start_at(path: &Path, setup: Setup) -> Self {
        let logs = setup.log_options();
        let (store, threads) = Store::open(path, setup.store.clone(), &logs).unwrap();
        let options = setup.broker_options(&store);
        let (started, starting) = mpsc::sync_channel(1);
        let (shutdown, shut) = oneshot::channel::<()>();
        let of_broker = (!setup.is_degraded).then(|| store.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            tokio::task::LocalSet::new().block_on(&runtime, async move {
                let broker = Broker::start(options, of_broker, (setup.authorizer)()).unwrap();
                broker.tell_with_sys_topics(move || {
                    let made = setup.sys_made.fetch_add(1, Ordering::Relaxed);
                    vec![("made".to_owned(), made.to_string())]
                });
                started.send((broker.addresses(), broker.probe())).unwrap();
                broker.run(async { drop(shut.await) }).await
            })
        });
        let (addresses, probe) = starting.recv_timeout(PATIENCE).unwrap();
        Self {
            store,
            probe,
            addresses,
            shutdown: Some(shutdown),
            thread: Some(thread),
            threads: Some(threads),
            folder: None,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// Tells the broker to shut down, without waiting for it.
    pub(crate) fn begin_shutdown(&mut self) {
        self.shutdown.take().unwrap().send(()).unwrap();
    }

    /// Closes the store under the broker.
    pub(crate) fn close_store(&mut self) {
        self.threads.take().unwrap().close();
    }

    /// What `run` came back with.
    pub(crate) fn result(&mut self) -> Result<(), RunError> {
        let thread = self.thread.take().unwrap();
        wait_for("the end of the broker", || thread.is_finished());
        thread.join().unwrap()
    }

    /// Shuts broker and store down.
    pub(crate) fn stop(mut self) {
        self.begin_shutdown();
        self.result().unwrap();
    }

    /// Has what was appended so far committed.
    pub(crate) fn commit(&self) {
        self.try_commit().unwrap();
    }

    pub(crate) fn try_commit(&self) -> Result<(), AppendError> {
        let key = JournalKey::new(JournalKind::BridgeRoute, b"test");
        let commit = self.store.put_journal_entry(key, None, Duration::ZERO)?;
        self.store.wait_durable(commit)
    }

    /// Topic names and payloads of a log, partition by partition.
    pub(crate) fn records(&self, log: &str) -> Vec<(String, String)> {
        let messages = self.messages(log).into_iter();
        messages
            .map(|message| (text(&message.topic), text(&message.payload)))
            .collect()
    }

    /// Everything that is durable in a log, partition by partition.
    pub(crate) fn messages(&self, log: &str) -> Vec<storage::Message> {
        let mut messages = Vec::new();
        for partition in self.store.log(log).unwrap().partitions() {
            let mut reader = self.store.partition_reader(partition, Offset(0));
            while let LogRead::Batches(batches) = reader.read(1 << 20).unwrap() {
                for record in batches.iter().flat_map(|stored| stored.batch.records()) {
                    messages.push(storage::Message::from_record(&record.unwrap()).unwrap());
                }
            }
        }
        messages
    }

    /// A client that is past CONNACK.
    pub(crate) fn client(&self, version: ProtocolVersion, client_id: &str) -> TestClient {
        TestClient::connect(self.address(), connect(version, client_id))
    }
}

impl Drop for TestBroker {
    fn drop(&mut self) {
        if let Some(shutdown) = self.shutdown.take() {
            // What a test has not committed is not to be waited for.
            let _ = self.try_commit();
            let _ = shutdown.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        if let Some(threads) = self.threads.take() {
            threads.close();
        }
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

pub(crate) fn string(text: &str) -> Utf8String {
    Utf8String::try_from(text).unwrap()
}

pub(crate) fn id(number: u16) -> PacketId {
    PacketId::new(number).unwrap()
}

/// A CONNECT with a clean start and nothing else.
pub(crate) fn connect(version: ProtocolVersion, client_id: &str) -> Connect {
    Connect::new(version, string(client_id))
}

/// A CONNECT of a client whose session stays when it goes.
pub(crate) fn staying(version: ProtocolVersion, client_id: &str) -> Connect {
    let mut connect = Connect {
        clean_start: false,
        ..connect(version, client_id)
    };
    if version == ProtocolVersion::V5 {
        connect.properties.session_expiry_interval = Some(3_600);
    }
    connect
}

/// The client of a session that stays says good-bye; waits until the broker knows.
pub(crate) fn go(broker: &TestBroker, mut client: TestClient) {
    let before = broker.probe.status().sessions_offline;
    client.send(Packet::Disconnect(Disconnect::default()));
    while client.try_receive().is_some() {}
    wait_for("the end of the connection", || {
        broker.probe.status().sessions_offline > before
    });
}

/// A CONNECT with a will.
pub(crate) fn connect_with_will(
    version: ProtocolVersion,
    client_id: &str,
    topic: &str,
    payload: &str,
) -> Connect {
    Connect {
        will: Some(Will {
            delay_interval: None,
            message: mqtt::Message {
                topic: topic.parse().unwrap(),
                payload: Bytes::copy_from_slice(payload.as_bytes()),
                qos: QoS::AtLeastOnce,
                retain: false,
                properties: MessageProperties::default(),
            },
        }),
        ..connect(version, client_id)
    }
}

/// A PUBLISH of QoS 1 with this packet identifier, of QoS 0 for 0.
pub(crate) fn publish(packet_id: u16, topic: &str, payload: impl AsRef<[u8]>) -> Publish {
    Publish {
        delivery: match PacketId::new(packet_id) {
            None => Delivery::AtMostOnce,
            Some(packet_id) => Delivery::AtLeastOnce {
                packet_id,
                dup: false,
            },
        },
        retain: false,
        topic: Some(topic.parse().unwrap()),
        topic_alias: None,
        subscription_identifiers: Vec::new(),
        properties: MessageProperties::default(),
        payload: Bytes::copy_from_slice(payload.as_ref()),
    }
}

pub(crate) fn retained(publish: Publish) -> Publish {
    Publish {
        retain: true,
        ..publish
    }
}

pub(crate) fn qos1() -> SubscriptionOptions {
    SubscriptionOptions {
        qos: QoS::AtLeastOnce,
        ..SubscriptionOptions::default()
    }
}

/// Messages under "live" are not stored, but must not overtake a retained one of their client,
/// which waits until the test commits. There is room for a few that do wait.
pub(crate) fn with_little_room() -> Setup {
    Setup {
        memory: &["live"],
        default_log: TestLog::held("default", &[]),
        limits: Limits {
            commit_queue_bytes_max: 1_000,
            ..Limits::default()
        },
        ..Setup::held()
    }
}

/// What a client of MQTT 3.1.1 sends in one go: a retained message, eleven that must not overtake
/// it, and good-bye.
pub(crate) fn more_than_there_is_room_for() -> BytesMut {
    let first = retained(publish(0, "live", "0".repeat(100)));
    let others = (1..12).map(|number| publish(0, "live", format!("{number:0100}")));
    let publishes = [first].into_iter().chain(others).map(Packet::Publish);
    let good_bye = Packet::Disconnect(Disconnect::default());
    let mut bytes = BytesMut::new();
    for packet in publishes.chain([good_bye]) {
        packet.encode(ProtocolVersion::V311, &mut bytes).unwrap();
    }
    bytes
}

/// A client that sends and receives packets one by one.
pub(crate) struct TestClient {
    pub(crate) stream: TcpStream,
    version: ProtocolVersion,
    received: BytesMut,
    next_id: u16,
}

impl TestClient {
    /// A connection without CONNECT.
    pub(crate) fn open(address: SocketAddr, version: ProtocolVersion) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            version,
            received: BytesMut::new(),
            next_id: 1_000,
        }
    }

    /// Connects and expects to be accepted.
    pub(crate) fn connect(address: SocketAddr, connect: Connect) -> Self {
        let (client, connack) = Self::try_connect(address, connect);
        assert_eq!(connack.reason_code, ReasonCode::Success);
        client
    }

    pub(crate) fn try_connect(address: SocketAddr, connect: Connect) -> (Self, Connack) {
        let mut client = Self::open(address, connect.version);
        client.send(Packet::Connect(Box::new(connect)));
        match client.receive() {
            Packet::Connack(connack) => (client, *connack),
            other => panic!("{other:?} in the place of CONNACK"),
        }
    }

    pub(crate) fn send(&mut self, packet: Packet) {
        let mut bytes = BytesMut::new();
        packet.encode(self.version, &mut bytes).unwrap();
        self.send_bytes(&bytes);
    }

    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub(crate) fn publish(&mut self, publish: Publish) {
        self.send(Packet::Publish(publish));
    }

    /// The next packet.
    pub(crate) fn receive(&mut self) -> Packet {
        self.try_receive().expect("the connection was closed")
    }

    /// The next packet, `None` when the broker closed the connection.
    pub(crate) fn try_receive(&mut self) -> Option<Packet> {
        let limits = CodecLimits {
            packet_bytes_max: 100_000_000,
            ..CodecLimits::default()
        };
        loop {
            let decoded = decode(&mut self.received, Some(self.version), &limits).unwrap();
            if decoded.is_some() {
                return decoded;
            }
            let mut chunk = [0; 65_536];
            match self.stream.read(&mut chunk) {
                Ok(0) => return None,
                Ok(len) => self.received.extend_from_slice(&chunk[..len]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("waited in vain for a packet: {error}"),
            }
        }
    }

    /// The next packet, which is a PUBLISH; one of QoS 1 or 2 is acknowledged to the end.
    pub(crate) fn receive_publish(&mut self) -> Publish {
        let publish = match self.receive() {
            Packet::Publish(publish) => publish,
            other => panic!("{other:?} in the place of PUBLISH"),
        };
        let Some(packet_id) = publish.delivery.packet_id() else {
            return publish;
        };
        let acknowledgement = Acknowledgement::new(packet_id, ReasonCode::Success);
        if publish.delivery.qos() == QoS::AtLeastOnce {
            self.send(Packet::Puback(acknowledgement));
            return publish;
        }
        self.send(Packet::Pubrec(acknowledgement.clone()));
        let mut before = Vec::new();
        loop {
            match self.receive() {
                Packet::Pubrel(pubrel) if pubrel.packet_id == packet_id => break,
                other => before.push(other),
            }
        }
        self.put_back(before);
        self.send(Packet::Pubcomp(acknowledgement));
        publish
    }

    /// These packets are received again.
    pub(crate) fn put_back(&mut self, packets: Vec<Packet>) {
        let mut bytes = BytesMut::new();
        for packet in packets {
            packet.encode(self.version, &mut bytes).unwrap();
        }
        bytes.extend_from_slice(&self.received);
        self.received = bytes;
    }

    /// The payloads of the next messages.
    pub(crate) fn receive_payloads(&mut self, count: usize) -> Vec<String> {
        let payloads = std::iter::repeat_with(|| text(&self.receive_publish().payload));
        payloads.take(count).collect()
    }

    /// The next packet, which is a PUBACK.
    pub(crate) fn receive_puback(&mut self) -> (u16, ReasonCode) {
        match self.receive() {
            Packet::Puback(puback) => (puback.packet_id.get(), puback.reason_code),
            other => panic!("{other:?} in the place of PUBACK"),
        }
    }

    /// The reason code of the DISCONNECT that comes next, `None` for a mere close.
    pub(crate) fn receive_end(&mut self) -> Option<ReasonCode> {
        let code = match self.try_receive() {
            None => return None,
            Some(Packet::Disconnect(disconnect)) => disconnect.reason_code,
            Some(other) => panic!("{other:?} in the place of DISCONNECT"),
        };
        assert_eq!(self.try_receive(), None, "something follows DISCONNECT");
        Some(code)
    }

    /// Sends PINGREQ; what came before its answer. By then everything that was sent before was
    /// worked off, and what was to follow at once has come.
    pub(crate) fn ping(&mut self) -> Vec<Packet> {
        self.send(Packet::Pingreq);
        let mut before = Vec::new();
        loop {
            match self.receive() {
                Packet::Pingresp => return before,
                packet => before.push(packet),
            }
        }
    }

    /// Expects that nothing has come, nor comes while the broker works off what was sent.
    pub(crate) fn expect_nothing(&mut self) {
        for _ in 0..3 {
            assert_eq!(self.ping(), []);
        }
    }

    /// Subscribes to one filter; the reason code of its SUBACK. Nothing else may come before.
    pub(crate) fn subscribe_with(
        &mut self,
        filter: &str,
        options: SubscriptionOptions,
        identifier: Option<u32>,
    ) -> ReasonCode {
        self.next_id += 1;
        self.send(Packet::Subscribe(Subscribe {
            packet_id: id(self.next_id),
            subscriptions: vec![Subscription {
                filter: filter.parse().unwrap(),
                options,
            }],
            subscription_identifier: identifier.map(id_of_subscription),
            user_properties: Vec::new(),
        }));
        match self.receive() {
            Packet::Suback(Suback { reason_codes, .. }) => reason_codes[0],
            other => panic!("{other:?} in the place of SUBACK"),
        }
    }

    /// Subscribes with QoS 1.
    pub(crate) fn subscribe(&mut self, filter: &str) {
        let code = self.subscribe_with(filter, qos1(), None);
        assert_eq!(code, ReasonCode::GrantedQos1);
    }

    /// Publishes with QoS 1 and waits for the acknowledgement.
    pub(crate) fn publish_acknowledged(&mut self, topic: &str, payload: impl AsRef<[u8]>) {
        self.publish(publish(1, topic, payload));
        assert_eq!(self.receive_puback(), (1, ReasonCode::Success));
    }

    /// Publishes a retained message with QoS 1 and waits for the acknowledgement.
    pub(crate) fn retain_acknowledged(&mut self, topic: &str, payload: impl AsRef<[u8]>) {
        self.publish(retained(publish(1, topic, payload)));
        assert_eq!(self.receive_puback(), (1, ReasonCode::Success));
    }
}

fn id_of_subscription(number: u32) -> mqtt::SubscriptionIdentifier {
    mqtt::SubscriptionIdentifier::new(number).unwrap()
}
