//! Keys and tables that are unknown, misplaced or missing, and syntax errors beside them: the whole
//! report, word for word.

use crate::check;

#[test]
fn unknown_key_is_refused_with_the_name_that_was_meant() {
    check(
        r#"
[limits]
packet_byte_max = 1024
receive-maximum = 5
"#,
        &[
            "t.toml:2:1: limits.packet_byte_max: unknown key; did you mean `packet_bytes_max`?",
            "t.toml:3:1: limits.receive-maximum: unknown key; did you mean `receive_maximum`?",
        ],
    );
}

#[test]
fn unknown_key_is_refused_with_all_names_when_none_is_near() {
    check(
        r#"
[admin]
port = 9080
"#,
        &["t.toml:2:1: admin.port: unknown key; allowed: enabled, bind"],
    );
}

#[test]
fn unknown_key_is_refused_with_the_place_where_it_belongs() {
    check(
        r#"
packet_bytes_max = "1KiB"
[admin]
data_dir = "/x"
partitions = 4
"#,
        &[
            "t.toml:1:1: packet_bytes_max: unknown key; it belongs in `[limits]`",
            "t.toml:3:1: admin.data_dir: unknown key; it belongs at the top of the file, \
             before the first table",
            "t.toml:4:1: admin.partitions: unknown key; it belongs in a `[[log]]`",
        ],
    );
}

#[test]
fn unknown_key_is_printed_in_one_line_whatever_it_is() {
    let text = format!("\"a\\nb\" = 1\n\"{}\" = 1\n", "x".repeat(100));
    check(
        &text,
        &[
            "t.toml:1:1: \"a\\nb\": unknown key; allowed: data_dir, gateway_id, unmapped, \
             sys_interval, share_policy, board, memory_budget, listener, admin, storage, log, \
             share, limits, bridge",
            "t.toml:2:1: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…: \
             unknown key; allowed: data_dir, gateway_id, unmapped, sys_interval, share_policy, board, memory_budget, listener, \
             admin, storage, log, share, limits, bridge",
        ],
    );
}

#[test]
fn unknown_table_is_refused() {
    check(
        r#"
[loging]
level = "debug"
[[listner]]
bind = "x"
"#,
        &[
            "t.toml:1:2: loging: unknown key; allowed: data_dir, gateway_id, unmapped, \
             sys_interval, share_policy, board, memory_budget, listener, admin, storage, log, \
             share, limits, bridge",
            "t.toml:3:3: listner: unknown key; did you mean `listener`?",
        ],
    );
}

#[test]
fn table_is_refused_when_it_should_be_a_list() {
    check(
        r#"
[log]
name = "a"
"#,
        &["t.toml:1:1: log: found a table; allowed: 1 to 64 tables, each `[[log]]`"],
    );
}

#[test]
fn list_is_refused_when_it_should_be_a_table() {
    check(
        r#"
[[limits]]
packet_bytes_max = 1024
"#,
        &["t.toml:1:1: limits: found a list; allowed: a table, `[limits]`"],
    );
}

#[test]
fn value_is_refused_when_it_should_be_a_table() {
    check(
        r#"
admin = true
listener = [1, {}]
[[log]]
name = "a"
filters = ["a"]
retention = "1GiB"
"#,
        &[
            "t.toml:1:9: admin: found true; allowed: a table, `[admin]`",
            "t.toml:2:13: listener[0]: found 1; allowed: a table, `[[listener]]`",
            "t.toml:6:13: log[0].retention: found \"1GiB\"; allowed: a table, `[log.retention]`",
        ],
    );
}

#[test]
fn empty_list_is_refused() {
    check(
        r#"
listener = []
log = []
"#,
        &[
            "t.toml:1:12: listener: found a list (of 0 elements); allowed: 1 to 64 tables, \
             each `[[listener]]`",
            "t.toml:2:7: log: found a list (of 0 elements); allowed: 1 to 64 tables, each \
             `[[log]]`",
        ],
    );
}

#[test]
fn missing_key_is_refused_at_the_head_of_its_table() {
    check(
        r#"
[[log]]
partitions = 4

[[log]]
name = "b"
"#,
        &[
            "t.toml:1:1: log[0].filters: missing; allowed: 1 to 256 topic filters such as \
             \"sensors/#\", none twice; the log `default` may have none",
            "t.toml:1:1: log[0].name: missing; allowed: 1 to 64 of a-z, 0-9, _ and -, unique \
             among the logs",
            "t.toml:4:1: log[1].filters: missing; allowed: 1 to 256 topic filters such as \
             \"sensors/#\", none twice; the log `default` may have none",
        ],
    );
}

#[test]
fn syntax_error_is_reported_with_everything_else() {
    check(
        r#"
data_dir = /var/lib/tidegate
unmapped = 1
[limits
receive_maximum = 0
[storage]
segment_bytes = 0
"#,
        &[
            "t.toml:1:12: syntax error: string values must be quoted, expected literal string \
             (in `/var/lib/tidegate`)",
            "t.toml:2:12: unmapped: found 1; allowed: \"default\" or \"live-only\"",
            "t.toml:3:8: syntax error: unclosed table, expected `]` (in `[limits`)",
            "t.toml:6:17: storage.segment_bytes: found 0; allowed: a size from \"1MiB\" to \
             \"256MiB\"",
        ],
    );
}

#[test]
fn bridge_without_anything_is_refused_with_all_that_it_needs() {
    check(
        r#"
[bridge]
"#,
        &[
            "t.toml:1:1: bridge.bootstrap: missing; allowed: 1 to 64 of \"HOST:PORT\", IPv6 as \
             \"[ADDRESS]:PORT\", none twice",
            "t.toml:1:1: bridge.route: missing; allowed: at least one `[[bridge.route]]`",
            "t.toml:1:1: gateway_id: missing, and a bridge is configured: every record \
             upstream bears this name; allowed: 1 to 64 of A-Z, a-z, 0-9, ., _ and -",
        ],
    );
}
