//! `tidegate pub` and `tidegate sub`: an MQTT client for scripts and for a look at what flows, for
//! any broker, in both versions of the protocol.
//!
//! It stands on `rumqttc`, not on the codec of the broker, so that the two check each other. Habits
//! are those of mosquitto's clients, with one exception: success of `pub` with QoS 1 or 2 means that
//! the broker has answered for every message.

mod connection;
mod event;
mod failure;
mod input;
mod output;
mod publish;
mod reason;
mod subscribe;
mod tls;

use std::future::Future;

use anyhow::Context as _;
use tokio::task::LocalSet;

use crate::cli::client::{PubOptions, SubOptions};
use crate::exit::Failure;

/// Publishes.
pub(crate) fn publish(options: &PubOptions) -> Result<(), Failure> {
    run(publish::publish(options))
}

/// Subscribes and prints.
pub(crate) fn subscribe(options: &SubOptions) -> Result<(), Failure> {
    run(subscribe::subscribe(options))
}

fn run(command: impl Future<Output = anyhow::Result<()>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    let result = LocalSet::new().block_on(&runtime, command);
    // A look-up of a name may hang in a thread of its own; nobody waits for it any more.
    runtime.shutdown_background();
    Ok(result?)
}
