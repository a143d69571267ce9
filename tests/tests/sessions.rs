//! Persistent sessions of the real program: short forms of `cargo xtask sessions`, and the kills that a
//! session must outlive.

use tests::sessions::kill::{self, Options, Subscribers};

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

fn run(options: &Options) {
    println!("{}", kill::run(options).unwrap());
}

#[test]
fn five_thousand_acknowledged_messages_wait_for_a_session_when_the_product_is_killed() {
    run(&options(Subscribers::Away));
}

#[test]
fn nothing_is_lost_to_a_session_that_receives_when_the_product_is_killed() {
    run(&Options {
        kills: 3,
        ..options(Subscribers::There)
    });
}

#[test]
fn nothing_is_lost_to_sessions_that_come_and_go_when_the_product_is_killed() {
    run(&Options {
        count: 20,
        messages: 2_000,
        kills: 3,
        ..options(Subscribers::Moving)
    });
}
