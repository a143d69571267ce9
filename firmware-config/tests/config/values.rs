//! Values that are wrong by themselves: the whole report, word for word.

use crate::check;

#[test]
fn size_is_refused_when_its_form_is_wrong() {
    check(
        r#"
[storage]
segment_bytes = "16 megabytes"
"#,
        &[
            "t.toml:2:17: storage.segment_bytes: found \"16 megabytes\" (its unit is none of \
             TiB, GiB, MiB, KiB, TB, GB, MB, kB, B); allowed: a size from \"1MiB\" to \
             \"256MiB\"",
        ],
    );
}

#[test]
fn size_is_refused_when_it_is_out_of_range() {
    check(
        r#"
[storage]
segment_bytes = "1023KiB"
free_space_reserve = 5
"#,
        &[
            "t.toml:2:17: storage.segment_bytes: found \"1023KiB\"; allowed: a size from \
             \"1MiB\" to \"256MiB\"",
            "t.toml:3:22: storage.free_space_reserve: found 5; allowed: a size from \"1MiB\" \
             to \"1024TiB\"",
        ],
    );
}

#[test]
fn size_is_refused_when_it_is_no_size() {
    check(
        r#"
[storage]
segment_bytes = true
free_space_reserve = -1
"#,
        &[
            "t.toml:2:17: storage.segment_bytes: found true; allowed: a size from \"1MiB\" to \
             \"256MiB\"",
            "t.toml:3:22: storage.free_space_reserve: found -1; allowed: a size from \"1MiB\" \
             to \"1024TiB\"",
        ],
    );
}

#[test]
fn count_is_refused_when_it_is_out_of_range() {
    check(
        r#"
[limits]
receive_maximum = 65536
inflight_max = 0
topic_levels_max = -1
retained_count_max = 99999999999999999999
"#,
        &[
            "t.toml:2:19: limits.receive_maximum: found 65536; allowed: an integer from 1 to \
             65535",
            "t.toml:3:16: limits.inflight_max: found 0; allowed: an integer from 1 to 65535",
            "t.toml:4:20: limits.topic_levels_max: found -1; allowed: an integer from 1 to 128",
            "t.toml:5:22: limits.retained_count_max: found 99999999999999999999; allowed: an \
             integer from 1 to 1000000",
        ],
    );
}

#[test]
fn count_is_refused_when_it_is_no_integer() {
    check(
        r#"
[limits]
receive_maximum = "64"
inflight_max = 6.4
"#,
        &[
            "t.toml:2:19: limits.receive_maximum: found \"64\"; allowed: an integer from 1 to \
             65535",
            "t.toml:3:16: limits.inflight_max: found 6.4; allowed: an integer from 1 to 65535",
        ],
    );
}

#[test]
fn duration_is_refused_when_it_has_no_unit() {
    check(
        r#"
[limits]
connect_timeout = 10
keep_alive_max = "60"
"#,
        &[
            "t.toml:2:19: limits.connect_timeout: found 10 (a duration is a text with a unit); \
             allowed: a duration from \"100ms\" to \"5m\"",
            "t.toml:3:18: limits.keep_alive_max: found \"60\" (has no unit, one of ms, s, m, \
             h, d); allowed: whole seconds from \"1s\" to \"65535s\", or \"0s\" for no limit",
        ],
    );
}

#[test]
fn duration_is_refused_when_it_is_out_of_range() {
    check(
        r#"
[limits]
connect_timeout = "301s"
keep_alive_max = "1d"
"#,
        &[
            "t.toml:2:19: limits.connect_timeout: found \"301s\"; allowed: a duration from \
             \"100ms\" to \"5m\"",
            "t.toml:3:18: limits.keep_alive_max: found \"1d\" (does not fit MQTT's two bytes \
             of seconds); allowed: whole seconds from \"1s\" to \"65535s\", or \"0s\" for no \
             limit",
        ],
    );
}

#[test]
fn flag_is_refused_when_it_is_a_word() {
    check(
        r#"
[admin]
enabled = "yes"
"#,
        &["t.toml:2:11: admin.enabled: found \"yes\"; allowed: true or false"],
    );
}

