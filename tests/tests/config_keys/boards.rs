//! `board` and `memory_budget`.

use tests::deadline::{PATIENCE, wait_for};
use tests::gateway::{Gateway, LOOPBACK};
use tests::mqtt::{Publish, SUCCESS};

/// "Quota exceeded" of MQTT 5.
const QUOTA_EXCEEDED: u8 = 0x97;

fn start(keys: &str) -> Gateway {
    Gateway::start(&format!("{keys}\n{LOOPBACK}")).unwrap()
}

/// Retained messages may have 4 MiB on the smallest board, 16 elsewhere.
#[test]
pub(crate) fn limits_are_those_of_the_board() {
    for (board, is_refused) in [("pi-zero-2w", true), ("x86-64", false)] {
        let gateway = start(&format!("board = \"{board}\""));
        let mut client = gateway.client("c").unwrap();
        let mut retain = |number: u32| {
            let publish = Publish::new(&format!("t/{number}"), vec![0; 200 << 10]).retained();
            client.publish_acknowledged(publish).unwrap()
        };
        let last = if is_refused { QUOTA_EXCEEDED } else { SUCCESS };
        let codes: Vec<_> = (0..21).map(&mut retain).collect();
        assert_eq!((codes[0], codes[20]), (SUCCESS, last), "{board}");
    }
}

#[test]
pub(crate) fn configuration_beyond_memory_budget_is_warned_of() {
    let warning = "may take more memory than its budget";
    let small = start("memory_budget = \"64MiB\"");
    wait_for("the warning", PATIENCE, || {
        Ok(small.log().contains(warning).then_some(()))
    })
    .unwrap();
    let mut client = small.client("c").unwrap();
    let publish = Publish::new("t", "payload");
    let code = client.publish_acknowledged(publish).unwrap();
    assert_eq!(code, SUCCESS, "it serves all the same");
    let large = start("memory_budget = \"1TiB\"");
    wait_for("the other warning", PATIENCE, || {
        let is_told = large.log().contains("memory_budget is more than there is");
        Ok(is_told.then_some(()))
    })
    .unwrap();
    assert!(!large.log().contains(warning));
}
