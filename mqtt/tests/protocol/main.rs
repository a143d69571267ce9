//! Black-box tests of the crate: packets as raw bytes, properties of the codec, and the state
//! machine driven from outside.

// One `cfg` for each module, because the lints that are relaxed in tests look for it.
#[cfg(test)]
mod acknowledgements;
#[cfg(test)]
mod client;
#[cfg(test)]
mod connack;
#[cfg(test)]
mod connect;
#[cfg(test)]
mod connect_payload;
#[cfg(test)]
mod disconnect_and_auth;
#[cfg(test)]
mod fixed_header;
#[cfg(test)]
mod mqtt_3_1;
#[cfg(test)]
mod mutation;
#[cfg(test)]
mod packets;
#[cfg(test)]
mod publish;
#[cfg(test)]
mod raw;
#[cfg(test)]
mod reason_codes;
#[cfg(test)]
mod round_trip;
#[cfg(test)]
mod server_answer_room;
#[cfg(test)]
mod server_exactly_once;
#[cfg(test)]
mod server_farewell;
#[cfg(test)]
mod server_hand_over;
#[cfg(test)]
mod server_handshake;
#[cfg(test)]
mod server_inbound;
#[cfg(test)]
mod server_keep_alive;
#[cfg(test)]
mod server_outbound;
#[cfg(test)]
mod server_qos_2_inbound;
#[cfg(test)]
mod server_qos_2_model;
#[cfg(test)]
mod server_qos_2_outbound;
#[cfg(test)]
mod server_qos_2_random;
#[cfg(test)]
mod server_qos_2_states;
#[cfg(test)]
mod server_random;
#[cfg(test)]
mod server_requests;
#[cfg(test)]
mod server_sent_aliases;
#[cfg(test)]
mod server_suspension;
#[cfg(test)]
mod server_violations;
#[cfg(test)]
mod session_model;
#[cfg(test)]
mod strategies;
#[cfg(test)]
mod strings;
#[cfg(test)]
mod subscriptions;
