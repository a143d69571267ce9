//! Rules of the bridge and its routes: the whole report, word for word.

use crate::check;

#[test]
fn route_of_an_unknown_log_is_refused() {
    check(
        r#"
gateway_id = "g"
[[log]]
name = "a"
filters = ["a"]
[bridge]
bootstrap = ["k:1"]
[[bridge.route]]
name = "r"
log = "b"
topic = "t"
"#,
        &[
            "t.toml:9:7: bridge.route[0].log: found \"b\", and no log has that name; allowed: \
             \"a\", \"default\"",
        ],
    );
}

#[test]
fn route_of_a_memory_log_is_refused() {
    check(
        r#"
gateway_id = "g"
[[log]]
name = "a"
filters = ["a"]
durability = "memory"
[bridge]
bootstrap = ["k:1"]
[[bridge.route]]
name = "r"
log = "a"
topic = "t"
"#,
        &[
            "t.toml:10:7: bridge.route[0].log: found \"a\", a log with `durability = \
             \"memory\"`, which keeps nothing that could be replicated; allowed: the name of a \
             log that is stored",
        ],
    );
}

#[test]
fn route_with_the_name_of_another_is_refused() {
    check(
        r#"
gateway_id = "g"
[bridge]
bootstrap = ["k:1"]
[[bridge.route]]
name = "r"
log = "default"
topic = "t"
[[bridge.route]]
name = "r"
log = "default"
topic = "u"
"#,
        &[
            "t.toml:9:8: bridge.route[1].name: found \"r\", which bridge.route[0].name is \
             already (line 5); allowed: 1 to 64 of a-z, 0-9, _ and -, unique among the routes",
        ],
    );
}

#[test]
fn second_route_from_a_log_to_the_same_topic_is_refused() {
    check(
        r#"
gateway_id = "g"
[bridge]
bootstrap = ["k:1"]
[[bridge.route]]
name = "r"
log = "default"
topic = "t"
[[bridge.route]]
name = "s"
log = "default"
topic = "t"
"#,
        &[
            "t.toml:11:9: bridge.route[1].topic: found \"t\", but bridge.route[0] takes log \
             \"default\" there already (line 7); allowed: one route for each log and topic",
        ],
    );
}

#[test]
fn bridge_without_gateway_id_is_refused() {
    check(
        r#"
[bridge]
bootstrap = ["k:1"]
[[bridge.route]]
name = "r"
log = "default"
topic = "t"
"#,
        &[
            "t.toml:1:1: gateway_id: missing, and a bridge is configured: every record \
             upstream bears this name; allowed: 1 to 64 of A-Z, a-z, 0-9, ., _ and -",
        ],
    );
}

#[test]
fn bridge_without_brokers_or_routes_is_refused() {
    check(
        r#"
gateway_id = "g"
[bridge]
bootstrap = []
route = []
"#,
        &[
            "t.toml:3:13: bridge.bootstrap: found none; allowed: 1 to 64 of \"HOST:PORT\", \
             IPv6 as \"[ADDRESS]:PORT\", none twice",
            "t.toml:4:9: bridge.route: found a list (of 0 elements); allowed: 1 to 64 tables, \
             each `[[bridge.route]]`",
        ],
    );
}

#[test]
fn template_of_a_topic_is_refused_as_later_work() {
    check(
        r#"
gateway_id = "g"
[bridge]
bootstrap = ["k:1"]
[[bridge.route]]
name = "r"
log = "default"
topic = "telemetry.{site}"
"#,
        &[
            "t.toml:7:9: bridge.route[0].topic: found \"telemetry.{site}\" (a template is not \
             available in this version); allowed: 1 to 249 of A-Z, a-z, 0-9, ., _ and -, but \
             not . or ..",
        ],
    );
}
