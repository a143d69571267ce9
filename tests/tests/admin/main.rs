//! What a person or a supervisor sees of a running gateway: the admin server, `tidegate status` and
//! `tidegate log`.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may stop at the first surprise"
)]

mod log_command;
mod metrics;
mod requests;
mod status;

use tests::gateway::Gateway;
use tests::mqtt::{Publish, SUCCESS};

/// Publishes with QoS 1 and waits for the acknowledgements.
fn publish(gateway: &Gateway, topic: &str, payloads: &[&[u8]]) {
    let mut client = gateway.client("publisher").unwrap();
    for payload in payloads {
        let publish = Publish::new(topic, payload);
        assert_eq!(client.publish_acknowledged(publish).unwrap(), SUCCESS);
    }
}
