//! Where records lie, how much room they may take, and when they go.

use tests::gateway::{Around, Gateway, LOOPBACK};
use tests::mqtt::{Client, Publish, SUCCESS};
use tests::skip;

/// "Quota exceeded" of MQTT 5.
const QUOTA_EXCEEDED: u8 = 0x97;

fn publish_kib(client: &mut Client, topic: &str, kib: usize) {
    let payload = vec![0; 128 << 10];
    for _ in 0..kib.div_ceil(128) {
        let publish = Publish::new(topic, &payload);
        assert_eq!(client.publish_acknowledged(publish).unwrap(), SUCCESS);
    }
}

#[test]
pub(crate) fn data_lies_where_data_dir_says() {
    for folder in ["tidegate-data", "elsewhere"] {
        let around = Around {
            data_dir: Some(folder.into()),
            ..Around::default()
        };
        let configuration = format!("data_dir = \"./{folder}\"\n{LOOPBACK}");
        let gateway = Gateway::start_around(around, &configuration).unwrap();
        let names = gateway.folder().read_dir().unwrap();
        let folders = names
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.path().is_dir())
            .map(|entry| entry.file_name().into_string().unwrap());
        assert_eq!(folders.collect::<Vec<_>>(), [folder]);
        let status = gateway.json("/status").unwrap();
        let path = gateway.folder().canonicalize().unwrap().join(folder);
        assert_eq!(status["store"]["data_dir"], path.to_str().unwrap());
    }
}

#[test]
pub(crate) fn segments_are_closed_at_segment_bytes() {
    let segments = "tidegate_log_segments";
    for (bytes, is_more_than_one) in [("1MiB", true), ("64MiB", false)] {
        let configuration = format!("{LOOPBACK}\n[storage]\nsegment_bytes = \"{bytes}\"\n");
        let gateway = Gateway::start(&configuration).unwrap();
        publish_kib(&mut gateway.client("c").unwrap(), "t", 3 << 10);
        let count = gateway.metric(segments, &[]).unwrap();
        assert_eq!(
            count >= 3.0,
            is_more_than_one,
            "{count} segments of {bytes}"
        );
    }
}

#[test]
pub(crate) fn publishes_are_refused_below_the_free_space_reserve() {
    for (reserve, code) in [("1MiB", SUCCESS), ("1024TiB", QUOTA_EXCEEDED)] {
        let configuration = format!("{LOOPBACK}\n[storage]\nfree_space_reserve = \"{reserve}\"\n");
        let gateway = Gateway::start(&configuration).unwrap();
        let takes = if code == SUCCESS { 1.0 } else { 0.0 };
        gateway
            .wait_metric("tidegate_log_takes_messages", &[], |value| value == takes)
            .unwrap();
        let mut client = gateway.client("c").unwrap();
        let publish = Publish::new("t", "payload");
        assert_eq!(
            client.publish_acknowledged(publish).unwrap(),
            code,
            "{reserve}"
        );
    }
}

/// Fills `short` and `long` with 5 MiB each, in segments of 1 MiB; `retention` is that of `short`.
fn start_filled(around: Around, retention: &str) -> Gateway {
    let gateway = Gateway::start_around(
        around,
        &format!(
            "{LOOPBACK}\n[storage]\nsegment_bytes = \"1MiB\"\n\
             [[log]]\nname = \"short\"\nfilters = [\"short\"]\npartitions = 1\n\
             retention = {{ {retention} }}\n\
             [[log]]\nname = \"long\"\nfilters = [\"long\"]\npartitions = 1\n"
        ),
    )
    .unwrap();
    let mut client = gateway.client("c").unwrap();
    for topic in ["short", "long"] {
        publish_kib(&mut client, topic, 5 << 10);
    }
    gateway
}

