//! READY, STATUS, STOPPING, and more time for a start that takes long.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};

use rustix::process::Signal;
use tests::gateway::{Around, Gateway, LOOPBACK};
use tests::mqtt::{Client, Connect, Publish, SUCCESS, Version};
use tests::supervised::ExitCode;
use tests::{ports, skip};

use crate::model;
use crate::notices::Notices;

#[test]
fn ready_is_told_when_the_listeners_accept_and_stopping_when_it_ends() {
    let notices = Notices::new();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, ports::free().unwrap()));
    let configuration =
        format!("[[listener]]\nbind = \"{address}\"\n[admin]\nbind = \"127.0.0.1:0\"\n");
    let around = notices.around(Around::default(), None);
    let mut gateway = Gateway::spawn(around, &configuration).unwrap();
    assert_eq!(notices.next().trim(), "READY=1");
    // Without trying again.
    let client = Client::connect(address, &Connect::new(Version::V5, "c")).unwrap();
    notices.status("1 connections, ");
    drop(client);
    notices.status("0 connections, 0 messages/s");
    gateway.process().unwrap().signal(Signal::TERM).unwrap();
    let (stopping, _) = notices.until("STOPPING", |line| line == "STOPPING=1");
    assert_eq!(stopping, "STOPPING=1\nSTATUS=ending\n");
    assert_eq!(gateway.wait_end().unwrap(), ExitCode(0));
}

#[test]
fn status_tells_of_the_uplink_and_of_what_waits_for_it() {
    let model = model::model(&["t"]);
    let (notices, bootstrap) = (Notices::new(), model.address());
    let configuration = format!(
        "gateway_id = \"gw\"\n{LOOPBACK}\n[bridge]\nbootstrap = [\"{bootstrap}\"]\n\
         request_timeout = \"1s\"\nbackoff_max = \"1s\"\n\
         [[bridge.route]]\nname = \"r\"\nlog = \"default\"\ntopic = \"t\"\n"
    );
    let around = notices.around(Around::default(), None);
    let gateway = Gateway::start_around(around, &configuration).unwrap();
    notices.status("uplink: up, lag 0 records");
    model.stall();
    let mut client = gateway.client("c").unwrap();
    for _ in 0..3 {
        let publish = Publish::new("t", "payload");
        assert_eq!(client.publish_acknowledged(publish).unwrap(), SUCCESS);
    }
    notices.status("uplink: down since ");
    notices.status(", 3 records wait");
    model.resume();
    notices.status("uplink: up, lag 0 records");
}

#[test]
fn start_that_takes_long_says_how_far_it_is_and_asks_for_more_time() {
    const DELAY: [&str; 4] = [
        "-e",
        "trace=openat",
        "-e",
        "inject=openat:delay_enter=60000",
    ];
    let Some(slow) = skip::unless(Around::tampered(&DELAY)) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let configuration =
        format!("data_dir = {data:?}\n{LOOPBACK}\n[storage]\nsegment_bytes = \"1MiB\"\n");
    let in_data = |around: Around| Around {
        data_dir: Some(data.clone()),
        ..around
    };
    let mut gateway = Gateway::start_around(in_data(Around::default()), &configuration).unwrap();
    let mut client = gateway.client("c").unwrap();
    for _ in 0..80 {
        let publish = Publish::new("t", vec![7; 100_000]);
        assert_eq!(client.publish_acknowledged(publish).unwrap(), SUCCESS);
    }
    assert_eq!(gateway.end(Signal::TERM).unwrap(), ExitCode(0));
    // Without the index every segment is read.
    fs::remove_dir_all(data.join("meta")).unwrap();

    let notices = Notices::new();
    let around = notices.around(in_data(slow), None);
    let mut gateway = Gateway::spawn(around, &configuration).unwrap();
    let is_ready = |line: &str| line == "READY=1";
    let (_, before) = notices.until("READY", is_ready);
    let extensions = before.iter().filter(|notice| {
        notice.contains("EXTEND_TIMEOUT_USEC=300000000\nSTATUS=recovering: segment ")
    });
    assert!(extensions.count() >= 2, "{before:?}");
    let mut segments: Vec<_> = before.iter().map(String::as_str).collect();
    segments.dedup();
    assert_eq!(
        segments.len(),
        before.len(),
        "asked without progress: {before:?}"
    );
    assert_eq!(gateway.end(Signal::TERM).unwrap(), ExitCode(0));
}