#[test]
fn choice_is_refused_when_it_is_another_word() {
    check(
        r#"
unmapped = "drop"
"#,
        &["t.toml:1:12: unmapped: found \"drop\"; allowed: \"default\" or \"live-only\""],
    );
}

#[test]
fn text_is_refused_when_it_is_another_type() {
    check(
        r#"
data_dir = 7
gateway_id = ["a"]
"#,
        &[
            "t.toml:1:12: data_dir: found 7; allowed: the path of a folder, absolute or from \
             the working directory",
            "t.toml:2:14: gateway_id: found a list; allowed: 1 to 64 of A-Z, a-z, 0-9, ., _ \
             and -",
        ],
    );
}

#[test]
fn data_dir_is_refused_when_it_is_no_path() {
    check(
        r#"
data_dir = "a\u0000b"
"#,
        &[
            "t.toml:1:12: data_dir: found \"a\\0b\" (contains a zero byte); allowed: the path \
             of a folder, absolute or from the working directory",
        ],
    );
}

#[test]
fn bind_is_refused_when_it_is_a_host_name() {
    check(
        r#"
[[listener]]
bind = "localhost:1883"
[admin]
bind = "9080"
"#,
        &[
            "t.toml:2:8: listener[0].bind: found \"localhost:1883\" (a host name is not looked \
             up here: it may mean another address after the next start, or none before the \
             network is up); allowed: an IP address and a port such as \"127.0.0.1:1883\" or \
             \"[::1]:1883\"",
            "t.toml:4:8: admin.bind: found \"9080\" (has no port); allowed: a loopback IP \
             address and a port such as \"127.0.0.1:9080\" or \"[::1]:9080\"",
        ],
    );
}

#[test]
fn gateway_id_is_refused_when_a_character_is_not_allowed() {
    check(
        r#"
gateway_id = "plant 7"
"#,
        &[
            "t.toml:1:14: gateway_id: found \"plant 7\" (' ' is not allowed in it); allowed: 1 \
             to 64 of A-Z, a-z, 0-9, ., _ and -",
        ],
    );
}

#[test]
fn log_name_is_refused_when_a_character_is_not_allowed() {
    check(
        r#"
[[log]]
name = "Alarms"
filters = ["a"]
"#,
        &[
            "t.toml:2:8: log[0].name: found \"Alarms\" ('A' is not allowed in it); allowed: 1 \
             to 64 of a-z, 0-9, _ and -, unique among the logs",
        ],
    );
}

#[test]
fn filter_is_refused_when_the_caller_refuses_it() {
    check(
        r##"
[[log]]
name = "a"
filters = ["#/a", "b/#", ""]
"##,
        &[
            "t.toml:3:12: log[0].filters[0]: found \"#/a\" (# stands only at the end); \
             allowed: 1 to 256 topic filters such as \"sensors/#\", none twice; the log \
             `default` may have none",
            "t.toml:3:26: log[0].filters[2]: found \"\" (is empty); allowed: 1 to 256 topic \
             filters such as \"sensors/#\", none twice; the log `default` may have none",
        ],
    );
}

#[test]
fn filter_is_refused_when_it_begins_with_a_dollar_sign() {
    check(
        r#"
[[log]]
name = "a"
filters = ["$SYS/#"]
"#,
        &[
            "t.toml:3:12: log[0].filters[0]: found \"$SYS/#\" (topics that begin with $ are \
             never logged); allowed: 1 to 256 topic filters such as \"sensors/#\", none twice; \
             the log `default` may have none",
        ],
    );
}

#[test]
fn filter_is_refused_when_it_is_no_text() {
    check(
        r#"
[[log]]
name = "a"
filters = ["a", 1]
[[log]]
name = "b"
filters = "b"
"#,
        &[
            "t.toml:3:17: log[0].filters[1]: found 1; allowed: 1 to 256 topic filters such as \
             \"sensors/#\", none twice; the log `default` may have none",
            "t.toml:6:11: log[1].filters: found \"b\"; allowed: 1 to 256 topic filters such as \
             \"sensors/#\", none twice; the log `default` may have none",
        ],
    );
}

