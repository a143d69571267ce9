//! What a session was not given because the log has it no more: retention or damage took it before
//! the session read it (`rules.md` 3.9). It is counted, logged, and told to the client.
//!
//! Commits are shared by all logs, so that only a range of commits can be told, and that messages
//! for the session may have been in it. How many is not known; each commit may have had several.

use std::time::Instant;

use mqtt::{TopicFilter, UserProperty, Utf8String};
use storage::{CommitNumber, GapReason, LogId, Missing};

use crate::log_routing::{LogRouting, LogTarget};
use crate::router::Router;
use crate::scan::Scan;
use crate::session::Filters;

/// The user property of the message behind what is missing (MQTT 5).
pub(crate) const PROPERTY: &str = "tidegate-missing";

/// What its client was not told yet. What comes meanwhile is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MissingReport {
    from: CommitNumber,
    to: CommitNumber,
    reason: GapReason,
}

impl MissingReport {
    /// Both as one, with the reason of the first.
    pub(crate) fn with(self, later: Self) -> Self {
        Self {
            from: self.from.min(later.from),
            to: self.to.max(later.to),
            reason: self.reason,
        }
    }

    /// As the client gets it.
    pub(crate) fn property(self) -> Option<UserProperty> {
        let (first, last) = (self.from, self.to.0.saturating_sub(1));
        let value = format!(
            "reason={};commits={first}-{last};at-most={}",
            self.reason.as_str(),
            self.to.0.saturating_sub(self.from.0),
        );
        Some(UserProperty {
            name: Utf8String::try_from(PROPERTY).ok()?,
            value: Utf8String::try_from(value.as_str()).ok()?,
        })
    }
}

impl Router {
    /// The scan passes over what is missing: the sessions that may have wanted some of it are told.
    pub(crate) fn report_missing(&self, now: Instant, scan: &Scan, all: &[Missing]) {
        for reader in scan.takers() {
            let filters = reader.state.filters.borrow();
            for missing in all {
                let Some(asked) = asks_from(&filters, missing.log, &self.options.routing) else {
                    continue;
                };
                let report = MissingReport {
                    from: missing.from.max(asked),
                    to: missing.to,
                    reason: missing.reason,
                };
                let mut outbound = reader.state.outbound.borrow_mut();
                let Some(report) = outbound.report_missing(report) else {
                    continue;
                };
                self.counters.missing_reports.increment();
                if let Some(left_out) = self.log_limits.missing.pass(now) {
                    let client_id = reader.state.client_id();
                    let (from, to) = (report.from, report.to);
                    let commits_max = to.0.saturating_sub(from.0);
                    let reason = report.reason.as_str();
                    tracing::warn!(
                        client_id, %from, %to, commits_max, reason, left_out,
                        "Messages for a session may be missing in the log."
                    );
                }
            }
        }
    }
}

impl MissingReport {
    /// What of it lies at or behind `next`, and was not told before, which ended at `told`.
    pub(crate) fn rest(self, next: CommitNumber, told: CommitNumber) -> Option<Self> {
        let from = self.from.max(next).max(told);
        (from < self.to).then_some(Self { from, ..self })
    }

    /// Behind the last commit.
    pub(crate) fn to(self) -> CommitNumber {
        self.to
    }
}

/// The first commit of which the filters ask for messages of this log, or of any.
fn asks_from(filters: &Filters, log: Option<LogId>, routing: &LogRouting) -> Option<CommitNumber> {
    let asking = filters.iter().filter(|(filter, subscribed)| {
        subscribed.asks_for_stored() && log.is_none_or(|log| may_go_to(routing, log, filter))
    });
    asking.map(|(_, subscribed)| subscribed.from).min()
}

/// Whether a message that the filter matches may be in this log.
fn may_go_to(routing: &LogRouting, log: LogId, filter: &TopicFilter) -> bool {
    let of_log = routing
        .routes
        .iter()
        .filter(|route| matches!(&route.target, LogTarget::Stored(stored) if stored.log == log));
    routing.default_log.log == log
        || of_log
            .flat_map(|route| &route.filters)
            .any(|of_log| overlap(of_log.filter(), filter.filter()))
}

/// Whether some topic name may match both filters.
fn overlap(a: &str, b: &str) -> bool {
    let (mut a, mut b) = (a.split('/'), b.split('/'));
    loop {
        match (a.next(), b.next()) {
            (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
            (Some(a), Some(b)) if a == "+" || b == "+" || a == b => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_overlap_if_a_topic_name_can_match_both() {
        for (a, b) in [
            ("a/#", "a"),
            ("+/b", "a/+"),
            ("#", "x"),
            ("a/b", "a/b"),
            ("a/+/c", "a/#"),
        ] {
            assert!(overlap(a, b) && overlap(b, a), "{a} {b}");
        }
        for (a, b) in [("a", "b"), ("a/+", "a"), ("a/b/#", "a/c"), ("+", "a/b")] {
            assert!(!overlap(a, b) && !overlap(b, a), "{a} {b}");
        }
    }

    #[test]
    fn report_names_what_was_not_told_before() {
        let report = MissingReport {
            from: CommitNumber(3),
            to: CommitNumber(9),
            reason: GapReason::Retention,
        };
        let rest = |next, told| report.rest(CommitNumber(next), CommitNumber(told));
        assert_eq!(rest(1, 0), Some(report));
        assert_eq!(rest(5, 0).map(|rest| rest.from), Some(CommitNumber(5)));
        assert_eq!(rest(5, 7).map(|rest| rest.from), Some(CommitNumber(7)));
        assert_eq!(rest(9, 0), None);
        assert_eq!(rest(1, 9), None);
        let property = report.property().unwrap();
        assert_eq!(
            property.value.as_str(),
            "reason=retention;commits=3-8;at-most=6"
        );
    }
}
