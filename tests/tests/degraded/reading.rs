//! A sealed segment that cannot be read: whoever reads it is told, and everything else goes on.

use std::fs;

use tests::command_line::{Ended, tidegate};
use tests::deadline::{PATIENCE, wait_for};
use tests::gateway::{Around, Gateway};
use tests::mqtt::{Publish, SUCCESS, Version};
use tests::supervised::ExitCode;

use crate::place::{Place, end, failing};

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

/// The bytes of every database of the log, wherever it lies now.
fn databases(place: &Place) -> Vec<Vec<u8>> {
    let folders = ["log", "quarantine"].map(|name| place.data.join(name));
    let directories = folders
        .iter()
        .flat_map(|folder| fs::read_dir(folder).unwrap());
    let files = directories.map(|entry| entry.unwrap().path().join("db"));
    files.filter_map(|file| fs::read(file).ok()).collect()
}

/// sled takes a block that it gets no answer for as empty: a start must not believe it.
#[test]
fn card_that_cannot_be_read_at_the_start_is_not_taken_for_an_empty_one() {
    // The loader of the program has the first ones.
    for first in [8, 20, 60] {
        let Some(around) = failing("pread64", "EIO", first) else {
            return;
        };
        let place = Place::new();
        let mut gateway = start(&place);
        fill(&place);
        end(&mut gateway);
        let before = databases(&place);

        let configuration = format!(
            "{}[storage]\nsegment_bytes = \"1MiB\"\n",
            place.configuration()
        );
        let mut gateway = Gateway::spawn(place.supervised(around), &configuration).unwrap();
        wait_for("what is wrong", PATIENCE, || {
            let status = place.status();
            let told = &status["last_start"]["events"];
            let is_told = told.as_array().is_some_and(|events| !events.is_empty());
            Ok((is_told || !status["degraded"].is_null()).then_some(()))
        })
        .unwrap();
        end(&mut gateway);
        let after = databases(&place);
        let holds = |bytes: &Vec<u8>| bytes.iter().filter(|byte| **byte == b'x').count() > 100_000;
        let [had, has] = [before, after].map(|all| all.into_iter().filter(holds).count());
        assert!(
            has >= had,
            "{first}: {has} of {had} databases are still there"
        );
    }
}
