//! The admin server as an HTTP server: what it answers, and that nobody can hold it up.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use tests::deadline::{PATIENCE, retry, wait_for};
use tests::gateway::{Around, Gateway, LOOPBACK};
use tests::mqtt::{Client, Connect, Version};
use tests::{http, ports};

fn open(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends bytes; the beginning of what is answered before the server closes.
fn ask(server: SocketAddr, request: &[u8]) -> String {
    let mut stream = open(server);
    // The server may close before it has taken everything.
    let _ = stream.write_all(request);
    let mut answer = vec![0; 1024];
    let len = stream.read(&mut answer).unwrap_or(0);
    String::from_utf8_lossy(&answer[..len]).into_owned()
}

#[test]
fn health_and_readiness_say_ok_when_messages_are_taken() {
    let gateway = Gateway::start(LOOPBACK).unwrap();
    for path in ["/healthz", "/readyz"] {
        let answer = retry("ok", PATIENCE, || {
            let answer = http::get(gateway.admin().unwrap(), path).unwrap();
            if answer.status == 200 {
                Ok(answer)
            } else {
                Err(answer.body)
            }
        });
        assert_eq!(answer.unwrap().body, "ok\n");
    }
}

#[test]
fn readiness_comes_after_the_listeners() {
    for _ in 0..5 {
        let [mqtt, admin] =
            [(); 2].map(|()| SocketAddr::from(([127, 0, 0, 1], ports::free().unwrap())));
        let configuration =
            format!("[[listener]]\nbind = \"{mqtt}\"\n[admin]\nbind = \"{admin}\"\n");
        let _gateway = Gateway::spawn(Around::default(), &configuration).unwrap();
        wait_for("readiness", PATIENCE, || {
            let answer = http::get(admin, "/readyz");
            Ok(answer
                .is_ok_and(|answer| answer.status == 200)
                .then_some(()))
        })
        .unwrap();
        let connect = Connect::new(Version::V5, "c");
        Client::connect(mqtt, &connect).expect("ready means that clients may come");
    }
}

#[test]
fn readiness_says_why_and_health_stays_when_the_disk_is_full() {
    let full = "[storage]\nfree_space_reserve = \"1024TiB\"\n";
    let gateway = Gateway::start(&format!("{LOOPBACK}\n{full}")).unwrap();
    gateway
        .wait_metric("tidegate_log_takes_messages", &[], |value| value == 0.0)
        .unwrap();
    let admin = gateway.admin().unwrap();
    let ready = http::get(admin, "/readyz").unwrap();
    assert_eq!(ready.status, 503);
    assert!(ready.body.contains("disk is full"), "{}", ready.body);
    assert_eq!(http::get(admin, "/healthz").unwrap().status, 200);
    assert_eq!(
        gateway.json("/status").unwrap()["store"]["health"],
        "disk full"
    );
}

#[test]
fn unknown_paths_and_methods_are_refused_with_what_there_is() {
    let gateway = Gateway::start(LOOPBACK).unwrap();
    let admin = gateway.admin().unwrap();
    let unknown = http::get(admin, "/nothing").unwrap();
    assert_eq!(unknown.status, 404);
    assert!(unknown.body.contains("/healthz"), "{}", unknown.body);
    for method in ["POST", "DELETE", "PUT"] {
        // The body that is announced never comes.
        let request = format!("{method} /status HTTP/1.1\r\nHost: h\r\nContent-Length: 99\r\n\r\n");
        let answer = ask(admin, request.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
        assert!(
            answer.to_ascii_lowercase().contains("allow: get, head"),
            "{answer}"
        );
    }
    let head = ask(
        admin,
        b"HEAD /status HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
    );
    assert!(
        head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"),
        "{head}"
    );
    for (query, what) in [
        ("", "log=NAME is missing"),
        ("log=default&from=x", "from=x is no number"),
        ("log=default&until=5", "`until` is unknown"),
    ] {
        let answer = http::get(admin, &format!("/log/read?{query}")).unwrap();
        assert_eq!(answer.status, 400, "{query}");
        assert!(answer.body.contains(what), "{}", answer.body);
    }
}

#[test]
fn malformed_and_oversized_requests_are_refused() {
    let gateway = Gateway::start(LOOPBACK).unwrap();
    let admin = gateway.admin().unwrap();
    let long_path = format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "a".repeat(100 << 10));
    let many_headers = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(5_000));
    let endless = format!("GET / HTTP/1.1\r\na: {}", "b".repeat(4 << 20));
    let requests: [&[u8]; 6] = [
        b"\x10\x0f\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x02me\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /healthz HTTP/9.9\r\n\r\n",
        long_path.as_bytes(),
        many_headers.as_bytes(),
        endless.as_bytes(),
    ];
    for request in requests {
        let answer = ask(admin, request);
        let begin = String::from_utf8_lossy(&request[..30.min(request.len())]).into_owned();
        let is_refused = answer.is_empty() || answer.starts_with("HTTP/1.1 4");
        assert!(is_refused, "{begin:?} was answered with {answer}");
    }
    assert_eq!(http::get(admin, "/healthz").unwrap().status, 200);
}

#[test]
fn server_answers_when_more_connections_are_silent_than_it_has() {
    let gateway = Gateway::start(LOOPBACK).unwrap();
    let admin = gateway.admin().unwrap();
    let mut silent: Vec<_> = (0..80).map(|_| open(admin)).collect();
    for stream in silent.iter_mut().step_by(2) {
        stream.write_all(b"GET /healthz HTT").unwrap();
    }
    // As soon as those are thrown out.
    retry("an answer", PATIENCE, || {
        let answer = http::get(admin, "/healthz")?;
        anyhow::ensure!(answer.status == 200, "{}", answer.body);
        anyhow::Ok(())
    })
    .unwrap();
    // And MQTT did not notice.
    gateway.client("c").unwrap().ping().unwrap();
}

#[test]
fn server_answers_when_others_do_not_read_what_they_asked_for() {
    let gateway = Gateway::start(LOOPBACK).unwrap();
    let admin = gateway.admin().unwrap();
    // More than fits between the two.
    let payload = vec![b'x'; 200 << 10];
    super::publish(&gateway, "t", &[payload.as_slice(); 60]);
    let mut deaf: Vec<_> = (0..32).map(|_| open(admin)).collect();
    for stream in &mut deaf {
        let request = b"GET /log/read?log=default&count=10000 HTTP/1.1\r\nHost: h\r\n\r\n";
        stream.write_all(request).unwrap();
    }
    retry("an answer", PATIENCE, || {
        let answer = http::get(admin, "/healthz")?;
        anyhow::ensure!(answer.status == 200, "{}", answer.body);
        anyhow::Ok(())
    })
    .unwrap();
    drop(deaf);
    let resident = gateway
        .metric("tidegate_process_resident_memory_bytes", &[])
        .unwrap();
    assert!(resident < 512e6, "{resident} bytes of memory");
}
