//! `[bridge]` and `gateway_id`, with the model of a Kafka broker, or with a listener that only hears
//! what it is asked.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use kafka::model::ModelHandle;
use tests::deadline::{PATIENCE, wait_for};
use tests::gateway::{Gateway, LOOPBACK};
use tests::mqtt::{Publish, SUCCESS};

use crate::model::model;

/// Ends connections after their first request, or keeps them without an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    Close,
    Hold,
}

/// Stands where a Kafka broker should; never answers.
struct Ear {
    address: SocketAddr,
    /// The beginning of every connection.
    heard: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Ear {
    fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hears = Arc::clone(&heard);
        // Ends with the test process.
        thread::spawn(move || {
            let mut held = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut bytes = vec![0; 1024];
                let len = stream.read(&mut bytes).unwrap_or(0);
                bytes.truncate(len);
                let mut heard = hears.lock().unwrap_or_else(PoisonError::into_inner);
                heard.push(bytes);
                if manner == Manner::Hold {
                    held.push(stream);
                }
            }
        });
        Self { address, heard }
    }

    fn heard(&self) -> Vec<Vec<u8>> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.clone()
    }

    fn wait_heard(&self, count: usize) -> Vec<Vec<u8>> {
        wait_for("connections of the bridge", PATIENCE, || {
            Ok(Some(self.heard()).filter(|heard| heard.len() >= count))
        })
        .unwrap()
    }
}

fn bridged(gateway_id: &str, bootstrap: impl ToString, keys: &str, routes: &str) -> String {
    let bootstrap = bootstrap.to_string();
    format!(
        "gateway_id = \"{gateway_id}\"\n{LOOPBACK}\n\
         [[log]]\nname = \"readings\"\nfilters = [\"#\"]\npartitions = 1\n\
         [bridge]\nbootstrap = [\"{bootstrap}\"]\n{keys}\n{routes}"
    )
}

fn route(name: &str, topic: &str, start: &str) -> String {
    format!(
        "[[bridge.route]]\nname = \"{name}\"\nlog = \"readings\"\ntopic = \"{topic}\"\n\
         start = \"{start}\"\n"
    )
}

fn publish(gateway: &Gateway, count: usize) {
    let mut client = gateway.client("c").unwrap();
    for _ in 0..count {
        let publish = Publish::new("t", vec![7; 1000]);
        assert_eq!(client.publish_acknowledged(publish).unwrap(), SUCCESS);
    }
}

fn wait_records(model: &ModelHandle, topic: &str, count: usize) {
    wait_for(&format!("{count} records in {topic}"), PATIENCE, || {
        Ok((model.records(topic, 0).len() >= count).then_some(()))
    })
    .unwrap();
}

#[test]
pub(crate) fn cluster_is_asked_where_bootstrap_says() {
    let [first, second] = [Ear::start(Manner::Close), Ear::start(Manner::Close)];
    let route = route("r", "t", "earliest");
    let named = bridged("gw-a", first.address, "client_id = \"line-7\"", &route);
    let unnamed = bridged("gw-b", second.address, "", &route);
    let _gateways = [named, unnamed].map(|text| Gateway::start(&text).unwrap());
    for (ear, client_id) in [(&first, "line-7"), (&second, "gw-b")] {
        let heard = ear.wait_heard(1);
        let is_there = heard[0]
            .windows(client_id.len())
            .any(|w| w == client_id.as_bytes());
        assert!(
            is_there,
            "{client_id} in {:?}",
            heard[0].escape_ascii().to_string()
        );
    }
}

#[test]
pub(crate) fn silent_cluster_is_left_after_request_timeout() {
    let [soon, late] = [Ear::start(Manner::Hold), Ear::start(Manner::Hold)];
    let start = |ear: &Ear, timeout: &str| {
        let keys = format!("request_timeout = \"{timeout}\"\nbackoff_max = \"100ms\"");
        let route = route("r", "t", "earliest");
        Gateway::start(&bridged("gw", ear.address, &keys, &route)).unwrap()
    };
    let _late = start(&late, "5m");
    late.wait_heard(1);
    let _soon = start(&soon, "100ms");
    soon.wait_heard(4);
    assert_eq!(late.heard().len(), 1, "still waits for its first answer");
}

#[test]
pub(crate) fn attempts_are_no_further_apart_than_backoff_max() {
    let [often, seldom] = [Ear::start(Manner::Close), Ear::start(Manner::Close)];
    let start = |ear: &Ear, backoff: &str| {
        let keys = format!("backoff_max = \"{backoff}\"");
        let route = route("r", "t", "earliest");
        Gateway::start(&bridged("gw", ear.address, &keys, &route)).unwrap()
    };
    let _seldom = start(&seldom, "10m");
    let _often = start(&often, "100ms");
    // Doubling pauses have grown to minutes before there are twenty attempts.
    often.wait_heard(60);
    let attempts = seldom.heard().len();
    assert!(attempts < 30, "{attempts} attempts with growing pauses");
}

