//! File descriptors that run out: at work, and at the start.

use tests::gateway::{Around, Gateway};
use tests::mqtt::{Publish, SUCCESS, Version};

use crate::place::{Place, STORE_FAILED, end, failing};

/// With segments so small that new files are needed soon.
fn start(place: &Place, around: Around) -> Gateway {
    let configuration = format!(
        "{}[storage]\nsegment_bytes = \"1MiB\"\n",
        place.configuration()
    );
    Gateway::spawn(place.supervised(around), &configuration).unwrap()
}

/// Publishes one by one until the connection ends; what was acknowledged.
fn fill_until_the_end(place: &Place, name: &str) -> Vec<String> {
    let mut client = place.client(Version::V5, name);
    let mut acknowledged = Vec::new();
    for number in 0..2_000 {
        let payload = format!("{name}-{number}-{}", "x".repeat(50_000));
        match client.publish_acknowledged(Publish::new("kept/a", &payload)) {
            Ok(SUCCESS) => acknowledged.push(payload),
            Ok(code) => panic!("{code:#x}"),
            Err(_) => return acknowledged,
        }
    }
    panic!("100 MB went without a new file");
}

/// Only the opening of files fails, from the seventieth of each thread on: nothing needs a file until a
/// segment is full.
#[test]
fn files_that_cannot_be_opened_lead_to_one_restart_and_then_to_degraded_mode() {
    let Some(around) = failing("openat", "EMFILE", 110) else {
        return;
    };
    let place = Place::new();
    let mut gateway = place.start(Around::default());
    place.publish("before");
    end(&mut gateway);

    let mut gateway = start(&place, around.clone());
    let mut acknowledged = fill_until_the_end(&place, "first");
    assert_eq!(gateway.wait_end().unwrap(), STORE_FAILED);
    let log = gateway.log();
    assert!(
        log.lines().last().unwrap().contains("Too many open files"),
        "{log}"
    );

    let mut gateway = start(&place, around);
    acknowledged.extend(fill_until_the_end(&place, "second"));
    place.expect_degraded(&gateway, "the store failed again soon after a restart");
    end(&mut gateway);

    let mut gateway = place.start(Around::default());
    place.publish("after");
    end(&mut gateway);
    acknowledged.extend(["before".to_owned(), "after".to_owned()]);
    place.expect_all(&acknowledged);
}

#[test]
fn start_without_files_is_served_degraded_and_loses_nothing() {
    let Some(around) = failing("openat", "EMFILE", 30) else {
        return;
    };
    let place = Place::new();
    let mut gateway = place.start(Around::default());
    place.publish("before");
    end(&mut gateway);

    let mut gateway = place.start(around);
    place.expect_degraded(&gateway, "Too many open files");
    end(&mut gateway);

    let mut gateway = place.start(Around::default());
    place.publish("after");
    end(&mut gateway);
    place.expect_all(&["before".to_owned(), "after".to_owned()]);
}
