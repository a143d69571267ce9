//! Starts that are refused: what stands in the way is named, with its holder and the remedy, the
//! exit status tells a supervisor whether to try again, and nothing is touched.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "allowed in tests; the lints do not see that functions shared by tests are tests"
)]

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fd::OwnedFd;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};
use tempfile::TempDir;
use tests::broker_process::{BrokerProcess, Options, binary};
use tests::command_line::{Ended, run, tidegate};
use tests::mqtt::{Client, Connect, Publish, SUCCESS, Version};
use tests::ports;
use tests::supervised::ExitCode;

/// Something is in use that may be free later (EX_TEMPFAIL).
const IN_USE: i32 = 75;
/// Starting again does not help (EX_CONFIG).
const CONFIGURATION: i32 = 78;

/// A folder with a configuration of which everything is fine.
struct Place {
    scratch: TempDir,
    mqtt: SocketAddr,
    admin: SocketAddr,
}

impl Place {
    fn new() -> Self {
        let address = || SocketAddr::from(([127, 0, 0, 1], ports::free().unwrap()));
        Self {
            scratch: tempfile::tempdir().unwrap(),
            mqtt: address(),
            admin: address(),
        }
    }

    fn data(&self) -> PathBuf {
        self.scratch.path().join("data")
    }

    /// Runs the product to its end with this data folder.
    fn run(&self, data: &Path) -> Ended {
        let configuration = format!(
            "data_dir = {data:?}\n[[listener]]\nbind = \"{}\"\n[admin]\nbind = \"{}\"\n",
            self.mqtt, self.admin
        );
        self.run_with(configuration.as_bytes())
    }

    /// Runs the product to its end with this configuration.
    fn run_with(&self, configuration: &[u8]) -> Ended {
        let path = self.scratch.path().join("tidegate.toml");
        fs::write(&path, configuration).unwrap();
        tidegate(&["run", "--config", path.to_str().unwrap()]).unwrap()
    }

    /// The configuration with more lines behind it, which has problems: `run` and `check` both say
    /// them all and only them, and nothing is made or bound.
    fn expect_problems(&self, configuration: &str, problems: &[&str]) {
        let run = self.run_with(configuration.as_bytes());
        expect(&run, CONFIGURATION, problems);
        let path = self.scratch.path().join("tidegate.toml");
        let check = tidegate(&["check", "--config", path.to_str().unwrap()]).unwrap();
        expect(&check, CONFIGURATION, problems);
        let name = path.display().to_string();
        let count = run
            .stderr
            .lines()
            .filter(|line| line.starts_with(&name))
            .count();
        assert_eq!(count, problems.len(), "{}", run.stderr);
        assert!(!self.data().exists());
    }
}

fn expect(ended: &Ended, code: i32, texts: &[&str]) {
    assert_eq!(ended.code, ExitCode(code), "{}", ended.stderr);
    for text in texts {
        assert!(
            ended.stderr.contains(text),
            "no {text:?} in {}",
            ended.stderr
        );
    }
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    // The reason is the last thing that is said, in the words of the command line.
    assert!(ended.stderr.contains("\ntidegate: ") || ended.stderr.starts_with("tidegate: "));
}

/// Everything in a folder: kind, mode, time of change and contents, by path.
fn contents(folder: &Path) -> BTreeMap<PathBuf, (u32, i64, i64, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            let bytes = match metadata.is_dir() {
                true => Vec::new(),
                false => fs::read(&path).unwrap(),
            };
            if metadata.is_dir() {
                folders.push(path.clone());
            }
            let time = (metadata.mtime(), metadata.mtime_nsec());
            found.insert(path, (metadata.mode(), time.0, time.1, bytes));
        }
    }
    found
}

/// A socket that has an address and does not listen: the tables of listeners do not have it. No
/// process that another test starts meanwhile inherits it.
fn bound(address: SocketAddr) -> rustix::io::Result<OwnedFd> {
    let (family, kind) = (AddressFamily::INET, SocketType::STREAM);
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    bind(&socket, &address)?;
    Ok(socket)
}