#[test]
fn filter_is_refused_when_it_is_repeated() {
    check(
        r#"
[[log]]
name = "a"
filters = [
  "a/#",
  "b",
  "a/#",
]
"#,
        &[
            "t.toml:6:3: log[0].filters[2]: found \"a/#\" (already in line 4); allowed: 1 to \
             256 topic filters such as \"sensors/#\", none twice; the log `default` may have \
             none",
        ],
    );
}

#[test]
fn key_template_is_refused_when_it_names_something_else() {
    check(
        r#"
[[log]]
name = "a"
filters = ["a"]
key = "{username}"
"#,
        &[
            "t.toml:4:7: log[0].key: found \"{username}\" (nothing is known as {username}); \
             allowed: 1 to 256 bytes of text with {client_id}, {topic} or a level such as \
             {topic[1]}",
        ],
    );
}

#[test]
fn durability_is_refused_when_it_is_no_class() {
    check(
        r#"
[[log]]
name = "a"
filters = ["a"]
durability = "interval:2m"
"#,
        &[
            "t.toml:4:14: log[0].durability: found \"interval:2m\" (its interval is out of \
             range); allowed: \"commit\", \"memory\", or \"interval:\" with a duration from \
             1ms to 60s such as \"interval:200ms\"",
        ],
    );
}

#[test]
fn retention_age_is_refused_when_it_is_out_of_range() {
    check(
        r#"
[[log]]
name = "a"
filters = ["a"]
retention = { bytes = "1MiB", age = "0s" }
"#,
        &[
            "t.toml:4:23: log[0].retention.bytes: found \"1MiB\"; allowed: a size from \
             \"2MiB\" to \"1024TiB\"",
            "t.toml:4:37: log[0].retention.age: found \"0s\" (is out of range); allowed: a \
             duration from \"1s\" to \"3650d\"",
        ],
    );
}

#[test]
fn bootstrap_is_refused_when_an_element_is_no_host_and_port() {
    check(
        r#"
gateway_id = "g"
[bridge]
bootstrap = ["kafka-1", "kafka-2:9092", "::1"]
client_id = "a b"
[[bridge.route]]
name = "R"
log = "default"
topic = "a/b"
start = "latest"
"#,
        &[
            "t.toml:3:14: bridge.bootstrap[0]: found \"kafka-1\" (has no port (Kafka's own \
             default is 9092)); allowed: 1 to 64 of \"HOST:PORT\", IPv6 as \"[ADDRESS]:PORT\", \
             none twice",
            "t.toml:3:41: bridge.bootstrap[2]: found \"::1\" (an IPv6 address stands in \
             brackets); allowed: 1 to 64 of \"HOST:PORT\", IPv6 as \"[ADDRESS]:PORT\", none \
             twice",
            "t.toml:4:13: bridge.client_id: found \"a b\" (' ' is not allowed in it); allowed: \
             1 to 249 of A-Z, a-z, 0-9, ., _ and -",
            "t.toml:6:8: bridge.route[0].name: found \"R\" ('R' is not allowed in it); \
             allowed: 1 to 64 of a-z, 0-9, _ and -, unique among the routes",
            "t.toml:8:9: bridge.route[0].topic: found \"a/b\" ('/' is not allowed in it); \
             allowed: 1 to 249 of A-Z, a-z, 0-9, ., _ and -, but not . or ..",
            "t.toml:9:9: bridge.route[0].start: found \"latest\"; allowed: \"earliest\" or \
             \"now\"",
        ],
    );
}

#[test]
fn long_value_is_cut() {
    let text = format!("gateway_id = \"{}\"\n", "é".repeat(500));
    check(
        &text,
        &["t.toml:1:14: gateway_id: found \
             \"éééééééééééééééééééééééééééééééééééééééééééééééééééééééééééé…\" ('é' is not \
             allowed in it); allowed: 1 to 64 of A-Z, a-z, 0-9, ., _ and -"],
    );
}
