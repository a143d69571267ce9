//! Which log a message goes to, and when it is acknowledged: `[[log]]` and `unmapped`.

use serde_json::Value;
use tests::gateway::{Gateway, LOOPBACK};
use tests::mqtt::{Client, Publish, SUCCESS};

fn publish(client: &mut Client, topic: &str) {
    let publish = Publish::new(topic, "payload");
    assert_eq!(client.publish_acknowledged(publish).unwrap(), SUCCESS);
}

fn records(gateway: &Gateway, log: &str) -> Vec<Value> {
    let records = gateway.json(&format!("/log/read?log={log}")).unwrap();
    records.as_array().unwrap().clone()
}

/// Records of a log that are on flash.
fn durable(gateway: &Gateway, log: &str) -> f64 {
    let name = "tidegate_log_high_watermark";
    gateway.metric(name, &[("log", log)]).unwrap()
}

#[test]
pub(crate) fn logs_take_what_their_keys_say() {
    let gateway = Gateway::start(&format!(
        "{LOOPBACK}\n\
         [[log]]\nname = \"alarms\"\nfilters = [\"+/alarm\", \"alarms/#\"]\npartitions = 1\n\
         key = \"{{topic}}\"\n\
         [[log]]\nname = \"telemetry\"\nfilters = [\"sensors/#\"]\npartitions = 3\n"
    ))
    .unwrap();
    let mut client = gateway.client("device-7").unwrap();
    publish(&mut client, "sensors/alarm");
    publish(&mut client, "sensors/1/celsius");
    publish(&mut client, "elsewhere");

    let taken = |log: &str| {
        let records = records(&gateway, log).into_iter();
        let pair = |record: Value| {
            let text = |field: &str| record[field].as_str().unwrap().to_owned();
            (text("topic"), text("key"))
        };
        records.map(pair).collect::<Vec<_>>()
    };
    let pair = |topic: &str, key: &str| vec![(topic.to_owned(), key.to_owned())];
    assert_eq!(taken("alarms"), pair("sensors/alarm", "sensors/alarm"));
    assert_eq!(taken("telemetry"), pair("sensors/1/celsius", "device-7"));
    assert_eq!(taken("default"), pair("elsewhere", "device-7"));

    let logs = gateway.json("/log/list").unwrap();
    let partitions = |name: &str| {
        let log = logs
            .as_array()
            .unwrap()
            .iter()
            .find(|log| log["name"] == name);
        log.unwrap()["partitions"].as_array().unwrap().len()
    };
    assert_eq!((partitions("alarms"), partitions("telemetry")), (1, 3));
    assert_eq!(partitions("default"), 4);
}

#[test]
pub(crate) fn acknowledgement_comes_when_durability_says() {
    let gateway = Gateway::start(&format!(
        "{LOOPBACK}\n\
         [[log]]\nname = \"later\"\nfilters = [\"later\"]\ndurability = \"interval:60s\"\n\
         [[log]]\nname = \"never\"\nfilters = [\"never\"]\ndurability = \"memory\"\n\
         [[log]]\nname = \"first\"\nfilters = [\"first\"]\ndurability = \"commit\"\n"
    ))
    .unwrap();
    let mut client = gateway.client("c").unwrap();
    publish(&mut client, "later");
    assert_eq!(
        durable(&gateway, "later"),
        0.0,
        "acknowledged before it is on flash"
    );
    publish(&mut client, "never");
    let live = "tidegate_broker_messages_live_only_total";
    assert_eq!(gateway.metric(live, &[]).unwrap(), 1.0);
    publish(&mut client, "first");
    assert_eq!(
        durable(&gateway, "first"),
        1.0,
        "on flash when it is acknowledged"
    );
    // What waits leaves with the commit of others.
    assert_eq!(durable(&gateway, "later"), 1.0);
    let published = "tidegate_broker_messages_published_total";
    assert_eq!(gateway.metric(published, &[]).unwrap(), 2.0);
}

#[test]
pub(crate) fn unmapped_messages_go_where_unmapped_says() {
    for (value, in_default) in [("default", 1), ("live-only", 0)] {
        let gateway = Gateway::start(&format!(
            "unmapped = \"{value}\"\n{LOOPBACK}\n\
             [[log]]\nname = \"telemetry\"\nfilters = [\"sensors/#\"]\n"
        ))
        .unwrap();
        publish(&mut gateway.client("c").unwrap(), "elsewhere");
        assert_eq!(records(&gateway, "default").len(), in_default, "{value}");
        let live = "tidegate_broker_messages_live_only_total";
        let live = gateway.metric(live, &[]).unwrap();
        assert_eq!(live, 1.0 - in_default as f64, "{value}");
    }
}

/// It may wait longer on a busy machine, but never less.
#[test]
pub(crate) fn lone_message_waits_as_long_as_linger_says() {
    let gateway = Gateway::start(&format!(
        "{LOOPBACK}[[log]]\nname = \"a\"\nfilters = [\"a\"]\nlinger = \"50ms\"\n"
    ))
    .unwrap();
    let mut client = gateway.client("c").unwrap();
    let begun = std::time::Instant::now();
    publish(&mut client, "a");
    assert!(begun.elapsed() >= std::time::Duration::from_millis(50));
}