/// A place one of whose addresses is bound. A port that was free may be another test's by now: then
/// another place.
fn place_with_bound(address: fn(&Place) -> SocketAddr) -> (Place, OwnedFd) {
    let mut places = (0..20).map(|_| Place::new());
    let bind = |place: Place| Some((bound(address(&place)).ok()?, place));
    let (holder, place) = places.find_map(bind).unwrap();
    (place, holder)
}

fn publish(broker: &BrokerProcess, payload: &str) {
    let connect = Connect::new(Version::V5, "publisher");
    let mut client = Client::connect(broker.mqtt(), &connect).unwrap();
    let publish = Publish::new("kept", payload).retained();
    assert_eq!(client.publish_acknowledged(publish).unwrap(), SUCCESS);
}

fn payloads(source: &[&str]) -> Vec<String> {
    let arguments = [&["log", "read", "default", "--json"], source].concat();
    let ended = tidegate(&arguments).unwrap();
    assert_eq!(ended.code, ExitCode(0), "{}", ended.stderr);
    let payload = |line: &str| {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        record["payload"].as_str().unwrap().to_owned()
    };
    ended.stdout.lines().map(payload).collect()
}

#[test]
fn foreign_folder_is_refused_untouched() {
    let place = Place::new();
    let photos = place.scratch.path().join("photos");
    fs::create_dir(&photos).unwrap();
    fs::write(photos.join("beach.jpg"), "sun").unwrap();
    let before = contents(&photos);
    let ended = place.run(&photos);
    let path = photos.display().to_string();
    let remedy = "name an empty or a new folder";
    expect(
        &ended,
        CONFIGURATION,
        &[&path, "is not a data folder", "beach.jpg", remedy],
    );
    assert_eq!(contents(&photos), before);

    // A FORMAT file that is not ours.
    fs::write(photos.join("FORMAT"), "A4, landscape\n").unwrap();
    let before = contents(&photos);
    let ended = place.run(&photos);
    expect(
        &ended,
        CONFIGURATION,
        &[&path, "FORMAT is not a tidegate format file"],
    );
    assert_eq!(contents(&photos), before);

    // A file in the place of a folder.
    let file = photos.join("beach.jpg");
    let ended = place.run(&file);
    assert_ne!(ended.code, ExitCode(0));
    assert!(
        ended.stderr.contains(&file.display().to_string()),
        "{}",
        ended.stderr
    );
    assert_eq!(contents(&photos), before);
}

#[test]
fn folder_of_a_newer_format_is_refused_untouched_and_opened_again_afterwards() {
    let place = Place::new();
    let options = Options {
        data_dir: Some(place.data()),
        ..Options::default()
    };
    let mut broker = BrokerProcess::start(options).unwrap();
    publish(&broker, "of format 1");
    assert_eq!(broker.terminate().unwrap(), ExitCode(0));

    let format = place.data().join("FORMAT");
    let of_today = fs::read_to_string(&format).unwrap();
    let of_tomorrow = of_today
        .replace("format 1\n", "format 2\n")
        .replace("needs tidegate 0.1.0", "needs tidegate 7.8.9");
    assert_ne!(of_today, of_tomorrow);
    fs::write(&format, &of_tomorrow).unwrap();
    let before = contents(&place.data());
    let data = place.data().display().to_string();
    let texts = [
        data.as_str(),
        "has format 2",
        "it needs tidegate 7.8.9 or newer",
    ];
    expect(&place.run(&place.data()), CONFIGURATION, &texts);
    for word in [&["list"][..], &["read", "default"]] {
        let arguments = [&["log"][..], word, &["--data", &data]].concat();
        let ended = tidegate(&arguments).unwrap();
        expect(&ended, CONFIGURATION, &texts);
    }
    assert_eq!(contents(&place.data()), before);

    fs::write(&format, of_today).unwrap();
    broker.restart().unwrap();
    publish(&broker, "again");
    let admin = broker.admin().to_string();
    let mut found = payloads(&["--admin", &admin]);
    found.sort();
    assert_eq!(found, ["again", "of format 1"]);
}

