//! A gateway with its store and bridge, and what is asked of the model and of the status.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::{Duration, Instant};

use bridge::{Bridge, BridgeOptions, PartitionStatus, RouteOptions, RouteStatus, Start};
use kafka::model::{ModelHandle, ModelOptions, UnknownTopic};
use storage::{
    AppendError, CommitNumber, Incarnation, LogOptions, Message, Store, StoreOptions, StoreThreads,
};

pub(crate) const TOPIC: &str = "plant.telemetry";

pub(crate) struct Gateway {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) options: StoreOptions,
    pub(crate) logs: Vec<LogOptions>,
    pub(crate) store: Option<(Store, StoreThreads)>,
    pub(crate) appended: u64,
}

impl Gateway {
    pub(crate) fn new(logs: &[LogOptions]) -> Self {
        let options = StoreOptions {
            segment_bytes: 1 << 20,
            ..StoreOptions::default()
        };
        let folder = tempfile::tempdir().unwrap();
        let mut gateway = Self {
            folder,
            options,
            logs: logs.to_vec(),
            store: None,
            appended: 0,
        };
        gateway.open();
        gateway
    }

    pub(crate) fn open(&mut self) {
        let opened = Store::open(self.folder.path(), self.options.clone(), &self.logs);
        self.store = Some(opened.unwrap());
    }

    pub(crate) fn close(&mut self) {
        let (store, threads) = self.store.take().unwrap();
        threads.close();
        drop(store);
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store.as_ref().unwrap().0
    }

    pub(crate) fn incarnation(&self) -> Incarnation {
        self.store().incarnation()
    }

    /// Appends records of five devices; the payload is the number of the record.
    pub(crate) fn append(&mut self, count: u64, size: usize) {
        let mut last = None;
        for _ in 0..count {
            last = Some(self.try_append(size).unwrap());
        }
        self.store().wait_durable(last.unwrap()).unwrap();
    }

    /// Appends the record of the next number, if it is taken.
    pub(crate) fn try_append(&mut self, size: usize) -> Result<CommitNumber, AppendError> {
        let number = self.appended;
        let device = format!("device-{}", number % 5);
        let message = Message {
            topic: format!("sensors/{}", number % 7).into(),
            client_id: device.clone().into(),
            payload: format!("{number:<size$}").into(),
            qos: 1,
            ..Message::default()
        };
        let log = self.store().logs()[0].id;
        let appended = self.store().append(log, device.as_bytes(), &message)?;
        self.appended += 1;
        Ok(appended.commit)
    }

    pub(crate) fn bridge(&self, model: &ModelHandle) -> Bridge {
        self.bridge_with(model, |_| {})
    }

    pub(crate) fn bridge_with(
        &self,
        model: &ModelHandle,
        change: impl FnOnce(&mut BridgeOptions),
    ) -> Bridge {
        let route = RouteOptions {
            name: "telemetry".into(),
            log: self.logs[0].name.clone(),
            topic: TOPIC.into(),
            start: Start::Earliest,
        };
        let mut options = BridgeOptions {
            gateway_id: "gw".into(),
            bootstrap: vec![model.address()],
            client_id: "gw".into(),
            request_timeout: Duration::from_millis(500),
            backoff_max: Duration::from_millis(300),
            checkpoint_within: Duration::from_secs(60),
            batch_bytes_max: 16 * 1024,
            in_flight_bytes_max: 128 * 1024,
            routes: vec![route],
        };
        change(&mut options);
        Bridge::start(options, self.store()).unwrap()
    }
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    // The model serves from its own threads; the runtime must stay alive with it.
    tokio::runtime::Handle::current().block_on(future)
}

/// Runs a test body beside a runtime that the model lives in.
pub(crate) fn with_model(options: ModelOptions, body: impl FnOnce(&ModelHandle)) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let model = runtime.block_on(ModelHandle::start(options)).unwrap();
    let _inside = runtime.enter();
    body(&model);
}

pub(crate) fn topic_of(partitions: i32) -> ModelOptions {
    ModelOptions {
        unknown_topic: UnknownTopic::Create {
            partition_count: partitions,
        },
        ..ModelOptions::default()
    }
}

/// The route, as soon as it is known.
pub(crate) fn route(bridge: &Bridge) -> RouteStatus {
    bridge
        .probe()
        .routes()
        .remove("telemetry")
        .unwrap_or_default()
}

pub(crate) fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < end, "waited a minute for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What the status says, of all partitions together.
pub(crate) fn told(bridge: &Bridge, field: fn(&PartitionStatus) -> u64) -> u64 {
    route(bridge).partitions.values().map(field).sum()
}

pub(crate) fn count(model: &ModelHandle) -> usize {
    (0..model.partition_count(TOPIC))
        .map(|p| model.records(TOPIC, i32::try_from(p).unwrap()).len())
        .sum()
}

/// Every record once, in order by device, and with the name that no other has.
pub(crate) fn check(model: &ModelHandle, expected: impl IntoIterator<Item = u64>) {
    let mut by_device: BTreeMap<Vec<u8>, Vec<u64>> = BTreeMap::new();
    let mut ids = BTreeMap::new();
    for partition in 0..model.partition_count(TOPIC) {
        for record in model.records(TOPIC, i32::try_from(partition).unwrap()) {
            let payload = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
            let number: u64 = payload.trim().parse().unwrap();
            by_device
                .entry(record.key.unwrap().to_vec())
                .or_default()
                .push(number);
            let id = record.headers.first(b"tg-id").flatten().unwrap();
            assert_eq!(
                ids.insert(id.clone(), number),
                None,
                "{id:?} is there twice"
            );
        }
    }
    let mut found: Vec<u64> = by_device.values().flatten().copied().collect();
    for (device, numbers) in by_device {
        assert!(
            numbers.is_sorted(),
            "order of {}: {numbers:?}",
            String::from_utf8_lossy(&device)
        );
    }
    found.sort_unstable();
    assert_eq!(found, expected.into_iter().collect::<Vec<_>>());
}
