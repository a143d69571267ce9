//! `/status` and `tidegate status`.

use serde_json::Value;
use tests::command_line::tidegate;
use tests::deadline::{PATIENCE, wait_for};
use tests::gateway::{Gateway, LOOPBACK};
use tests::mqtt::{Publish, SUCCESS};
use tests::ports;
use tests::supervised::ExitCode;

/// A gateway with a bridge to a cluster that is not there, and a record that waits for it.
fn start() -> Gateway {
    let port = ports::free().unwrap();
    let gateway = Gateway::start(&format!(
        "gateway_id = \"plant7\"\n{LOOPBACK}\n\
         [bridge]\nbootstrap = [\"127.0.0.1:{port}\"]\nbackoff_max = \"100ms\"\n\
         [[bridge.route]]\nname = \"everything\"\nlog = \"default\"\ntopic = \"plant7.all\"\n"
    ))
    .unwrap();
    super::publish(&gateway, "t", &[b"one"]);
    let labels = [("route", "everything")];
    gateway
        .wait_metric("tidegate_bridge_trouble", &labels, |value| value == 1.0)
        .unwrap();
    gateway
}

/// Every field of a JSON object with the kind of its value, in depth; elements of lists as `[]`.
fn fields(value: &Value, path: &str, out: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                fields(value, &format!("{path}.{name}"), out);
            }
        }
        Value::Array(list) => match list.first() {
            Some(first) => fields(first, &format!("{path}[]"), out),
            None => out.push(format!("{path}[]")),
        },
        _ => out.push(path.to_owned()),
    }
}

/// What scripts rely on.
const FIELDS: &[&str] = &[
    ".version",
    ".pid",
    ".uptime_seconds",
    ".gateway_id",
    ".broker.listeners[].address",
    ".broker.listeners[].connections",
    ".broker.sessions",
    ".broker.sessions_offline",
    ".broker.sessions_behind",
    ".broker.subscriptions",
    ".broker.retained_messages",
    ".broker.retained_bytes",
    ".broker.published",
    ".broker.live_only",
    ".broker.refused",
    ".broker.pending_publishes",
    ".broker.held_publishes",
    ".store.data_dir",
    ".store.incarnation",
    ".store.health",
    ".store.durable_commit",
    ".store.commits",
    ".store.syncs",
    ".store.segments",
    ".store.segments_open",
    ".store.damaged_segments.count",
    ".store.damaged_segments.first[]",
    ".store.bytes",
    ".store.free_bytes",
    ".store.clock",
    ".store.oldest_segment.id",
    ".store.oldest_segment.last",
    ".store.oldest_segment.bytes",
    ".store.oldest_segment.live_bytes",
    ".store.oldest_segment.age_seconds",
    ".store.oldest_segment.stage",
    ".store.oldest_segment.logs[].log",
    ".store.oldest_segment.logs[].live_bytes",
    ".store.oldest_segment.logs[].log_bytes",
    ".store.oldest_segment.logs[].retention_bytes",
    ".store.oldest_segment.logs[].retention_age_seconds",
    ".store.oldest_segment.logs[].kept_by",
    ".store.oldest_segment.logs[].pins[]",
    ".store.gaps[]",
    ".store.recovery[]",
    ".bridge.bootstrap[]",
    ".bridge.routes.everything.log",
    ".bridge.routes.everything.topic",
    ".bridge.routes.everything.mode",
    ".bridge.routes.everything.lag_records",
    ".bridge.routes.everything.in_doubt",
    ".bridge.routes.everything.replicated",
    ".bridge.routes.everything.lost",
    ".bridge.routes.everything.trouble",
];

#[test]
fn status_has_the_fields_that_scripts_rely_on() {
    let gateway = start();
    let status = gateway.json("/status").unwrap();
    let mut found = Vec::new();
    fields(&status, "", &mut found);
    for field in FIELDS {
        assert!(
            found.iter().any(|found| found == field),
            "{field} is not in {found:#?}"
        );
    }
    assert_eq!(status["gateway_id"], "plant7");
    assert_eq!(status["store"]["health"], "ready");
    assert_eq!(status["broker"]["published"], 1);
    let address = gateway.mqtt().unwrap().to_string();
    assert_eq!(status["broker"]["listeners"][0]["address"], address);
    let trouble = &status["bridge"]["routes"]["everything"]["trouble"];
    assert!(trouble.as_str().unwrap().contains("127.0.0.1"), "{trouble}");
}

