//! The short form of `cargo xtask chaos`: nothing acknowledged is lost, reordered or doubled while
//! the product and Kafka are killed and the link fails.

use tests::chaos::{self, Options};
use tests::{kafka, python, skip};

#[test]
fn acknowledged_messages_are_in_kafka_once_and_in_order_when_anything_is_killed_or_cut() {
    let available = kafka::available().and_then(|_| python::available());
    let Some(_) = skip::unless(available) else {
        return;
    };
    let options = Options {
        messages: 20_000,
        clients: 50,
        kills: 3,
        // Among its faults are both in which Kafka forgets the producers.
        seed: 28,
        program: None,
    };
    let report = chaos::run(&options, |line| println!("{line}")).unwrap();
    println!("{report}");
    report.check().unwrap();
}
