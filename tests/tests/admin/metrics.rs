//! `/metrics`: well formed, as documented, and moving with what happens.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::{Command, Stdio};

use tests::gateway::{Gateway, LOOPBACK};
use tests::mqtt::{Client, Connect, Publish, SUCCESS, Version, Will};
use tests::{http, ports, program, skip};

const DOCUMENT: &str = include_str!("../../../docs/metrics.md");

fn text(gateway: &Gateway) -> String {
    let answer = http::get(gateway.admin().unwrap(), "/metrics").unwrap();
    assert_eq!(answer.status, 200);
    let kind = "text/plain; version=0.0.4";
    let is_kind = |header: &String| {
        let header = header.to_ascii_lowercase();
        header.starts_with("content-type:") && header.contains(kind)
    };
    assert!(answer.headers.iter().any(is_kind), "{:?}", answer.headers);
    answer.body
}

/// A gateway of which every part runs: a bridge too, to a cluster that is not there.
fn with_everything() -> Gateway {
    let port = ports::free().unwrap();
    let gateway = Gateway::start(&format!(
        "gateway_id = \"gw\"\n{LOOPBACK}\n\
         [bridge]\nbootstrap = [\"127.0.0.1:{port}\"]\nbackoff_max = \"100ms\"\n\
         [[bridge.route]]\nname = \"r\"\nlog = \"default\"\ntopic = \"t\"\n"
    ))
    .unwrap();
    super::publish(&gateway, "t", &[b"one"]);
    let labels = [("route", "r")];
    gateway
        .wait_metric("tidegate_bridge_trouble", &labels, |value| value == 1.0)
        .unwrap();
    // Known when the route has looked for the oldest record in its log.
    gateway
        .wait_metric("tidegate_bridge_lag_seconds", &labels, |value| value >= 0.0)
        .unwrap();
    gateway
}

#[test]
fn promtool_finds_nothing_to_complain_about() {
    let Some(promtool) = skip::unless(program::require("promtool", "prometheus")) else {
        return;
    };
    let text = text(&with_everything());
    let mut promtool = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.is_empty(), "{said}");
}

/// Kind and label names by metric.
type Described = BTreeMap<String, (String, BTreeSet<String>)>;

fn documented() -> Described {
    let rows = DOCUMENT
        .lines()
        .filter(|line| line.starts_with("| `tidegate_"));
    let row = |line: &str| {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let labels = cells[3]
            .split(',')
            .map(str::trim)
            .filter(|label| !label.is_empty());
        let name = cells[1].trim_matches('`').to_owned();
        (
            name,
            (cells[2].to_owned(), labels.map(str::to_owned).collect()),
        )
    };
    rows.map(row).collect()
}

fn shown(text: &str) -> Described {
    let mut shown = Described::new();
    for line in text.lines() {
        if let Some(described) = line.strip_prefix("# TYPE ") {
            let (name, kind) = described.split_once(' ').unwrap();
            shown.insert(name.to_owned(), (kind.to_owned(), BTreeSet::new()));
        } else if !line.starts_with('#') {
            let (series, _) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let (_, found) = shown.get_mut(name).unwrap();
            let names = labels.split(',').filter_map(|label| label.split_once('='));
            found.extend(names.map(|(name, _)| name.to_owned()));
        }
    }
    shown
}

#[test]
fn metrics_are_those_of_the_document() {
    let text = text(&with_everything());
    let (shown, documented) = (shown(&text), documented());
    assert!(
        documented.len() > 40,
        "the table was not read: {documented:?}"
    );
    let missing: Vec<_> = documented
        .keys()
        .filter(|name| !shown.contains_key(*name))
        .collect();
    let unknown: Vec<_> = shown
        .keys()
        .filter(|name| !documented.contains_key(*name))
        .collect();
    assert!(
        missing.is_empty() && unknown.is_empty(),
        "documented and not shown: {missing:?}; shown and not documented: {unknown:?}"
    );
    for (name, (kind, labels)) in &shown {
        let (documented_kind, documented_labels) = &documented[name];
        assert_eq!(kind, documented_kind, "{name}");
        assert_eq!(labels, documented_labels, "{name}");
    }
}

/// All values of this label.
fn label_values<'t>(text: &'t str, label: &str) -> BTreeSet<&'t str> {
    let begin = format!("{label}=\"");
    let after = text.lines().filter_map(|line| line.split_once(&begin));
    after
        .filter_map(|(_, rest)| rest.split('"').next())
        .collect()
}

/// What stands between backticks.
fn quoted(prose: &str) -> BTreeSet<&str> {
    prose.split('`').skip(1).step_by(2).collect()
}

#[test]
fn reasons_and_limits_are_those_of_the_document() {
    let text = text(&Gateway::start(LOOPBACK).unwrap());
    let (_, prose) = DOCUMENT
        .split_once("Reasons for ended connections")
        .unwrap();
    let (reasons, limits) = prose.split_once("## Limits").unwrap();
    assert_eq!(label_values(&text, "reason"), quoted(reasons));
    let rows = limits.lines().filter(|line| line.starts_with("| `"));
    let first_cells = rows.filter_map(|row| row.split('|').nth(1));
    let limits: BTreeSet<&str> = first_cells.flat_map(quoted).collect();
    assert_eq!(label_values(&text, "limit"), limits);
}

