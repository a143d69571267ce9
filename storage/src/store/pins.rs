//! What readers still need of the logs that refuse rather than forget.
//!
//! A pin is a name and, for each partition, the offset up to which its holder has everything. The
//! options of a log name the pins that must be there; nothing of it goes that one of them needs.
//!
//! Invariant: a partition for which a pin has said nothing yet is needed whole.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::ids::{LogPartition, Offset};
use crate::store::Shared;

/// The offset of each partition up to which each holder has everything.
pub(crate) type Places = BTreeMap<Arc<str>, BTreeMap<LogPartition, Offset>>;

/// All pins. Bounded by the routes of the configuration and their partitions.
#[derive(Debug, Default)]
pub(crate) struct Pins {
    places: Mutex<Places>,
    /// Counts the changes.
    version: AtomicU64,
}

impl Pins {
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The offset up to which all pins of `names` have everything.
    pub(crate) fn floor(&self, names: &[String], partition: LogPartition) -> Offset {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let offsets = names.iter().map(|name| {
            let of_name = places.get(name.as_str());
            let offset = of_name.and_then(|of_name| of_name.get(&partition));
            offset.copied().unwrap_or_default()
        });
        offsets.min().unwrap_or_default()
    }

    /// All as they are now.
    pub(crate) fn places(&self) -> Places {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.clone()
    }

    fn set(&self, name: &Arc<str>, partition: LogPartition, offset: Offset) {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let of_name = places.entry(Arc::clone(name)).or_default();
        if of_name.insert(partition, offset) != Some(offset) {
            self.version.fetch_add(1, Ordering::Release);
        }
    }
}

/// A reader's hold on the logs whose options name it; see [`crate::OnFull::Reject`]. It stays when
/// this is dropped: a reader that is begun anew has lost nothing by it.
#[derive(Clone)]
pub struct Pin {
    shared: Arc<Shared>,
    name: Arc<str>,
}

impl Pin {
    pub(crate) fn new(shared: Arc<Shared>, name: &str) -> Self {
        let name = name.into();
        Self { shared, name }
    }

    /// Says that everything before `offset` is not needed any more. It must be durable elsewhere, and
    /// so must be the knowledge of it.
    pub fn set(&self, partition: LogPartition, offset: Offset) {
        self.shared.pins.set(&self.name, partition, offset);
        if self.shared.is_any_log_full() {
            self.shared.wake_keeper();
        }
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pin")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
