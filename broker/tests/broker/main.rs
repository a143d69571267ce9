//! The broker over real sockets and a real store: what clients see, and what is in the log.

// One `cfg` for each module, because the lints that are relaxed in tests look for it.
#[cfg(test)]
mod aliases;
#[cfg(test)]
mod back_pressure;
#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod catching_up;
#[cfg(test)]
mod client_identifiers;
#[cfg(test)]
mod connack_contents;
#[cfg(test)]
mod connecting;
#[cfg(test)]
mod degraded;
#[cfg(test)]
mod ending;
#[cfg(test)]
mod exactly_once;
#[cfg(test)]
mod expiry_across_restarts;
#[cfg(test)]
mod filters_refused;
#[cfg(test)]
mod forwarding;
#[cfg(test)]
mod gathering;
#[cfg(test)]
mod good_byes;
#[cfg(test)]
mod in_flight_expiry;
#[cfg(test)]
mod in_flight_in_no_log;
#[cfg(test)]
mod last_words;
#[cfg(test)]
mod level_3;
#[cfg(test)]
mod limits_counted;
#[cfg(test)]
mod lingering;
#[cfg(test)]
mod mailboxes;
#[cfg(test)]
mod matching;
#[cfg(test)]
mod missing;
#[cfg(test)]
mod options_kept;
#[cfg(test)]
mod overlapping;
#[cfg(test)]
mod packet_identifiers;
#[cfg(test)]
mod publishing;
#[cfg(test)]
mod refused_connects;
#[cfg(test)]
mod refused_deliveries;
#[cfg(test)]
mod replay;
#[cfg(test)]
mod resubscribing;
#[cfg(test)]
mod retained_owed;
#[cfg(test)]
mod retained_stays;
#[cfg(test)]
mod retaining;
#[cfg(test)]
mod session_changes;
#[cfg(test)]
mod session_lasting;
#[cfg(test)]
mod session_resends;
#[cfg(test)]
mod session_states;
#[cfg(test)]
mod sessions;
#[cfg(test)]
mod shared;
#[cfg(test)]
mod shared_policies;
#[cfg(test)]
mod shared_qos;
#[cfg(test)]
mod shared_too_large;
#[cfg(test)]
mod slow_subscribers;
#[cfg(test)]
mod subscribing;
#[cfg(test)]
mod support;
#[cfg(test)]
mod sys_topics;
#[cfg(test)]
mod taken_over;
#[cfg(test)]
mod unsubscribing;
#[cfg(test)]
mod wills_in_full;
#[cfg(test)]
mod wills_kept;
