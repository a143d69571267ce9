//! The flash in `/status`: what is written, and what that means for the card.
//!
//! What is not known is null, never 0.

use serde::{Deserialize, Serialize};
use storage::{BudgetStatus, FlashStatus, FlashUse};

/// Days of a year.
const DAYS_OF_YEAR: f64 = 365.25;

#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct FlashPage {
    pub(crate) since_start: FlashUsePage,
    /// UTC days of the corrected clock.
    pub(crate) today: Option<FlashUsePage>,
    pub(crate) yesterday: Option<FlashUsePage>,
    pub(crate) average_day: Option<FlashUsePage>,
    /// What was written while the clock was not known.
    pub(crate) unknown_day: FlashUsePage,
    pub(crate) budget: Option<FlashBudgetPage>,
    /// What the owner says that the card takes in its life.
    pub(crate) card_endurance_bytes: Option<u64>,
    /// Years that the card lasts at the average day, by the endurance that the owner configured.
    pub(crate) card_years: Option<f64>,
}

#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct FlashUsePage {
    pub(crate) running_seconds: u64,
    pub(crate) records: u64,
    pub(crate) payload_bytes: u64,
    pub(crate) commits: u64,
    pub(crate) commit_bytes: u64,
    pub(crate) written_bytes: u64,
    pub(crate) dirtied_bytes: Option<u64>,
    pub(crate) syncs: u64,
    /// Dirtied bytes for a byte of payload.
    pub(crate) dirtied_per_payload_byte: Option<f64>,
}

#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct FlashBudgetPage {
    pub(crate) bytes_per_day: u64,
    pub(crate) rate_bytes_per_day: Option<u64>,
    pub(crate) exceeded: bool,
    pub(crate) linger_ms: u64,
}

impl FlashPage {
    pub(crate) fn of(flash: &FlashStatus, card_endurance: Option<u64>) -> Self {
        let page = |used: Option<FlashUse>| used.as_ref().map(FlashUsePage::of);
        let average = flash.average_day.and_then(|day| day.dirtied_bytes);
        let years = card_endurance
            .zip(average)
            .filter(|(_, day)| *day > 0)
            .map(|(endurance, day)| endurance as f64 / day as f64 / DAYS_OF_YEAR);
        Self {
            since_start: FlashUsePage::of(&flash.since_start),
            today: page(flash.today),
            yesterday: page(flash.yesterday),
            average_day: page(flash.average_day),
            unknown_day: FlashUsePage::of(&flash.unknown_day),
            budget: flash.budget.map(FlashBudgetPage::of),
            card_endurance_bytes: card_endurance,
            card_years: years.map(rounded),
        }
    }
}

impl FlashUsePage {
    fn of(used: &FlashUse) -> Self {
        let per_byte = used
            .dirtied_bytes
            .filter(|_| used.payload_bytes > 0)
            .map(|dirtied| rounded(dirtied as f64 / used.payload_bytes as f64));
        Self {
            running_seconds: used.running_ms / 1000,
            records: used.records,
            payload_bytes: used.payload_bytes,
            commits: used.commits,
            commit_bytes: used.commit_bytes,
            written_bytes: used.written_bytes,
            dirtied_bytes: used.dirtied_bytes,
            syncs: used.syncs,
            dirtied_per_payload_byte: per_byte,
        }
    }
}

impl FlashBudgetPage {
    fn of(budget: BudgetStatus) -> Self {
        Self {
            bytes_per_day: budget.bytes_per_day,
            rate_bytes_per_day: budget.rate_bytes_per_day,
            exceeded: budget.exceeded,
            linger_ms: u64::try_from(budget.linger.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// Two places behind the point.
fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(payload_bytes: u64, dirtied_bytes: Option<u64>) -> FlashUse {
        FlashUse {
            running_ms: 5_000,
            records: 1,
            payload_bytes,
            commits: 1,
            commit_bytes: 0,
            written_bytes: 0,
            dirtied_bytes,
            syncs: 1,
        }
    }

    fn status(average_day: Option<FlashUse>) -> FlashStatus {
        FlashStatus {
            since_start: used(0, Some(4096)),
            today: None,
            yesterday: None,
            average_day,
            unknown_day: used(100, None),
            budget: None,
        }
    }

    #[test]
    fn what_is_not_known_is_null_and_never_0() {
        let page = FlashPage::of(&status(None), Some(1));
        let json = serde_json::to_value(page).unwrap();
        for path in [
            "/since_start/dirtied_per_payload_byte",
            "/today",
            "/unknown_day/dirtied_bytes",
            "/unknown_day/dirtied_per_payload_byte",
            "/card_years",
        ] {
            assert!(json.pointer(path).unwrap().is_null(), "{path}: {json}");
        }
    }

    #[test]
    fn life_of_the_card_is_told_only_if_its_endurance_is_known() {
        let day = status(Some(used(1_000_000, Some(3_000_000_000))));
        let years = |endurance| FlashPage::of(&day, endurance).card_years;
        assert_eq!(years(Some(30_000_000_000_000)), Some(27.38));
        assert_eq!(years(None), None);
    }
}
