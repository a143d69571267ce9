//! Rules of logs, their retention and the limits around them: the whole report, word for word.

use crate::check;

#[test]
fn log_with_the_name_of_another_is_refused() {
    check(
        r#"
[[log]]
name = "a"
filters = ["a"]
[[log]]
name = "b"
filters = ["b"]
[[log]]
name = "a"
filters = ["c"]
"#,
        &[
            "t.toml:8:8: log[2].name: found \"a\", which log[0].name is already (line 2); \
             allowed: 1 to 64 of a-z, 0-9, _ and -, unique among the logs",
        ],
    );
}

#[test]
fn log_without_filters_is_refused() {
    check(
        r#"
[[log]]
name = "a"
filters = []
[[log]]
name = "b"
"#,
        &[
            "t.toml:3:11: log[0].filters: found none; allowed: 1 to 256 topic filters such as \
             \"sensors/#\", none twice; the log `default` may have none",
            "t.toml:4:1: log[1].filters: missing; allowed: 1 to 256 topic filters such as \
             \"sensors/#\", none twice; the log `default` may have none",
        ],
    );
}

#[test]
fn retention_below_two_segments_is_refused() {
    check(
        r#"
[storage]
segment_bytes = "32MiB"
[[log]]
name = "a"
filters = ["a"]
retention.bytes = "63MiB"
[[log]]
name = "default"
retention.bytes = "64MiB"
"#,
        &[
            "t.toml:6:19: log[0].retention.bytes: found \"63MiB\"; allowed: at least \
             \"64MiB\", two segments of `storage.segment_bytes`, which is \"32MiB\"",
        ],
    );
}

#[test]
fn retention_of_the_default_log_below_two_segments_is_refused() {
    check(
        r#"
[[log]]
name = "default"
retention.bytes = "31MiB"
"#,
        &[
            "t.toml:3:19: log[0].retention.bytes: found \"31MiB\"; allowed: at least \
             \"32MiB\", two segments of `storage.segment_bytes`, which is \"16MiB\"",
        ],
    );
}

#[test]
fn memory_log_is_refused_when_told_how_to_keep() {
    check(
        r#"
[[log]]
name = "a"
filters = ["a"]
durability = "memory"
partitions = 2
key = "{topic}"
retention = { age = "1d" }
"#,
        &[
            "t.toml:5:14: log[0].partitions: has no meaning in a log with `durability = \
             \"memory\"`, which keeps nothing; allowed: one of the two",
            "t.toml:6:7: log[0].key: has no meaning in a log with `durability = \"memory\"`, \
             which keeps nothing; allowed: one of the two",
            "t.toml:7:13: log[0].retention: has no meaning in a log with `durability = \
             \"memory\"`, which keeps nothing; allowed: one of the two",
        ],
    );
}

#[test]
fn default_log_is_refused_when_it_keeps_nothing() {
    check(
        r#"
[[log]]
name = "default"
durability = "memory"
"#,
        &[
            "t.toml:3:14: log[0].durability: found \"memory\" for the log `default`, which \
             keeps what no other log takes; allowed: \"commit\" or \"interval:…\", or \
             `unmapped = \"live-only\"` at the top of the file",
        ],
    );
}

#[test]
fn partitions_of_all_logs_together_are_limited() {
    let log = |n| format!("[[log]]\nname = \"l{n}\"\nfilters = [\"l{n}\"]\npartitions = 256\n");
    let text: String = (0..6).map(log).collect();
    check(
        &text,
        &[
            "t.toml:20:14: log[4].partitions: found 256, which makes 1280 with the logs \
             before; allowed: 1024 in all logs together",
        ],
    );
}

#[test]
fn packet_that_fits_no_queue_is_refused() {
    check(
        r#"
[limits]
packet_bytes_max = "128KiB"
mailbox_bytes_max = "127KiB"
all_mailboxes_bytes_max = "126KiB"
commit_queue_bytes_max = "64KiB"
"#,
        &[
            "t.toml:3:21: limits.mailbox_bytes_max: found \"127KiB\"; allowed: at least \
             `packet_bytes_max`, which is \"128KiB\"",
            "t.toml:4:27: limits.all_mailboxes_bytes_max: found \"126KiB\"; allowed: at least \
             `packet_bytes_max`, which is \"128KiB\"",
            "t.toml:5:26: limits.commit_queue_bytes_max: found \"64KiB\"; allowed: at least \
             `packet_bytes_max`, which is \"128KiB\"",
        ],
    );
}

#[test]
fn packet_that_fits_no_default_queue_is_refused() {
    check(
        r#"
[limits]
packet_bytes_max = "2MiB"
"#,
        &[
            "t.toml:2:20: limits.packet_bytes_max: found \"2MiB\"; allowed: at most \
             `mailbox_bytes_max`, which is \"1MiB\" by default",
        ],
    );
}

#[test]
fn packet_that_fits_no_segment_twice_is_refused() {
    check(
        r#"
[storage]
segment_bytes = "1MiB"
[limits]
packet_bytes_max = "513KiB"
"#,
        &[
            "t.toml:4:20: limits.packet_bytes_max: found \"513KiB\"; allowed: at most \
             \"512KiB\", half of `storage.segment_bytes`, which is \"1MiB\"",
        ],
    );
}

#[test]
fn queue_that_fits_no_default_packet_is_refused() {
    check(
        r#"
[limits]
mailbox_bytes_max = "128KiB"
"#,
        &[
            "t.toml:2:21: limits.mailbox_bytes_max: found \"128KiB\"; allowed: at least \
             `packet_bytes_max`, which is \"256KiB\"",
        ],
    );
}

#[test]
fn long_lists_are_refused() {
    let filters: Vec<_> = (0..257).map(|n| format!("\"{n}\"")).collect();
    let brokers: Vec<_> = (1..=65).map(|n| format!("\"h:{n}\"")).collect();
    let text = format!(
        "[[log]]\nname = \"a\"\nfilters = [{}]\n[bridge]\nbootstrap = [{}]\n",
        filters.join(", "),
        brokers.join(", ")
    );
    check(
        &text,
        &[
            "t.toml:3:11: log[0].filters: found a list (of 257 elements); allowed: 1 to 256 \
             topic filters such as \"sensors/#\", none twice; the log `default` may have none",
            "t.toml:4:1: bridge.route: missing; allowed: at least one `[[bridge.route]]`",
            "t.toml:4:1: gateway_id: missing, and a bridge is configured: every record \
             upstream bears this name; allowed: 1 to 64 of A-Z, a-z, 0-9, ., _ and -",
            "t.toml:5:13: bridge.bootstrap: found a list (of 65 elements); allowed: 1 to 64 of \
             \"HOST:PORT\", IPv6 as \"[ADDRESS]:PORT\", none twice",
        ],
    );
}
