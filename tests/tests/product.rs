//! The product as the suites use it: it starts, says where it listens, is killed, comes back at the
//! same addresses, and ends as it is told.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use tests::broker_process::{BrokerProcess, Options};
use tests::deadline;
use tests::mqtt::{Client, Connect, Publish, SUCCESS, Version};
use tests::supervised::ExitCode;

#[test]
fn product_answers_at_the_same_addresses_when_it_is_restarted_after_a_kill() {
    let mut broker = BrokerProcess::start(Options::default()).unwrap();
    let (mqtt, admin, first) = (broker.mqtt(), broker.admin(), broker.pid().unwrap());
    TcpStream::connect(mqtt).unwrap();
    assert!(broker.status().unwrap().is_object());
    broker.metrics().unwrap();

    broker.kill().unwrap();
    assert!(TcpStream::connect(mqtt).is_err());
    assert!(broker.pid().is_err());

    broker.restart().unwrap();
    assert_eq!((broker.mqtt(), broker.admin()), (mqtt, admin));
    assert_ne!(broker.pid().unwrap(), first);
    TcpStream::connect(mqtt).unwrap();

    assert_eq!(broker.terminate().unwrap(), ExitCode(0));
    assert!(!broker.log().is_empty());
}

#[test]
fn error_shows_the_log_when_the_product_refuses_to_start() {
    let options = Options {
        keys: String::from("no_such_key = 1"),
        ..Options::default()
    };
    let error = format!("{:#}", BrokerProcess::start(options).unwrap_err());
    assert!(
        error.contains("has ended") && error.contains("no_such_key"),
        "{error}"
    );
}

#[test]
fn sys_topics_tell_what_waits_for_a_cluster_that_is_not_there() {
    // Nobody listens on port 1.
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let mut options = Options::default().bridged(nowhere, &[("default", "machine")]);
    options.keys.push_str("\nsys_interval = \"1s\"\n");
    let broker = BrokerProcess::start(options).unwrap();
    let connect = Connect::new(Version::V5, "client");
    let mut client = Client::connect(broker.mqtt(), &connect).unwrap();
    for _ in 0..3 {
        let publish = Publish::new("machine/1", "x");
        assert_eq!(client.publish_acknowledged(publish).unwrap(), SUCCESS);
    }
    let topic = "$SYS/broker/tidegate/bridge/route/machine/lag_records";
    client.subscribe(topic).unwrap();
    deadline::wait_for("the lag", deadline::PATIENCE, || {
        let told = client.receive_publish()?;
        assert_eq!(told.topic, topic);
        Ok((told.payload == b"3").then_some(()))
    })
    .unwrap();
}