/// Waits until the oldest records of `short` are gone, and sees that `long` has all.
fn expect_short_to_be_cut(gateway: &Gateway) {
    let start = "tidegate_log_start_offset";
    gateway
        .wait_metric(start, &[("log", "short")], |offset| offset > 0.0)
        .unwrap();
    assert_eq!(gateway.metric(start, &[("log", "long")]).unwrap(), 0.0);
    // What is gone cannot be read any more.
    let records = gateway.json("/log/read?log=short").unwrap();
    let offsets = records
        .as_array()
        .unwrap()
        .iter()
        .map(|record| &record["offset"]);
    assert!(
        offsets.clone().all(|offset| offset.as_u64() > Some(0)),
        "{:?}",
        offsets.collect::<Vec<_>>()
    );
}

#[test]
pub(crate) fn records_go_beyond_retention_bytes() {
    expect_short_to_be_cut(&start_filled(Around::default(), "bytes = \"2MiB\""));
}

#[test]
pub(crate) fn records_go_beyond_retention_age() {
    // Age counts only while a time service has set the clock. This machine may have none; the
    // system call that tells is made to say that there is one.
    let tampering = [
        "-e",
        "trace=adjtimex,clock_adjtime",
        "-e",
        "inject=adjtimex,clock_adjtime:retval=0",
    ];
    let Some(around) = skip::unless(Around::tampered(&tampering)) else {
        return;
    };
    let gateway = start_filled(around, "age = \"1s\"");
    expect_short_to_be_cut(&gateway);
    assert_eq!(
        gateway.metric("tidegate_log_clock_synced", &[]).unwrap(),
        1.0
    );
}

#[test]
pub(crate) fn status_tells_the_flash_budget() {
    let without = Gateway::start(LOOPBACK).unwrap();
    let status = without.json("/status").unwrap();
    assert!(status["store"]["flash"]["budget"].is_null(), "{status}");
    let keys = format!("{LOOPBACK}[storage]\nflash_budget = \"2GB/day\"\n");
    let status = Gateway::start(&keys).unwrap().json("/status").unwrap();
    let budget = &status["store"]["flash"]["budget"];
    assert_eq!(budget["bytes_per_day"], 2_000_000_000_u64, "{status}");
}

#[test]
pub(crate) fn status_tells_the_life_of_the_card_only_if_its_endurance_is_set() {
    let keys = format!("{LOOPBACK}[storage]\ncard_endurance = \"30TB\"\n");
    for (keys, told) in [
        (LOOPBACK, None),
        (keys.as_str(), Some(30_000_000_000_000_u64)),
    ] {
        let status = Gateway::start(keys).unwrap().json("/status").unwrap();
        let endurance = &status["store"]["flash"]["card_endurance_bytes"];
        assert_eq!(endurance.as_u64(), told, "{status}");
    }
}

/// Without a route, a log that rejects has nothing that could go for its bytes.
#[test]
pub(crate) fn full_log_forgets_or_refuses_as_on_full_says() {
    for (on_full, may_refuse) in [("drop-oldest", false), ("reject", true)] {
        let gateway = Gateway::start(&format!(
            "{LOOPBACK}\n[storage]\nsegment_bytes = \"1MiB\"\n\
             [[log]]\nname = \"small\"\nfilters = [\"small\"]\npartitions = 1\n\
             on_full = \"{on_full}\"\nretention = {{ bytes = \"2MiB\" }}\n"
        ))
        .unwrap();
        let mut client = gateway.client("c").unwrap();
        let payload = "x".repeat(16 << 10);
        let start = || {
            let start = "tidegate_log_start_offset";
            gateway.metric(start, &[("log", "small")]).unwrap()
        };
        let mut codes = std::iter::from_fn(|| {
            let publish = Publish::new("small", payload.as_str());
            Some(client.publish_acknowledged(publish).unwrap())
        });
        let refused = codes
            .by_ref()
            .take(2000)
            .any(|code| code == QUOTA_EXCEEDED || (!may_refuse && start() > 0.0));
        assert!(refused, "neither refused nor dropped: {on_full}");
        assert_eq!(start() > 0.0, !may_refuse, "{on_full}");
        let status = gateway.json("/status").unwrap();
        let full = if may_refuse { &["small"][..] } else { &[] };
        assert_eq!(
            status["store"]["full_logs"],
            serde_json::json!(full),
            "{on_full}"
        );
    }
}