#[test]
fn folder_that_is_in_use_is_refused_with_its_holder() {
    let mut broker = BrokerProcess::start(Options::default()).unwrap();
    publish(&broker, "before");
    let data = broker.data_dir().display().to_string();
    let holder = broker.pid().unwrap().to_string();
    let place = Place::new();
    let remedy = "stop that process or name another folder";
    let texts = [data.as_str(), holder.as_str(), "is in use by", remedy];
    expect(&place.run(broker.data_dir()), IN_USE, &texts);
    // A look into it does not disturb it either, and the other way to look is named.
    let ended = tidegate(&["log", "list", "--data", &data]).unwrap();
    expect(
        &ended,
        IN_USE,
        &[&texts[..], &["--admin instead of --data"]].concat(),
    );

    publish(&broker, "after");
    let admin = broker.admin().to_string();
    assert_eq!(payloads(&["--admin", &admin]), ["before", "after"]);
    // What is left by a process that was killed is in nobody's use.
    broker.kill().unwrap();
    broker.restart().unwrap();
    publish(&broker, "after the kill");
    assert_eq!(payloads(&["--admin", &admin]).len(), 3);
}

#[test]
fn port_that_is_taken_is_refused_with_its_holder() {
    let broker = BrokerProcess::start(Options::default()).unwrap();
    let holder = format!("is held by process {} (tidegate)", broker.pid().unwrap());
    for taken in [broker.mqtt(), broker.admin()] {
        let mut place = Place::new();
        match taken == broker.mqtt() {
            true => place.mqtt = taken,
            false => place.admin = taken,
        }
        let port = format!("port {} ", taken.port());
        let remedy = "stop that process or configure another port";
        expect(&place.run(&place.data()), IN_USE, &[&port, &holder, remedy]);
        // The start that failed left nothing that keeps the next one from its folder.
        let options = Options {
            data_dir: Some(place.data()),
            ..Options::default()
        };
        publish(&BrokerProcess::start(options).unwrap(), "x");
    }
    publish(&broker, "undisturbed");
}

#[test]
fn port_that_is_taken_by_nobody_known_is_refused_as_in_use() {
    for address in [|place: &Place| place.mqtt, |place: &Place| place.admin] {
        let (place, _holder) = place_with_bound(address);
        let address = address(&place).to_string();
        expect(&place.run(&place.data()), IN_USE, &[&address, "in use"]);
    }
}

#[test]
fn data_folder_that_is_no_folder_is_refused() {
    let place = Place::new();
    let file = place.scratch.path().join("file");
    fs::write(&file, "of somebody").unwrap();
    let link = place.scratch.path().join("link");
    std::os::unix::fs::symlink("nowhere", &link).unwrap();
    for wrong in [&file, &link, &file.join("data")] {
        let ended = place.run(wrong);
        let what = "the data folder has to be a folder that this user may write";
        expect(&ended, CONFIGURATION, &[what, wrong.to_str().unwrap()]);
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "of somebody");
}

#[test]
fn choice_of_log_lines_that_is_none_is_refused() {
    let mut command = Command::new(binary().unwrap());
    command.args(["run", "--config", "/nowhere.toml"]);
    command.env("TIDEGATE_LOG", "broker=debug=info");
    let ended = run(&command).unwrap();
    let texts = ["TIDEGATE_LOG", "broker=debug=info", "allowed: a level"];
    expect(&ended, CONFIGURATION, &texts);
}

