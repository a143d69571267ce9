//! A sealed segment that cannot be read: whoever reads it is told, and everything else goes on.

use std::fs;

use tests::command_line::{Ended, tidegate};
use tests::gateway::{Around, Gateway};
use tests::mqtt::{Publish, SUCCESS, Version};
use tests::supervised::ExitCode;

use crate::place::{Place, end};

fn start(place: &Place) -> Gateway {
    let configuration = format!(
        "{}[storage]\nsegment_bytes = \"1MiB\"\n",
        place.configuration()
    );
    Gateway::spawn(place.supervised(Around::default()), &configuration).unwrap()
}

/// Fills several segments.
fn fill(place: &Place) {
    let mut client = place.client(Version::V5, "filler");
    for number in 0..60 {
        let payload = format!("{number}-{}", "x".repeat(50_000));
        let code = client.publish_acknowledged(Publish::new("kept/a", &payload));
        assert_eq!(code.unwrap(), SUCCESS);
    }
}

/// Reads the oldest record.
fn read(place: &Place) -> Ended {
    let admin = place.admin.to_string();
    let arguments = [
        "log", "read", "kept", "--json", "--count", "1", "--admin", &admin,
    ];
    tidegate(&arguments).unwrap()
}

#[test]
fn reader_is_told_of_a_segment_that_cannot_be_read_and_the_broker_goes_on() {
    let place = Place::new();
    let mut gateway = start(&place);
    fill(&place);
    end(&mut gateway);
    // After a start, no sealed segment is open.
    let mut gateway = start(&place);
    place.publish("between");
    let segment = place.data.join("log/0000000001");
    let aside = place.scratch.path().join("aside");
    fs::rename(&segment, &aside).unwrap();

    let ended = read(&place);
    assert_eq!(ended.code, ExitCode(1), "{}", ended.stdout);
    assert!(ended.stderr.contains("log/0000000001"), "{}", ended.stderr);
    assert_eq!(place.get("/healthz").status, 200);
    place.publish("after");

    // It comes back, and nothing was passed over.
    fs::rename(&aside, &segment).unwrap();
    let ended = read(&place);
    assert!(ended.stdout.contains("\"0-xxx"), "{}", ended.stdout);
    end(&mut gateway);
}
