//! `[[listener]]` and `[admin]`.

use std::net::TcpStream;

use tests::gateway::{Gateway, LOOPBACK, refused};
use tests::mqtt::{Client, Connect, Received, Version};
use tests::supervised::ExitCode;
use tests::{deadline, http, ports};

#[test]
pub(crate) fn only_the_kind_mqtt_is_served() {
    let with_kind =
        |kind: &str| format!("{LOOPBACK}\n[[listener]]\nbind = \"127.0.0.1:0\"\n{kind}");
    let gateway = Gateway::start(&with_kind("kind = \"mqtt\"")).unwrap();
    assert_eq!(gateway.listeners().len(), 2);
    let ended = refused(&with_kind("kind = \"mqtts\"")).unwrap();
    assert_eq!(ended.code, ExitCode(78), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("listener[1].kind"),
        "{}",
        ended.stderr
    );
}

#[test]
pub(crate) fn listeners_are_where_bind_says() {
    let [first, second, other] = [(); 3].map(|()| ports::free().unwrap());
    let configuration = format!(
        "[[listener]]\nbind = \"127.0.0.1:{first}\"\n[[listener]]\nbind = \"[::1]:{second}\"\n\
         [admin]\nbind = \"127.0.0.1:0\"\n"
    );
    let gateway = Gateway::start(&configuration).unwrap();
    for address in [format!("127.0.0.1:{first}"), format!("[::1]:{second}")] {
        let connect = Connect::new(Version::V5, "c");
        Client::connect(address.parse().unwrap(), &connect).unwrap();
    }
    for address in [format!("127.0.0.1:{second}"), format!("127.0.0.1:{other}")] {
        assert!(TcpStream::connect(&address).is_err(), "{address}");
    }
    drop(gateway);
}

#[test]
pub(crate) fn network_is_served_only_if_anonymous_clients_are_allowed() {
    let with = |allow: bool| {
        format!(
            "[[listener]]\nbind = \"0.0.0.0:0\"\nallow_anonymous = {allow}\n\
             [admin]\nenabled = false\n"
        )
    };
    let ended = refused(&with(false)).unwrap();
    assert_eq!(ended.code, ExitCode(78), "{}", ended.stderr);
    assert!(ended.stderr.contains("allow_anonymous"), "{}", ended.stderr);
    let gateway = Gateway::start(&with(true)).unwrap();
    let port = gateway.mqtt().unwrap().port();
    let connect = Connect::new(Version::V5, "c");
    Client::connect(([127, 0, 0, 1], port).into(), &connect).unwrap();
}

/// They wait, and nobody is refused.
#[test]
pub(crate) fn connections_beyond_accept_rate_max_wait() {
    for (limits, waited) in [("accept_rate_max = 1", 3.0), ("", 0.0)] {
        let gateway = Gateway::start(&format!("{LOOPBACK}\n[limits]\n{limits}\n")).unwrap();
        let _clients = ["a", "b", "c"].map(|name| gateway.client(name).unwrap());
        let labels = [("limit", "accept_rate_max")];
        let hits = gateway.metric("tidegate_broker_limit_hits_total", &labels);
        assert_eq!(hits.unwrap(), waited, "{limits}");
    }
}

#[test]
pub(crate) fn connections_beyond_connections_max_are_closed() {
    let gateway = Gateway::start(
        "[[listener]]\nbind = \"127.0.0.1:0\"\nconnections_max = 1\n\
         [[listener]]\nbind = \"127.0.0.1:0\"\nconnections_max = 2\n\
         [admin]\nbind = \"127.0.0.1:0\"\n",
    )
    .unwrap();
    let open = |index: usize, name: &str| {
        let mut client = Client::open(gateway.listeners()[index], Version::V5).unwrap();
        // A connection that was closed already may refuse to take it.
        let _ = client.send(&Connect::new(Version::V5, name).encode());
        let received = client.receive_within(deadline::PATIENCE).unwrap();
        (client, received == Received::End)
    };
    let (_one, is_closed) = open(0, "a");
    assert!(!is_closed);
    assert!(open(0, "b").1, "the second at the first listener");
    let (_two, is_closed) = open(1, "c");
    assert!(!is_closed);
    let (_three, is_closed) = open(1, "d");
    assert!(!is_closed);
    assert!(open(1, "e").1, "the third at the second listener");
    for address in gateway.listeners() {
        let labels = [("listener", &*address.to_string())];
        let refused = gateway
            .metric("tidegate_broker_connections_refused_total", &labels)
            .unwrap();
        assert_eq!(refused, 1.0);
    }
}

#[test]
pub(crate) fn admin_answers_only_if_enabled() {
    let port = ports::free().unwrap();
    let with = |enabled: bool| {
        format!(
            "[[listener]]\nbind = \"127.0.0.1:0\"\n\
             [admin]\nenabled = {enabled}\nbind = \"127.0.0.1:{port}\"\n"
        )
    };
    let mut gateway = Gateway::start(&with(true)).unwrap();
    http::get(gateway.admin().unwrap(), "/healthz").unwrap();
    gateway.restart(&with(false)).unwrap();
    assert!(gateway.admin().is_err());
    gateway.client("c").unwrap();
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
}

#[test]
pub(crate) fn admin_is_where_bind_says() {
    let [first, second] = [(); 2].map(|()| ports::free().unwrap());
    let at = |port: u16| {
        format!("[[listener]]\nbind = \"127.0.0.1:0\"\n[admin]\nbind = \"127.0.0.1:{port}\"\n")
    };
    let mut gateway = Gateway::start(&at(first)).unwrap();
    for (here, there) in [(first, second), (second, first)] {
        let answer = http::get(([127, 0, 0, 1], here).into(), "/healthz").unwrap();
        assert_eq!(answer.status, 200);
        assert!(TcpStream::connect(("127.0.0.1", there)).is_err());
        gateway.restart(&at(second)).unwrap();
    }
}
