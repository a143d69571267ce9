//! Every configuration key: a test in which changing it changes what the running product does.
//!
//! [`TESTS`] says which test is whose; it is compared with the keys that the product reads. That a
//! value is read, checked and printed is the business of `firmware-config`'s own tests.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may stop at the first surprise"
)]

mod boards;
mod bridge;
mod clients;
mod listeners;
mod logs;
mod model;
mod storing;
mod subscribers;

use std::collections::BTreeSet;

use firmware_config::Availability;

/// Each key and its test.
const TESTS: &[(&str, fn())] = &[
    ("data_dir", storing::data_lies_where_data_dir_says),
    ("gateway_id", bridge::records_bear_the_gateway_id),
    ("unmapped", logs::unmapped_messages_go_where_unmapped_says),
    (
        "sys_interval",
        subscribers::sys_topics_come_as_often_as_sys_interval_says,
    ),
    ("board", boards::limits_are_those_of_the_board),
    (
        "memory_budget",
        boards::configuration_beyond_memory_budget_is_warned_of,
    ),
    (
        "share_policy",
        subscribers::shared_messages_go_where_the_policy_says,
    ),
    (
        "share[].group",
        subscribers::shared_messages_go_where_the_policy_says,
    ),
    (
        "share[].policy",
        subscribers::shared_messages_go_where_the_policy_says,
    ),
    ("listener[].kind", listeners::only_the_kind_mqtt_is_served),
    ("listener[].bind", listeners::listeners_are_where_bind_says),
    (
        "listener[].allow_anonymous",
        listeners::network_is_served_only_if_anonymous_clients_are_allowed,
    ),
    (
        "listener[].connections_max",
        listeners::connections_beyond_connections_max_are_closed,
    ),
    ("admin.enabled", listeners::admin_answers_only_if_enabled),
    ("admin.bind", listeners::admin_is_where_bind_says),
    (
        "storage.segment_bytes",
        storing::segments_are_closed_at_segment_bytes,
    ),
    (
        "storage.free_space_reserve",
        storing::publishes_are_refused_below_the_free_space_reserve,
    ),
    (
        "storage.flash_budget",
        storing::status_tells_the_flash_budget,
    ),
    (
        "storage.card_endurance",
        storing::status_tells_the_life_of_the_card_only_if_its_endurance_is_set,
    ),
    (
        "log[].linger",
        logs::lone_message_waits_as_long_as_linger_says,
    ),
    (
        "log[].on_full",
        storing::full_log_forgets_or_refuses_as_on_full_says,
    ),
    ("log[].name", logs::logs_take_what_their_keys_say),
    ("log[].filters", logs::logs_take_what_their_keys_say),
    ("log[].partitions", logs::logs_take_what_their_keys_say),
    ("log[].key", logs::logs_take_what_their_keys_say),
    (
        "log[].durability",
        logs::acknowledgement_comes_when_durability_says,
    ),
    (
        "log[].retention.bytes",
        storing::records_go_beyond_retention_bytes,
    ),
    (
        "log[].retention.age",
        storing::records_go_beyond_retention_age,
    ),
    (
        "limits.packet_bytes_max",
        clients::packets_beyond_packet_bytes_max_end_the_connection,
    ),
    (
        "limits.receive_maximum",
        clients::connack_tells_receive_maximum_and_keep_alive,
    ),
    (
        "limits.inflight_max",
        subscribers::no_more_than_inflight_max_is_sent_before_an_acknowledgement,
    ),
    (
        "limits.mailbox_bytes_max",
        subscribers::messages_beyond_mailbox_bytes_max_do_not_wait,
    ),
    (
        "limits.all_mailboxes_bytes_max",
        subscribers::messages_beyond_all_mailboxes_bytes_max_do_not_wait,
    ),
    (
        "limits.commit_queue_bytes_max",
        clients::publishers_wait_when_commit_queue_bytes_max_are_on_their_way,
    ),
    (
        "limits.retained_bytes_max",
        subscribers::retained_messages_beyond_the_limits_are_refused,
    ),
    (
        "limits.retained_count_max",
        subscribers::retained_messages_beyond_the_limits_are_refused,
    ),
    (
        "limits.subscriptions_per_client_max",
        subscribers::subscriptions_beyond_the_limit_are_refused,
    ),
    (
        "limits.topic_levels_max",
        subscribers::filters_and_topics_beyond_topic_levels_max_are_refused,
    ),
    (
        "limits.topic_alias_sent_max",
        subscribers::topics_have_no_more_aliases_than_topic_alias_sent_max,
    ),
    (
        "limits.accept_rate_max",
        listeners::connections_beyond_accept_rate_max_wait,
    ),
    (
        "limits.connect_timeout",
        clients::silent_connections_are_closed_after_connect_timeout,
    ),
    (
        "limits.keep_alive_max",
        clients::connack_tells_receive_maximum_and_keep_alive,
    ),
    (
        "limits.session_expiry_max",
        clients::connack_tells_session_expiry_max,
    ),
    (
        "limits.sessions_max",
        clients::sessions_beyond_sessions_max_are_refused,
    ),
    (
        "bridge.bootstrap",
        bridge::cluster_is_asked_where_bootstrap_says,
    ),
    (
        "bridge.client_id",
        bridge::cluster_is_asked_where_bootstrap_says,
    ),
    (
        "bridge.request_timeout",
        bridge::silent_cluster_is_left_after_request_timeout,
    ),
    (
        "bridge.backoff_max",
        bridge::attempts_are_no_further_apart_than_backoff_max,
    ),
    (
        "bridge.checkpoint_interval",
        bridge::position_is_written_within_checkpoint_interval,
    ),
    (
        "bridge.batch_bytes_max",
        bridge::batches_are_no_larger_than_batch_bytes_max,
    ),
    (
        "bridge.route[].name",
        bridge::routes_bring_what_their_keys_say,
    ),
    (
        "bridge.route[].log",
        bridge::routes_bring_what_their_keys_say,
    ),
    (
        "bridge.route[].topic",
        bridge::routes_bring_what_their_keys_say,
    ),
    (
        "bridge.route[].start",
        bridge::routes_bring_what_their_keys_say,
    ),
];

#[test]
fn every_key_has_a_test() {
    let read: BTreeSet<String> = firmware_config::keys()
        .into_iter()
        .filter(|key| key.availability == Availability::Available)
        .map(|key| key.path)
        .collect();
    let tested: BTreeSet<String> = TESTS.iter().map(|(key, _)| (*key).to_owned()).collect();
    let untested: Vec<_> = read.difference(&tested).collect();
    let unknown: Vec<_> = tested.difference(&read).collect();
    assert!(
        untested.is_empty() && unknown.is_empty(),
        "keys without a test: {untested:?}; tests of keys that are not read: {unknown:?}"
    );
    assert_eq!(TESTS.len(), tested.len(), "a key stands in the table twice");
}
