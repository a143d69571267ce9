//! The short form of `cargo xtask kill-loop`: nothing acknowledged is lost, no offset is used twice
//! while the product is killed under load and during its starts.

use tests::kill_loop::{self, Options};

fn options(acknowledge_early: bool) -> Options {
    Options {
        rounds: 12,
        clients: 6,
        seed: 3,
        acknowledge_early,
        program: None,
    }
}

#[test]
fn acknowledged_messages_are_there_in_order_when_the_product_is_killed() {
    let report = kill_loop::run(&options(false), |line| println!("{line}")).unwrap();
    println!("{report}");
}

/// The control: a loop that finds nothing here would find nothing anywhere.
#[test]
fn loss_is_found_when_messages_are_acknowledged_before_their_commit() {
    let error = kill_loop::run(&options(true), |_| {}).unwrap_err();
    let root = error.root_cause().to_string();
    assert!(root.contains("messages acknowledged, "), "{error:#}");
}