/// Values of several metrics at one time.
fn values<const N: usize>(gateway: &Gateway, series: [(&str, &[(&str, &str)]); N]) -> [f64; N] {
    series.map(|(name, labels)| {
        let name = format!("tidegate_{name}");
        gateway.metric(&name, labels).unwrap()
    })
}

#[test]
fn counters_move_with_what_is_published() {
    let gateway = Gateway::start(&format!(
        "{LOOPBACK}\n[[log]]\nname = \"kept\"\nfilters = [\"kept/#\"]\n"
    ))
    .unwrap();
    let mut subscriber = gateway.client("subscriber").unwrap();
    subscriber.subscribe("#").unwrap();
    let mut publisher = gateway.client("publisher").unwrap();
    let series = [
        ("broker_messages_received_total", &[("qos", "1")][..]),
        ("broker_messages_received_total", &[("qos", "0")]),
        ("broker_messages_published_total", &[]),
        ("broker_messages_live_only_total", &[]),
        ("broker_messages_delivered_total", &[("qos", "1")]),
        ("broker_messages_delivered_total", &[("qos", "0")]),
        ("log_records_total", &[]),
        ("log_high_watermark", &[("log", "kept")]),
        ("broker_connections_accepted_total", &[]),
    ];
    let before = values(&gateway, series);
    for _ in 0..10 {
        let code = publisher.publish_acknowledged(Publish::new("kept/a", "payload"));
        assert_eq!(code.unwrap(), SUCCESS);
    }
    for _ in 0..4 {
        publisher.publish("elsewhere", b"payload", None).unwrap();
    }
    publisher.ping().unwrap();
    for _ in 0..14 {
        subscriber.receive_publish().unwrap();
    }
    let after = values(&gateway, series);
    let grown: Vec<_> = after
        .iter()
        .zip(before)
        .map(|(after, before)| after - before)
        .collect();
    assert_eq!(grown, [10.0, 4.0, 10.0, 4.0, 10.0, 4.0, 10.0, 10.0, 0.0]);
    let flows = [
        ("broker_received_bytes_total", &[][..]),
        ("broker_sent_bytes_total", &[]),
        ("broker_received_packets_total", &[]),
        ("broker_sent_packets_total", &[]),
    ];
    let [received, sent, packets_received, packets_sent] = values(&gateway, flows);
    assert!(
        received > 14.0 * 7.0 && sent > 14.0 * 7.0,
        "{received} {sent}"
    );
    // CONNECTs, SUBSCRIBE, PUBLISHes, PINGREQ; CONNACKs, SUBACK, PUBACKs, PINGRESP, PUBLISHes.
    assert!(packets_received >= 2.0 + 1.0 + 14.0 + 1.0);
    assert!(packets_sent >= 2.0 + 1.0 + 10.0 + 1.0 + 14.0);
}

#[test]
fn gauges_follow_who_is_connected() {
    let gateway = Gateway::start(LOOPBACK).unwrap();
    let address = gateway.mqtt().unwrap();
    let mut old = Client::connect(address, &Connect::new(Version::V311, "old")).unwrap();
    let mut new = gateway.client("new").unwrap();
    new.subscribe("a").unwrap();
    new.subscribe("b").unwrap();
    let retained = Publish::new("kept", "payload").retained();
    assert_eq!(old.publish_acknowledged(retained).unwrap(), SUCCESS);
    let will = Connect {
        will: Some(Will {
            topic: "gone".to_owned(),
            payload: b"payload".to_vec(),
            retain: false,
        }),
        ..Connect::new(Version::V5, "mortal")
    };
    let mortal = Client::connect(address, &will).unwrap();
    let series = [
        ("broker_connections", &[][..]),
        ("broker_sessions", &[("version", "3.1.1")]),
        ("broker_sessions", &[("version", "5")]),
        ("broker_subscriptions", &[]),
        ("broker_retained_messages", &[]),
        ("broker_wills_total", &[]),
        ("log_takes_messages", &[]),
    ];
    assert_eq!(
        values(&gateway, series),
        [3.0, 1.0, 2.0, 2.0, 1.0, 0.0, 1.0]
    );
    mortal.vanish();
    new.send(&tests::mqtt::packet::DISCONNECT).unwrap();
    drop(new);
    gateway
        .wait_metric("tidegate_broker_connections", &[], |count| count == 1.0)
        .unwrap();
    gateway
        .wait_metric("tidegate_broker_wills_total", &[], |count| count == 1.0)
        .unwrap();
    assert_eq!(
        values(&gateway, series),
        [1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 1.0]
    );
    let ended = |reason| {
        let name = "tidegate_broker_connections_ended_total";
        gateway.metric(name, &[("reason", reason)]).unwrap()
    };
    assert_eq!((ended("client"), ended("end_of_stream")), (1.0, 1.0));
}