#[test]
fn configuration_that_cannot_be_read_is_named() {
    let place = Place::new();
    let folder = place.scratch.path().to_str().unwrap();
    let missing = format!("{folder}/missing.toml");
    for (path, reason) in [(missing.as_str(), "No such file"), (folder, "directory")] {
        for word in ["run", "check"] {
            let ended = tidegate(&[word, "--config", path]).unwrap();
            expect(&ended, CONFIGURATION, &[path, "read configuration", reason]);
        }
    }
    let ended = place.run_with(b"data_dir = \"caf\xe9\"\n");
    expect(&ended, CONFIGURATION, &["tidegate.toml", "UTF-8"]);
}

#[test]
fn configuration_with_a_syntax_error_is_refused_with_the_line() {
    let place = Place::new();
    place.expect_problems("data_dir = \"data\"\n\n[[listener\n", &["tidegate.toml:3:"]);
}

#[test]
fn all_problems_of_a_configuration_are_told_at_once_by_line() {
    let place = Place::new();
    let data = place.data();
    let configuration = format!(
        "data_dir = {data:?}\n\
         gateway_id = \"gate way\"\n\
         colour = \"blue\"\n\
         [[listener]]\n\
         bind = \"localhost:1883\"\n\
         tls = {{ certificate = \"a.pem\" }}\n\
         [[log]]\n\
         name = \"telemetry\"\n\
         filters = [\"sensors/#/x\"]\n\
         partitions = 0\n\
         [limits]\n\
         packet_bytes_max = \"a lot\"\n\
         devices_max = 5\n"
    );
    place.expect_problems(
        &configuration,
        &[
            "tidegate.toml:2:14: gateway_id: ",
            "tidegate.toml:3:1: colour: ",
            "tidegate.toml:5:8: listener[0].bind: ",
            "tidegate.toml:6:1: listener[0].tls: ",
            "tidegate.toml:9:12: log[0].filters",
            "tidegate.toml:10:14: log[0].partitions: ",
            "tidegate.toml:12:20: limits.packet_bytes_max: ",
            "tidegate.toml:13:1: limits.devices_max: ",
        ],
    );
}

#[test]
fn unknown_key_and_key_of_a_later_version_are_refused_by_name() {
    let place = Place::new();
    for (line, problem) in [
        (
            "colour = \"blue\"",
            "tidegate.toml:1:1: colour: unknown key",
        ),
        ("gatewayid = \"x\"", "`gateway_id`"),
        ("auth = true", "tidegate.toml:1:1: auth: "),
        (
            "[[listener]]\nkind = \"quic\"",
            "tidegate.toml:2:8: listener[0].kind: ",
        ),
        ("[bridge]\nsasl = 1", "tidegate.toml:2:1: bridge.sasl: "),
    ] {
        let ended = place.run_with(line.as_bytes());
        expect(&ended, CONFIGURATION, &[problem]);
    }
}

#[test]
fn listener_that_the_network_can_reach_is_refused_until_it_says_that_it_is_open() {
    let place = Place::new();
    let configuration = |more: &str| {
        format!(
            "data_dir = {:?}\n[[listener]]\nbind = \"0.0.0.0:{}\"\n{more}[admin]\nbind = \"{}\"\n",
            place.data(),
            place.mqtt.port(),
            place.admin
        )
    };
    place.expect_problems(&configuration(""), &["allow_anonymous"]);
    place.expect_problems(
        &configuration("allow_anonymous = false\n"),
        &["allow_anonymous"],
    );
    // Said in so many words, it is served; here it finds the port taken, which is the next thing
    // to go wrong.
    let _holder = bound(place.mqtt).unwrap();
    let open = configuration("allow_anonymous = true\n");
    expect(&place.run_with(open.as_bytes()), IN_USE, &["in use"]);
}

#[test]
fn wrong_command_line_is_refused_with_its_own_status() {
    for arguments in [&["run", "--no-such-option"][..], &["no-such-command"], &[]] {
        let ended = tidegate(arguments).unwrap();
        assert_eq!(ended.code, ExitCode(2), "{arguments:?}: {ended:?}");
        assert!(ended.stderr.contains("Usage: tidegate"), "{ended:?}");
    }
}
