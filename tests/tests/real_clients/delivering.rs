//! What one client leaves behind reaches another: retained messages, wildcards, wills.

use std::process::{Command, Stdio};

use serde_json::Value;
use tests::broker_process::{BrokerProcess, Options};
use tests::deadline::{PATIENCE, wait_for};
use tests::mqtt::Version;
use tests::python::{self, Script};
use tests::{mosquitto, skip};

use crate::rumqttc_client;
use crate::who::{Program, Who, mosquitto_version};

/// Topic, payload, RETAIN flag and QoS, as a subscriber tells them.
pub(crate) type Seen = (String, String, bool, u8);

fn seen(topic: &str, payload: &str, retain: bool, qos: u8) -> Seen {
    (topic.to_owned(), payload.to_owned(), retain, qos)
}

fn clients() -> Result<(), String> {
    python::available()?;
    mosquitto::clients()?;
    Ok(())
}

/// A broker; nothing of it goes to Kafka.
fn broker() -> BrokerProcess {
    BrokerProcess::start(Options::default()).unwrap()
}

/// What mosquitto_sub printed of messages.
fn of_mosquitto(text: &str) -> Vec<Seen> {
    let of_line = |line: &str| match line.splitn(4, ' ').collect::<Vec<_>>()[..] {
        [topic, retain, qos, payload] => seen(topic, payload, retain == "1", qos.parse().unwrap()),
        _ => panic!("mosquitto_sub printed {line:?}"),
    };
    text.lines().map(of_line).collect()
}

fn mosquitto_sub(port: u16, version: Version, filter: &str, qos: u8) -> Command {
    let (_, mosquitto_sub) = mosquitto::clients().unwrap();
    let mut command = Command::new(mosquitto_sub);
    command
        .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-t", filter])
        .args(["-V", mosquitto_version(version), "-W", "100"])
        .args(["-q", &qos.to_string(), "-F", "%t %r %q %p"]);
    command
}

/// What mqtt_subscribe.py printed of messages.
fn of_paho(lines: &[Value]) -> Vec<Seen> {
    let of_line = |line: &Value| {
        let (topic, payload) = (line["topic"].as_str()?, line["payload"].as_str()?);
        let qos = u8::try_from(line["qos"].as_u64()?).unwrap();
        Some(seen(topic, payload, line["retain"].as_bool()?, qos))
    };
    lines.iter().filter_map(of_line).collect()
}

fn paho_arguments(port: u16, version: Version, filter: &str, count: usize) -> Vec<String> {
    let (port, level) = (port.to_string(), version.level().to_string());
    let count = count.to_string();
    [
        &port,
        "--filter",
        filter,
        "--protocol",
        &level,
        "--count",
        &count,
    ]
    .map(str::to_owned)
    .to_vec()
}

