//! Sealed segments that were found damaged since the start, for whoever watches the gateway.
//!
//! Readers pass over damage, and nothing else may ever ask for what was there; so whoever meets it
//! (a reader, evacuation, `log verify`, the look before a segment is opened) notes it here.
//!
//! Invariants: only sealed segments that the index has stand here; each is told in the log once.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::segment_name::SegmentName;

/// Names that status gives.
const NAMES_MAX: usize = 8;

/// Sealed segments that were found damaged since the start and are still part of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DamagedSegments {
    /// How many.
    pub count: usize,
    /// Names of the directories in `log/` of the oldest of them, at most eight.
    pub first: Vec<String>,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct DamageFound {
    /// With whether it was told in the log.
    segments: Mutex<BTreeMap<SegmentName, bool>>,
}

impl DamageFound {
    fn segments(&self) -> MutexGuard<'_, BTreeMap<SegmentName, bool>> {
        let segments = self.segments.lock();
        segments.unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a segment; `Some` if that is to be told in the log now, as `tell` asks for.
    ///
    /// `sealed` finds it in the index. It is asked while removals wait: what is gone is not noted.
    pub(crate) fn note<T>(
        &self,
        name: SegmentName,
        tell: bool,
        sealed: impl FnOnce() -> Option<T>,
    ) -> Option<T> {
        let mut segments = self.segments();
        let found = sealed()?;
        let is_told = segments.entry(name).or_default();
        let is_news = tell && !*is_told;
        *is_told |= tell;
        is_news.then_some(found)
    }

    /// The index does not have these any more.
    pub(crate) fn forget(&self, names: &[SegmentName]) {
        let mut segments = self.segments();
        for name in names {
            segments.remove(name);
        }
    }

    pub(crate) fn status(&self) -> DamagedSegments {
        let segments = self.segments();
        let names = segments.keys().take(NAMES_MAX);
        DamagedSegments {
            count: segments.len(),
            first: names.map(ToString::to_string).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::SegmentId;

    fn name(id: u64) -> SegmentName {
        SegmentName::written(SegmentId(id))
    }

    #[test]
    fn segment_is_counted_from_the_first_sign_and_told_once() {
        let found = DamageFound::default();
        let note = |tell| found.note(name(3), tell, || Some("there"));
        assert_eq!(note(false), None);
        assert_eq!(found.status().count, 1);
        assert_eq!(note(true), Some("there"));
        assert_eq!(note(true), None);
        assert_eq!(found.note(name(4), true, || None::<()>), None);
        assert_eq!(found.status().first, ["0000000003"]);
        found.forget(&[name(3)]);
        assert_eq!(found.status(), DamagedSegments::default());
    }

    #[test]
    fn status_names_only_the_oldest() {
        let found = DamageFound::default();
        for id in (1..=20).rev() {
            found.note(name(id), true, || Some(()));
        }
        let status = found.status();
        assert_eq!((status.count, status.first.len()), (20, NAMES_MAX));
        assert_eq!(status.first.first().unwrap(), "0000000001");
    }
}