#[test]
fn status_command_prints_what_the_gateway_says() {
    let gateway = start();
    let admin = gateway.admin().unwrap().to_string();
    let ended = tidegate(&["status", "--admin", &admin]).unwrap();
    assert_eq!(ended.code, ExitCode(0), "{}", ended.stderr);
    for text in [
        "plant7",
        &gateway.mqtt().unwrap().to_string(),
        "1 published",
        "ready",
        "everything: default → plant7.all",
        "trouble: ",
    ] {
        assert!(
            ended.stdout.contains(text),
            "{text} is not in\n{}",
            ended.stdout
        );
    }
    let ended = tidegate(&["status", "--json", "--admin", &admin]).unwrap();
    let printed: Value = serde_json::from_str(&ended.stdout).unwrap();
    let asked = gateway.json("/status").unwrap();
    assert_eq!(printed["pid"], asked["pid"]);
    assert_eq!(
        printed["bridge"]["routes"]["everything"]["topic"],
        "plant7.all"
    );
}

/// The uplink is down, and the log is not to forget.
#[test]
fn status_names_the_route_that_keeps_the_oldest_segment() {
    let port = ports::free().unwrap();
    let gateway = Gateway::start(&format!(
        "gateway_id = \"plant7\"\n{LOOPBACK}\n\
         [storage]\nsegment_bytes = \"1MiB\"\n\
         [[log]]\nname = \"alarms\"\nfilters = [\"t\"]\npartitions = 1\n\
         on_full = \"reject\"\nretention = {{ bytes = \"2MiB\" }}\n\
         [bridge]\nbootstrap = [\"127.0.0.1:{port}\"]\n\
         [[bridge.route]]\nname = \"uplink\"\nlog = \"alarms\"\ntopic = \"plant7.all\"\n"
    ))
    .unwrap();
    let payload = vec![7; 100 << 10];
    let mut client = gateway.client("publisher").unwrap();
    let mut taken: u64 = 0;
    while client
        .publish_acknowledged(Publish::new("t", &payload))
        .unwrap()
        == SUCCESS
    {
        taken += 1;
        assert!(taken < 1000, "it is never full");
    }
    let full = || {
        let status = gateway.json("/status").unwrap();
        let full = status["store"]["full_logs"] == serde_json::json!(["alarms"]);
        Ok(full.then_some(status))
    };
    let status = wait_for("a full log", PATIENCE, full).unwrap();
    let log = &status["store"]["oldest_segment"]["logs"][0];
    assert_eq!(log["kept_by"], "pins", "{status:#}");
    let pin = &log["pins"][0];
    assert_eq!(
        (&pin["name"], &pin["lag_records"]),
        (&"uplink".into(), &taken.into())
    );
    assert!(
        pin["lag_bytes"].as_u64() > Some(taken * (100 << 10)),
        "{pin}"
    );
    let admin = gateway.admin().unwrap().to_string();
    let ended = tidegate(&["status", "--admin", &admin]).unwrap();
    let words = format!("(route uplink has not replicated {taken} records, ");
    assert!(ended.stdout.contains(&words), "{}", ended.stdout);
    let bytes = |what: &str| {
        let name = format!("tidegate_log_oldest_segment_{what}");
        gateway.metric(&name, &[]).unwrap()
    };
    assert!(bytes("live_bytes") > 100_000.0 && bytes("bytes") >= bytes("live_bytes"));
    assert!(bytes("age_seconds") < 3600.0);
}

#[test]
fn status_command_says_so_when_nobody_answers() {
    let nobody = format!("127.0.0.1:{}", ports::free().unwrap());
    let ended = tidegate(&["status", "--admin", &nobody]).unwrap();
    assert_eq!(ended.code, ExitCode(1));
    let said = &ended.stderr;
    assert!(
        said.contains(&nobody) && said.contains("is the gateway running"),
        "{said}"
    );
    assert_eq!(ended.stdout, "");
}