fn paho_sub(port: u16, version: Version, filter: &str, qos: u8, count: usize) -> Script {
    let mut arguments = paho_arguments(port, version, filter, count);
    arguments.extend(["--qos".to_owned(), qos.to_string()]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let script = Script::spawn("mqtt_subscribe.py", &arguments).unwrap();
    wait_for("paho's SUBACK", PATIENCE, || {
        Ok((!script.printed()?.is_empty()).then_some(()))
    })
    .unwrap();
    script
}

fn sorted(mut list: Vec<Seen>) -> Vec<Seen> {
    list.sort();
    list
}

fn publish_one(who: Who, port: u16, topic: &str, retain: bool) {
    let Who {
        program,
        version,
        qos,
    } = who;
    let payload = format!("from {program:?}");
    match program {
        Program::Mosquitto => {
            let flags: &[&str] = if retain { &["-r"] } else { &[] };
            who.mosquitto_pub(port, topic, &[flags, &["-m", &payload]].concat(), "");
        }
        Program::Paho => {
            let (port, level) = (port.to_string(), version.level().to_string());
            let mut arguments = vec![&*port, "--topic", topic, "--protocol", &level];
            let qos = qos.to_string();
            arguments.extend(["--payload", &payload, "--qos", &qos]);
            arguments.extend(retain.then_some("--retain"));
            python::run("mqtt_publish.py", &arguments, PATIENCE).unwrap();
        }
        Program::Rumqttc => {
            let publish = rumqttc_client::Publish {
                client_id: "rumqttc-publishes",
                topic,
                qos,
                retain,
                payloads: &[payload],
            };
            rumqttc_client::publish(port, version, &publish);
        }
    }
}

/// Subscribes with every client in every version before and after `publish`, and compares.
#[test]
fn retained_messages_of_every_client_reach_every_other_by_wildcard() {
    let Some(()) = skip::unless(clients()) else {
        return;
    };
    let broker = broker();
    let port = broker.mqtt().port();
    for version in Version::BOTH {
        let level = version.level();
        let topic = |program: Program| format!("kept/v{level}/{program:?}/state");
        let mut expected = Vec::new();
        let who = |program| Who {
            program,
            version,
            qos: 1,
        };
        for program in Program::ALL {
            publish_one(who(program), port, &topic(program), true);
            let payload = format!("from {program:?}");
            expected.push(seen(&topic(program), &payload, true, 1));
        }
        // Nobody is to get this one: it is taken away again.
        let gone = format!("kept/v{level}/gone/state");
        let who = who(Program::Mosquitto);
        publish_one(who, port, &gone, true);
        who.mosquitto_pub(port, &gone, &["-r", "-n"], "");

        for filter in [format!("kept/v{level}/+/state"), format!("kept/v{level}/#")] {
            let by_mosquitto = mosquitto_sub(port, version, &filter, 1)
                .args(["-C", "3"])
                .output()
                .unwrap();
            let by_mosquitto = of_mosquitto(&String::from_utf8(by_mosquitto.stdout).unwrap());
            assert_eq!(sorted(by_mosquitto), expected, "mosquitto_sub, {filter}");
            let by_paho = paho_sub(port, version, &filter, 1, 3);
            let by_paho = of_paho(&by_paho.finish(PATIENCE).unwrap());
            assert_eq!(sorted(by_paho), expected, "paho, {filter}");
            let by_rumqttc = rumqttc_client::subscribe(port, version, (&filter, 1), 3, || {});
            assert_eq!(sorted(by_rumqttc), expected, "rumqttc, {filter}");
        }
    }
}

#[test]
fn messages_of_every_client_reach_subscribers_of_every_other_live() {
    let Some(()) = skip::unless(clients()) else {
        return;
    };
    let broker = broker();
    let port = broker.mqtt().port();
    for version in Version::BOTH {
        for qos in [0, 1] {
            check_live(&broker, port, version, qos);
        }
    }
}

/// Three subscribers of this version with this QoS, and a message of everybody.
fn check_live(broker: &BrokerProcess, port: u16, version: Version, qos: u8) {
    let topic = |who: Who| format!("live/{}", who.client_id());
    let expected = Who::all().map(|who| {
        let payload = format!("from {:?}", who.program);
        seen(&topic(who), &payload, false, who.qos.min(qos))
    });
    let expected = sorted(expected.collect());
    let count = expected.len();
    let by_paho = paho_sub(port, version, "live/+", qos, count);
    let by_mosquitto = mosquitto_sub(port, version, "live/#", qos)
        .args(["-C", &count.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let number = |field: &str, wanted: u64| {
        wait_for(field, PATIENCE, || {
            let number = &broker.status()?["broker"][field];
            Ok((number == wanted).then_some(()))
        })
        .unwrap();
    };
    let by_rumqttc = rumqttc_client::subscribe(port, version, ("live/#", qos), count, || {
        number("subscriptions", 3);
        for who in Who::all() {
            publish_one(who, port, &topic(who), false);
        }
    });
    let by_mosquitto = by_mosquitto.wait_with_output().unwrap();
    let by_mosquitto = of_mosquitto(&String::from_utf8(by_mosquitto.stdout).unwrap());
    let by_paho = of_paho(&by_paho.finish(PATIENCE).unwrap());
    let about = format!("{version:?}, QoS {qos}");
    assert_eq!(sorted(by_mosquitto), expected, "mosquitto_sub, {about}");
    assert_eq!(sorted(by_paho), expected, "paho, {about}");
    assert_eq!(sorted(by_rumqttc), expected, "rumqttc, {about}");
    number("sessions", 0);
}

#[test]
fn wills_of_every_client_reach_every_other_when_it_dies() {
    let Some(()) = skip::unless(clients()) else {
        return;
    };
    let broker = broker();
    let port = broker.mqtt().port();
    for version in Version::BOTH {
        let subscribers = paho_sub(port, version, "wills/#", 1, 3);
        let will = |program: Program| format!("wills/{program:?}");
        let sessions = |wanted: u64| {
            wait_for("the sessions", PATIENCE, || {
                let sessions = &broker.status()?["broker"]["sessions"];
                Ok((sessions == wanted).then_some(()))
            })
            .unwrap();
        };

        let mut dying = mosquitto_sub(port, version, "nothing", 1)
            .args(["--will-topic", &will(Program::Mosquitto)])
            .args(["--will-payload", "mosquitto is dead", "--will-qos", "1"])
            .spawn()
            .unwrap();
        sessions(2);
        dying.kill().unwrap();
        dying.wait().unwrap();
        sessions(1);

        let mut arguments = paho_arguments(port, version, "nothing", 1);
        let (topic, payload) = (will(Program::Paho), "paho is dead".to_owned());
        arguments.extend(["--will-topic".to_owned(), topic]);
        arguments.extend(["--will-payload".to_owned(), payload]);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let dying = Script::spawn("mqtt_subscribe.py", &arguments).unwrap();
        sessions(2);
        drop(dying);
        sessions(1);

        // Not `wills/#`: a will is delivered after its commit, which may end after the session.
        let topic = will(Program::Rumqttc);
        let by_rumqttc = rumqttc_client::subscribe(port, version, (&topic, 1), 1, || {
            rumqttc_client::die_with_will(port, version, &topic, "rumqttc is dead");
        });
        let last = seen("wills/Rumqttc", "rumqttc is dead", false, 1);
        assert_eq!(by_rumqttc, std::slice::from_ref(&last));

        let expected = [
            seen("wills/Mosquitto", "mosquitto is dead", false, 1),
            seen("wills/Paho", "paho is dead", false, 1),
            last,
        ];
        let found = of_paho(&subscribers.finish(PATIENCE).unwrap());
        assert_eq!(found, expected, "{version:?}");
        sessions(0);
    }
}
