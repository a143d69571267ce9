//! Clients that are not ours, with the product: gmqtt, mosquitto_pub, mosquitto_sub and mosquitto_rr,
//! mqtt.js, paho-mqtt and rumqttc, each in every version of MQTT that it speaks.
//!
//! A scenario is written once, in the file of its name, and played with each client as the one that
//! it is about and the next of the ring as the other. `table` has what a client cannot do, and
//! `docs/clients.md` says the same to users.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "allowed in tests; the lints do not see that functions shared by tests are tests"
)]

mod connection;
mod delivering;
mod driver;
mod kafka;
mod large;
mod message;
mod mosquitto_client;
mod offline;
mod requests;
mod retained;
mod rumqttc_client;
mod shared;
mod stage;
mod table;
mod who;
mod wills;
