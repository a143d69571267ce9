//! What holds when nothing is said.

use std::path::Path;
use std::time::Duration;

use firmware_config::{ByteCount, Config, Durability, KeyPart, ListenerKind, RouteStart, Unmapped};

use crate::config;

#[test]
fn empty_file_is_the_same_as_no_file() {
    assert_eq!(config(""), Config::default());
    assert_eq!(
        config("# nothing\n[limits]\n[storage]\n[admin]\n"),
        Config::default()
    );
}

#[test]
fn everything_stays_on_this_machine_without_a_file() {
    let config = Config::default();
    assert_eq!(config.data_dir, Path::new("./tidegate-data"));
    assert_eq!(config.gateway_id, None);
    assert_eq!(config.unmapped, Unmapped::Default);
    assert_eq!(config.bridge, None);
    let [listener] = &config.listeners[..] else {
        panic!("one listener")
    };
    assert_eq!(listener.kind, ListenerKind::Mqtt);
    assert_eq!(listener.bind.to_string(), "127.0.0.1:1883");
    assert!(listener.admits_anonymous());
    assert!(config.admin.enabled);
    assert_eq!(config.admin.bind.to_string(), "127.0.0.1:9080");
}

#[test]
fn one_log_takes_every_topic_without_a_file() {
    let config = Config::default();
    let [log] = &config.logs[..] else {
        panic!("one log")
    };
    assert_eq!(log.name.as_str(), "default");
    assert_eq!(
        log.filters
            .iter()
            .map(|filter| filter.as_str())
            .collect::<Vec<_>>(),
        ["#"]
    );
    assert_eq!(log.partitions, 4);
    assert_eq!(log.key.parts(), [KeyPart::ClientId]);
    assert_eq!(log.retention.bytes, ByteCount::new(1 << 30));
    assert_eq!(log.retention.age, None);
    assert_eq!(log.durability, Durability::Commit);
}

#[test]
fn default_log_is_added_behind_the_logs_of_the_file() {
    let config = config("[[log]]\nname = \"a\"\nfilters = [\"a/#\"]\n");
    let [a, default] = &config.logs[..] else {
        panic!("two logs")
    };
    assert_eq!(a.name.as_str(), "a");
    assert!(default.name.is_default());
    assert!(default.filters.is_empty());
    assert_eq!(default.name.position, None);
}

#[test]
fn default_log_is_the_one_of_the_file_when_there_is_one() {
    let text = r##"
unmapped = "live-only"

[[log]]
name = "default"
retention = { bytes = "32MiB" }

[[log]]
name = "a"
filters = ["a/#"]
"##;
    let config = config(text);
    let names: Vec<_> = config.logs.iter().map(|log| log.name.as_str()).collect();
    assert_eq!(names, ["default", "a"]);
    assert!(config.logs[0].filters.is_empty());
    assert_eq!(config.logs[0].retention.bytes, ByteCount::new(32 << 20));
    assert_eq!(config.unmapped, Unmapped::LiveOnly);
}

#[test]
fn bridge_takes_its_client_id_from_the_gateway() {
    let text = r#"
gateway_id = "plant7"

[bridge]
bootstrap = ["kafka-1.example:9093"]

[[bridge.route]]
name = "all"
log = "default"
topic = "plant7.all"
"#;
    let bridge = config(text).bridge.unwrap();
    assert_eq!(bridge.gateway_id.as_str(), "plant7");
    assert_eq!(bridge.client_id.as_str(), "plant7");
    assert_eq!(bridge.request_timeout, Duration::from_secs(30));
    assert_eq!(bridge.backoff_max, Duration::from_secs(30));
    assert_eq!(bridge.checkpoint_interval, Duration::from_secs(60));
    assert_eq!(bridge.batch_bytes_max, ByteCount::new(512 << 10));
    assert_eq!(bridge.routes[0].start, RouteStart::Earliest);
}

#[test]
fn listener_of_the_file_is_not_open_to_all_unless_it_says_so() {
    let config = config("[[listener]]\nbind = \"[::1]:1883\"\n");
    assert!(!config.listeners[0].allow_anonymous);
    assert!(
        config.listeners[0].admits_anonymous(),
        "loopback admits everybody"
    );
}
