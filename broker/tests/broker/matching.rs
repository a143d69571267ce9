//! Topic names and filters are compared as they are: nothing is normalized, folded or left out.

use crate::support::{BOTH, Setup, TestBroker};

/// Look alike, and are all different.
const NAMES: [&str; 14] = [
    "finance",
    "Finance",
    "/finance",
    "finance/",
    "finance//",
    "/",
    "//",
    " finance",
    "finance ",
    "\u{feff}finance",
    // é as one character and as two.
    "caf\u{e9}",
    "cafe\u{301}",
    // Full-width, and with a character of no width.
    "\u{ff46}inance",
    "fin\u{200b}ance",
];

#[test]
fn filter_without_wildcards_gets_its_own_name_and_no_other() {
    let broker = TestBroker::start(Setup::default());
    for version in BOTH {
        let mut subscribers: Vec<_> = (0..NAMES.len())
            .map(|number| {
                let mut client = broker.client(version, &format!("{number}"));
                client.subscribe(NAMES[number]);
                client
            })
            .collect();
        let mut publisher = broker.client(version, "publisher");
        for name in NAMES {
            publisher.publish_acknowledged(name, name);
        }
        for (subscriber, name) in subscribers.iter_mut().zip(NAMES) {
            let received = subscriber.receive_publish();
            assert_eq!(received.topic.unwrap().as_str(), name);
            assert_eq!(received.payload, name);
            subscriber.expect_nothing();
        }
    }
}

#[test]
fn wildcards_stand_for_whole_levels_also_empty_ones() {
    let broker = TestBroker::start(Setup::default());
    for version in BOTH {
        for (filter, expected) in [
            ("+", &["finance", "Finance"][..]),
            ("/+", &["/finance", "/"]),
            ("+/", &["finance/", "/"]),
            ("+/+", &["/finance", "finance/", "/"]),
            ("finance/#", &["finance", "finance/", "finance//"]),
            ("finance/+", &["finance/"]),
            ("+/+/#", &["/finance", "finance/", "finance//", "/", "//"]),
        ] {
            let mut subscriber = broker.client(version, "subscriber");
            subscriber.subscribe(filter);
            let mut publisher = broker.client(version, "publisher");
            for name in &NAMES[..7] {
                publisher.publish_acknowledged(name, name);
            }
            let received = subscriber.receive_payloads(expected.len());
            assert_eq!(received, expected, "{version:?}: {filter}");
            subscriber.expect_nothing();
        }
    }
}

/// As long as a string can be; what is longer has no length.
#[test]
fn longest_names_and_filters_are_like_others() {
    let broker = TestBroker::start(Setup::default());
    let longest = "x".repeat(65_535);
    for version in BOTH {
        let mut subscriber = broker.client(version, "subscriber");
        subscriber.subscribe(&longest);
        let mut publisher = broker.client(version, "publisher");
        publisher.publish_acknowledged(&longest[1..], "shorter");
        publisher.publish_acknowledged(&longest, "longest");
        assert_eq!(subscriber.receive_payloads(1), ["longest"]);
        subscriber.expect_nothing();
    }
}
