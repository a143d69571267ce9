//! Persistent sessions of the real program: short forms of `cargo xtask sessions`, and the kills that a
//! session must outlive.

use std::time::Duration;

use anyhow::Result;
use tests::sessions::kill::{self, Options, Subscribers};
use tests::sessions::{latency, many, random, rare, slow};

fn options(subscribers: Subscribers) -> Options {
    Options {
        subscribers,
        count: 2,
        qos: 1,
        messages: 5_000,
        kills: 1,
        seed: 4,
        program: None,
    }
}

/// With QoS 1, and fewer with QoS 2; what was seen.
fn run(options: &Options) -> Result<String> {
    let exactly_once = Options {
        qos: 2,
        messages: options.messages / 5,
        ..options.clone()
    };
    let [first, second] = [options, &exactly_once].map(kill::run);
    Ok(format!("{}\n{}", first?, second?))
}

#[test]
fn five_thousand_acknowledged_messages_wait_for_a_session_when_the_product_is_killed() {
    println!("{}", run(&options(Subscribers::Away)).unwrap());
}

#[test]
fn nothing_is_lost_to_a_session_that_receives_when_the_product_is_killed() {
    let options = Options {
        kills: 3,
        ..options(Subscribers::There)
    };
    println!("{}", run(&options).unwrap());
}

#[test]
fn nothing_is_lost_to_sessions_that_come_and_go_when_the_product_is_killed() {
    let options = Options {
        count: 20,
        messages: 2_000,
        kills: 3,
        ..options(Subscribers::Moving)
    };
    println!("{}", run(&options).unwrap());
}

#[test]
fn each_of_many_sessions_gets_exactly_its_messages_when_all_return_after_kills() {
    let options = many::Options {
        sessions: 200,
        messages: 2_000,
        qos_max: 2,
        is_patient: false,
        seed: 5,
        program: None,
    };
    let report = many::run(&options, |line| println!("{line}")).unwrap();
    println!("{report}");
}

#[test]
fn nothing_is_lost_to_subscribers_at_a_tenth_of_the_rate() {
    for qos in [1, 2] {
        let options = slow::Options {
            time: Duration::from_secs(4),
            rate: 500,
            qos,
            program: None,
        };
        let report = slow::run(&options, |line| println!("{line}")).unwrap();
        println!("{report}");
    }
}

#[test]
fn each_session_gets_what_it_must_whatever_clients_do_and_when_the_product_is_killed() {
    for seed in [1, 2] {
        let options = random::Options {
            steps: 700,
            subscribers: 8,
            publishers: 4,
            steps_of_a_kill: 150,
            seed,
            program: None,
        };
        println!(
            "{}",
            random::run(&options, |line| println!("{line}")).unwrap()
        );
    }
}

#[test]
fn subscriber_of_a_rare_topic_has_little_of_a_large_log_read() {
    let options = rare::Options {
        log_mib: 160,
        program: None,
    };
    let report = rare::run(&options).unwrap();
    println!("{report}");
    let (rare, everything) = report.bytes_read().unwrap();
    assert!(rare < everything / 4.0, "{rare} of {everything}");
}

/// What is measured comes whole and in order; how fast is not judged.
#[test]
fn latency_can_be_measured() {
    let options = latency::Options {
        rounds: 1,
        live_messages: 50,
        backlog_messages: 300,
        backlog_time: Duration::from_secs(5),
        program: None,
    };
    let report = latency::run(&options, |line| println!("{line}")).unwrap();
    println!("{report}");
}
