//! The product as the suites use it: it starts, says where it listens, is killed, comes back at the
//! same addresses, and ends as it is told.

use std::net::TcpStream;

use tests::broker_process::{BrokerProcess, Options};
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