#[test]
pub(crate) fn routes_bring_what_their_keys_say() {
    let model = model(&["all", "fresh"]);
    let mut gateway = Gateway::start(&format!(
        "{LOOPBACK}\n[[log]]\nname = \"readings\"\nfilters = [\"#\"]\npartitions = 1\n"
    ))
    .unwrap();
    publish(&gateway, 5);
    let routes = route("old-ones-too", "all", "earliest") + &route("new-ones", "fresh", "now");
    let configuration = bridged("gw", model.address(), "", &routes);
    gateway.restart(&configuration).unwrap();
    wait_records(&model, "all", 5);
    // The route that begins now has begun when its partition flows.
    let streaming = "tidegate_bridge_streaming_partitions";
    gateway
        .wait_metric(streaming, &[("route", "new-ones")], |count| count == 1.0)
        .unwrap();
    publish(&gateway, 2);
    wait_records(&model, "all", 7);
    wait_records(&model, "fresh", 2);
    assert_eq!(model.records("fresh", 0).len(), 2);
    let status = gateway.json("/status").unwrap();
    let routes = &status["bridge"]["routes"];
    for (name, topic) in [("old-ones-too", "all"), ("new-ones", "fresh")] {
        assert_eq!(routes[name]["topic"], topic, "{routes}");
        assert_eq!(routes[name]["log"], "readings", "{routes}");
    }
}

#[test]
pub(crate) fn records_bear_the_gateway_id() {
    for gateway_id in ["plant7-gw12", "other"] {
        let model = model(&["t"]);
        let route = route("r", "t", "earliest");
        let gateway = Gateway::start(&bridged(gateway_id, model.address(), "", &route)).unwrap();
        publish(&gateway, 1);
        wait_records(&model, "t", 1);
        let records = model.records("t", 0);
        let headers: Vec<_> = records[0].headers.iter().collect();
        let begins = format!("{gateway_id}/");
        let is_there = |text: String| text.contains("tg-id") && text.contains(&begins);
        assert!(is_there(format!("{headers:?}")), "{headers:?}");
        assert_eq!(gateway.json("/status").unwrap()["gateway_id"], gateway_id);
    }
}

#[test]
pub(crate) fn batches_are_no_larger_than_batch_bytes_max() {
    let batches = |bytes: &str| {
        let model = model(&["t"]);
        let text = |routes: &str| {
            let keys = format!("batch_bytes_max = \"{bytes}\"");
            bridged("gw", model.address(), &keys, routes)
        };
        model.stall();
        let gateway = Gateway::start(&text(&route("r", "t", "earliest"))).unwrap();
        publish(&gateway, 30);
        model.resume();
        wait_records(&model, "t", 30);
        let batches = model.with_partition("t", 0, |partition| partition.batches().count());
        batches.unwrap()
    };
    let (small, large) = (batches("4KiB"), batches("512KiB"));
    assert!(small >= 8, "30 kB in {small} batches of at most 4 KiB");
    assert!(
        large < small / 2,
        "{large} batches of at most 512 KiB, {small} of 4 KiB"
    );
}

#[test]
pub(crate) fn position_is_written_within_checkpoint_interval() {
    const ROUNDS: usize = 4;
    let commits = |gateway: &Gateway| gateway.metric("tidegate_log_commits_total", &[]).unwrap();
    // Publishes one record after the other; commits since the first, and the gateway.
    let run = |interval: &str| {
        let model = model(&["t"]);
        let keys = format!("checkpoint_interval = \"{interval}\"");
        let route = route("r", "t", "earliest");
        let gateway = Gateway::start(&bridged("gw", model.address(), &keys, &route)).unwrap();
        let mut before = 0.0;
        for round in 0..=ROUNDS {
            publish(&gateway, 1);
            let name = "tidegate_bridge_replicated_records_total";
            gateway
                .wait_metric(name, &[], |count| count == (round + 1) as f64)
                .unwrap();
            if round == 0 {
                before = commits(&gateway);
            }
        }
        (model, gateway, before)
    };
    // Where the interval is long, a position only rides on the commits of records. It has had more
    // time for one of its own when the other has made one.
    let (_late_model, late, before_late) = run("1h");
    let (_soon_model, soon, before) = run("100ms");
    wait_for("a commit for the position", PATIENCE, || {
        Ok((commits(&soon) - before > ROUNDS as f64).then_some(()))
    })
    .unwrap();
    assert_eq!(commits(&late) - before_late, ROUNDS as f64);
}
