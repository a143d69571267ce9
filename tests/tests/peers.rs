//! The peers of the black-box suites work as the suites need them: each is started and used once.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tests::deadline::{PATIENCE, retry};
use tests::kafka::{self, Kafka};
use tests::mosquitto::{self, Mosquitto};
use tests::proxy::Proxy;
use tests::{ports, python, skip};

/// Everything that the suites about Kafka need.
fn kafka_and_python() -> Result<(), String> {
    kafka::available()?;
    python::available()?;
    Ok(())
}

fn produce(kafka: SocketAddr, topic: &str, count: u32) -> anyhow::Result<Vec<Value>> {
    let arguments = [&kafka.to_string(), topic, "--count", &count.to_string()];
    python::run("kafka_produce.py", &arguments, PATIENCE)
}

fn consume(kafka: SocketAddr, topic: &str) -> anyhow::Result<Vec<Value>> {
    python::run("kafka_consume.py", &[&kafka.to_string(), topic], PATIENCE)
}

#[test]
fn records_are_read_back_with_key_and_headers_from_a_shared_kafka() {
    let Some(()) = skip::unless(kafka_and_python()) else {
        return;
    };
    let kafka = Kafka::shared().unwrap();
    kafka
        .create_topic("read-back", 2, &[("retention.ms", "-1")])
        .unwrap();
    assert_eq!(
        produce(kafka.bootstrap(), "read-back", 100).unwrap().len(),
        100
    );
    assert_eq!(
        kafka.end_offsets("read-back").unwrap().iter().sum::<i64>(),
        100
    );
    let records = consume(kafka.bootstrap(), "read-back").unwrap();
    assert_eq!(records.len(), 100);
    // "key-7", "value-7" and "7" in base64.
    let seventh = records
        .iter()
        .find(|record| record["key"] == "a2V5LTc=")
        .unwrap();
    assert_eq!(seventh["value"], "dmFsdWUtNw==");
    assert_eq!(seventh["headers"], serde_json::json!([["number", "Nw=="]]));
}

#[test]
fn topic_is_refused_with_kafkas_own_words_when_it_exists() {
    let Some(_) = skip::unless(kafka::available()) else {
        return;
    };
    let kafka = Kafka::shared().unwrap();
    kafka.create_topic("twice", 1, &[]).unwrap();
    let error = kafka.create_topic("twice", 1, &[]).unwrap_err().to_string();
    assert!(
        error.contains("Kafka error 36") && error.contains("already exists"),
        "{error}"
    );
}

#[test]
fn records_survive_when_kafka_is_killed_and_restarted() {
    let Some(()) = skip::unless(kafka_and_python()) else {
        return;
    };
    let mut kafka = Kafka::start(kafka::Options::default()).unwrap();
    kafka.create_topic("survivor", 1, &[]).unwrap();
    produce(kafka.bootstrap(), "survivor", 10).unwrap();
    kafka.kill().unwrap();
    assert!(kafka.end_offsets("survivor").is_err());
    kafka.restart().unwrap();
    produce(kafka.bootstrap(), "survivor", 5).unwrap();
    assert_eq!(consume(kafka.bootstrap(), "survivor").unwrap().len(), 15);
    kafka.pause().unwrap();
    kafka.resume().unwrap();
    assert_eq!(kafka.end_offsets("survivor").unwrap(), [15]);
}

#[test]
fn clients_stay_on_the_proxy_when_kafka_advertises_it() {
    let Some(()) = skip::unless(kafka_and_python()) else {
        return;
    };
    let port = ports::free().unwrap();
    let proxy = Proxy::start(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).unwrap();
    let kafka = Kafka::start(kafka::Options {
        port: Some(port),
        advertised_port: Some(proxy.address().port()),
        ..kafka::Options::default()
    })
    .unwrap();
    kafka.create_topic("past-the-proxy", 1, &[]).unwrap();
    let before = proxy.to_server_bytes();
    produce(proxy.address(), "past-the-proxy", 1000).unwrap();
    // The records themselves went this way, not only the first question for the cluster.
    assert!(proxy.to_server_bytes() - before > 10_000);
    assert_eq!(kafka.end_offsets("past-the-proxy").unwrap(), [1000]);
}

#[test]
fn paho_and_mosquitto_clients_talk_to_a_mosquitto_broker_in_both_protocol_versions() {
    let available = mosquitto::available().and_then(|_| mosquitto::clients());
    let Some((_, mosquitto_sub)) = skip::unless(available) else {
        return;
    };
    let Some(_) = skip::unless(python::available()) else {
        return;
    };
    let broker = Mosquitto::start("").unwrap();
    let port = broker.address().port().to_string();
    for protocol in ["4", "5"] {
        let topic = format!("sensors/{protocol}");
        let arguments = [
            &port,
            "--topic",
            &topic,
            "--protocol",
            protocol,
            "--count",
            "3",
            "--retain",
        ];
        let acknowledged = python::run("mqtt_publish.py", &arguments, PATIENCE).unwrap();
        assert_eq!(acknowledged.len(), 3);
        let output = Command::new(&mosquitto_sub)
            .args([
                "-h",
                "127.0.0.1",
                "-p",
                &port,
                "-t",
                &topic,
                "-C",
                "1",
                "-W",
                "60",
            ])
            .output()
            .unwrap();
        // The last one is retained.
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "2");
    }
}

#[test]
fn script_that_fails_shows_what_it_said() {
    let Some(_) = skip::unless(python::available()) else {
        return;
    };
    // Nobody listens there.
    let port = ports::free().unwrap().to_string();
    let error = python::run("mqtt_publish.py", &[&port, "--topic", "t"], PATIENCE).unwrap_err();
    assert!(
        format!("{error:#}").contains("ConnectionRefusedError"),
        "{error:#}"
    );
}

#[test]
fn processes_of_a_test_are_gone_when_it_drops_them() {
    let Some(_) = skip::unless(mosquitto::available()) else {
        return;
    };
    let broker = Mosquitto::start("").unwrap();
    let (address, folder) = (broker.address(), broker.data().to_owned());
    drop(broker);
    retry(
        "a closed port",
        Duration::from_secs(60),
        || match std::net::TcpStream::connect(address) {
            Ok(_) => Err("somebody listens"),
            Err(_) => Ok(()),
        },
    )
    .unwrap();
    assert!(!folder.exists());
}
