//! Rules between the addresses: the whole report, word for word.

use crate::check;

#[test]
fn listener_on_the_network_is_refused_without_allow_anonymous() {
    check(
        r#"
[[listener]]
bind = "0.0.0.0:1883"
[[listener]]
bind = "[2001:db8::1]:1884"
allow_anonymous = false
"#,
        &[
            "t.toml:2:8: listener[0].bind: found \"0.0.0.0:1883\", which the network can \
             reach, and this version cannot ask clients who they are; allowed: a loopback \
             address such as \"127.0.0.1:1883\", or `allow_anonymous = true` in this listener \
             to let everybody in",
            "t.toml:4:8: listener[1].bind: found \"[2001:db8::1]:1884\", which the network can \
             reach, and this version cannot ask clients who they are; allowed: a loopback \
             address such as \"127.0.0.1:1884\", or `allow_anonymous = true` in this listener \
             to let everybody in",
        ],
    );
}

#[test]
fn admin_on_the_network_is_refused() {
    check(
        r#"
[admin]
bind = "0.0.0.0:9080"
"#,
        &[
            "t.toml:2:8: admin.bind: found \"0.0.0.0:9080\", which the network can reach, and \
             this version cannot ask who is there; allowed: a loopback address such as \
             \"127.0.0.1:9080\"",
        ],
    );
}

#[test]
fn second_listener_on_the_same_address_is_refused() {
    check(
        r#"
[[listener]]
bind = "127.0.0.1:1883"
[[listener]]
bind = "0.0.0.0:1883"
allow_anonymous = true
"#,
        &[
            "t.toml:4:8: listener[1].bind: found \"0.0.0.0:1883\", but listener[0].bind is \
             \"127.0.0.1:1883\" (line 2); allowed: an address and port of its own",
        ],
    );
}

#[test]
fn listener_on_the_address_of_admin_is_refused() {
    check(
        r#"
[[listener]]
bind = "127.0.0.1:9080"
"#,
        &[
            "t.toml:2:8: listener[0].bind: found \"127.0.0.1:9080\", but admin.bind is \
             \"127.0.0.1:9080\" (the default); allowed: an address and port of its own",
        ],
    );
}

#[test]
fn admin_on_the_address_of_a_listener_is_refused() {
    check(
        r#"
[admin]
bind = "127.0.0.1:1883"
"#,
        &[
            "t.toml:2:8: admin.bind: found \"127.0.0.1:1883\", but listener[0].bind is \
             \"127.0.0.1:1883\" (the default); allowed: an address and port of its own",
        ],
    );
}

#[test]
fn admin_and_listener_on_one_address_are_refused_at_the_second() {
    check(
        r#"
[admin]
bind = "127.0.0.1:7"
[[listener]]
bind = "127.0.0.1:7"
"#,
        &[
            "t.toml:4:8: listener[0].bind: found \"127.0.0.1:7\", but admin.bind is \
             \"127.0.0.1:7\" (line 2); allowed: an address and port of its own",
        ],
    );
}

#[test]
fn kinds_of_later_listeners_are_refused_by_name() {
    let kinds = ["mqtts", "ws", "wss", "quic", "tcp"];
    let listener =
        |(n, kind)| format!("[[listener]]\nbind = \"127.0.0.1:{n}\"\nkind = \"{kind}\"\n");
    let text: String = kinds.into_iter().enumerate().map(listener).collect();
    check(
        &text,
        &[
            "t.toml:3:8: listener[0].kind: found \"mqtts\" (not available in this version); \
             allowed: \"mqtt\"",
            "t.toml:6:8: listener[1].kind: found \"ws\" (not available in this version); \
             allowed: \"mqtt\"",
            "t.toml:9:8: listener[2].kind: found \"wss\" (not available in this version); \
             allowed: \"mqtt\"",
            "t.toml:12:8: listener[3].kind: found \"quic\" (not available in this version); \
             allowed: \"mqtt\"",
            "t.toml:15:8: listener[4].kind: found \"tcp\"; allowed: \"mqtt\"",
        ],
    );
}
