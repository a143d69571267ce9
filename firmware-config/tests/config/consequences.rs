//! One mistake is one problem: what follows from it is not reported as well.

use crate::check;

#[test]
fn misspelt_key_is_not_missing_too() {
    check(
        r#"
[[log]]
nmae = "a"
filters = ["a"]
[[listener]]
bind = "0.0.0.0:1883"
allow_anonymus = true
"#,
        &[
            "t.toml:2:1: log[0].nmae: unknown key; did you mean `name`?",
            "t.toml:6:1: listener[0].allow_anonymus: unknown key; did you mean \
             `allow_anonymous`?",
        ],
    );
}

#[test]
fn unreadable_key_is_not_missing_too() {
    check(
        r#"
gateway_id = plant7
[[log]]
name = a
filters = ["a"]
[[listener]]
bind = "0.0.0.0:1883"
allow_anonymous = yes
[bridge]
bootstrap = ["k:1"]
[[bridge.route]]
name = "r"
log = "a"
topic = "t"
"#,
        &[
            "t.toml:1:14: syntax error: string values must be quoted, expected literal string \
             (in `plant7`)",
            "t.toml:3:8: syntax error: string values must be quoted, expected literal string \
             (in `a`)",
            "t.toml:7:19: syntax error: string values must be quoted, expected literal string \
             (in `yes`)",
        ],
    );
}

#[test]
fn log_under_a_broken_header_is_not_unknown_too() {
    check(
        r#"
gateway_id = "g"
[[log]
name = "a"
filters = ["a"]
[bridge]
bootstrap = ["k:1"]
[[bridge.route]]
name = "r"
log = "a"
topic = "t"
"#,
        &["t.toml:2:7: syntax error: unclosed array table, expected `]` (in `[[log]`)"],
    );
}

#[test]
fn misplaced_key_is_not_missing_too() {
    check(
        r#"
[admin]
gateway_id = "g"
[bridge]
bootstrap = ["k:1"]
[[bridge.route]]
name = "r"
log = "default"
topic = "t"
"#,
        &[
            "t.toml:2:1: admin.gateway_id: unknown key; it belongs at the top of the file, \
             before the first table",
        ],
    );
}

#[test]
fn refused_value_is_not_compared() {
    check(
        r#"
gateway_id = "/"
[storage]
segment_bytes = "1GiB"
[limits]
packet_bytes_max = "9MiB"
[[log]]
name = "A"
retention.bytes = "2MiB"
[bridge]
bootstrap = ["k:1"]
[[bridge.route]]
name = "r"
log = "unknown"
topic = "t"
"#,
        &[
            "t.toml:1:14: gateway_id: found \"/\" ('/' is not allowed in it); allowed: 1 to 64 \
             of A-Z, a-z, 0-9, ., _ and -",
            "t.toml:3:17: storage.segment_bytes: found \"1GiB\"; allowed: a size from \"1MiB\" \
             to \"256MiB\"",
            "t.toml:5:20: limits.packet_bytes_max: found \"9MiB\"; allowed: a size from \
             \"1KiB\" to \"8MiB\"",
            "t.toml:7:8: log[0].name: found \"A\" ('A' is not allowed in it); allowed: 1 to 64 \
             of a-z, 0-9, _ and -, unique among the logs",
        ],
    );
}
