//! Files: what is read from them, and what is said about those that cannot be.

use std::error::Error as _;
use std::fs;
use std::path::Path;

use firmware_config::{ByteCount, Config, LoadError, Machine, Position};

use crate::{CHECKS, config};

fn load(bytes: &[u8]) -> Result<Config, LoadError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tidegate.toml");
    fs::write(&path, bytes).unwrap();
    Config::from_file(&path, &CHECKS, &Machine::default())
}

/// The problems of a file, without the folder that it lay in.
#[track_caller]
fn refusal(bytes: &[u8]) -> String {
    let text = load(bytes).unwrap_err().to_string();
    let (_folder, problem) = text.split_once("tidegate.toml").expect("the file is named");
    problem.to_owned()
}

#[test]
fn ten_mistakes_in_a_file_are_ten_problems() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/ten-problems.toml");
    let Err(LoadError::Invalid(problems)) = Config::from_file(&path, &CHECKS, &Machine::default())
    else {
        panic!("the file is wrong");
    };
    let found: Vec<_> = problems
        .as_slice()
        .iter()
        .map(|problem| (problem.position.line, problem.key.as_str()))
        .collect();
    assert_eq!(
        found,
        [
            (2, "data_dir"),
            (3, "gatway_id"),
            (6, "listener[0].kind"),
            (7, "listener[0].bind"),
            (8, "listener[0].tls"),
            (11, "storage.segment_bytes"),
            (15, "log[0].filters[1]"),
            (16, "log[0].partitions"),
            (17, "log[0].retention.age"),
            (20, "log[1].name"),
        ]
    );
    assert_eq!(problems.file(), path.display().to_string());
}

#[test]
fn file_of_a_gateway_is_read() {
    let config = load(include_bytes!("../fixtures/gateway.toml")).unwrap();
    assert_eq!(config.data_dir, Path::new("/var/lib/tidegate"));
    let names: Vec<_> = config.logs.iter().map(|log| log.name.as_str()).collect();
    assert_eq!(names, ["telemetry", "default"]);
    assert_eq!(config.logs[0].retention.bytes, ByteCount::new(2 << 30));
    let bridge = config.bridge.unwrap();
    assert_eq!(bridge.bootstrap[0].to_string(), "kafka-1.example:9093");
    assert_eq!(bridge.routes[0].topic.as_str(), "plant7.telemetry");
}

#[test]
fn file_that_cannot_be_read_is_named_with_the_reason() {
    let path = Path::new("/nonexistent/tidegate.toml");
    let error = Config::from_file(path, &CHECKS, &Machine::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "read configuration /nonexistent/tidegate.toml"
    );
    assert!(
        error
            .source()
            .unwrap()
            .to_string()
            .starts_with("No such file")
    );
}

#[test]
fn file_that_is_no_text_is_refused_at_the_first_wrong_byte() {
    assert_eq!(
        refusal(b"# ok\nunmapped = \"\xff\"\n"),
        ":2:13: found the byte 0xff, which is no UTF-8; allowed: UTF-8 text"
    );
}

#[test]
fn file_of_endless_length_is_refused() {
    let bytes = vec![b'#'; 256 << 10];
    assert!(load(&bytes).is_ok());
    for more in [b"#".as_slice(), b"\xff"] {
        let longer = [&bytes[..], more].concat();
        assert_eq!(
            refusal(&longer),
            ":1:1: the file is too large; allowed: 256 KiB"
        );
    }
    let endless =
        Config::from_file(Path::new("/dev/zero"), &CHECKS, &Machine::default()).unwrap_err();
    assert_eq!(
        endless.to_string(),
        "/dev/zero:1:1: the file is too large; allowed: 256 KiB"
    );
}

#[test]
fn line_ends_and_byte_order_marks_of_other_systems_change_nothing() {
    let text = "unmapped = \"live-only\"\n[limits]\nreceive_maximum = 5\n";
    let other = format!("\u{feff}{}", text.replace('\n', "\r\n"));
    assert_eq!(config(&other), config(text));
    let wrong = other.replace('5', "0");
    assert!(refusal(wrong.as_bytes()).starts_with(":3:19: limits.receive_maximum: found 0;"));
}

#[test]
fn values_that_are_judged_later_know_where_they_stand() {
    let text = r##"
[[listener]]
bind = "[::1]:1883"

[[log]]
name = "a"
filters = [
    "b/#",
]
"##;
    let config = config(text);
    let at = |line, column| Some(Position { line, column });
    assert_eq!(config.listeners[0].bind.position, at(3, 8));
    assert_eq!(config.logs[0].name.position, at(6, 8));
    assert_eq!(config.logs[0].filters[0].position, at(8, 5));
    assert_eq!(config.admin.bind.position, None);
}

#[test]
fn order_of_tables_and_spelling_of_values_mean_nothing() {
    let a = r##"
data_dir = "x"
[storage]
segment_bytes = "16MiB"
[[log]]
name = "a"
filters = ["a"]
retention = { bytes = "64MiB", age = "48h" }
"##;
    let b = r##"
storage.segment_bytes = 0x100_0000
log = [{ retention.age = "2d", retention.bytes = 67108864, filters = ['a'], "name" = "a" }]
data_dir = """x"""
"##;
    assert_eq!(config(a), config(b));
}
