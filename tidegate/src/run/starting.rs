//! What systemd is told while the store opens, which takes long where much must be read, copied or mended:
//! how far it is, and not to give up. Told by a thread of its own, since the main one opens.
//!
//! Invariant: systemd is asked for more time only after a step has been done since the last time.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use sd_notify::NotifyState;
use storage::OpeningProgress;

use super::notify_systemd;
use super::telling::is_heard;

/// How often is looked. A start that is shorter says nothing.
const INTERVAL: Duration = Duration::from_secs(1);
/// What a single step may take: the segment at most, 256 MiB, read and copied at 2 MB/s. The unit gives the
/// first step as much (`TimeoutStartSec`).
const STEP_TIMEOUT_US: u32 = 300_000_000;

/// Tells until it is dropped.
pub(super) struct Starting {
    _end: SyncSender<()>,
}

impl Starting {
    /// Watches `progress`, if somebody wants to hear of it.
    pub(super) fn watch(progress: Arc<OpeningProgress>) -> Self {
        let (end, ended) = sync_channel(0);
        let watching = thread::Builder::new().name("starting".to_owned());
        let watching = is_heard().then(|| watching.spawn(move || tell(&progress, &ended)));
        if let Some(Err(error)) = watching {
            tracing::warn!(%error, "systemd is not told how far the start has come.");
        }
        Self { _end: end }
    }
}

fn tell(progress: &OpeningProgress, ended: &Receiver<()>) {
    let mut told = 0;
    while ended.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
        let steps = progress.steps();
        if steps == told {
            continue;
        }
        told = steps;
        let text = text(progress.segment());
        notify_systemd(&[
            NotifyState::ExtendTimeoutUsec(STEP_TIMEOUT_US),
            NotifyState::Status(&text),
        ]);
    }
}

fn text(segment: Option<(u64, u64)>) -> String {
    match segment {
        Some((segment, segments)) => format!("recovering: segment {segment} of {segments}"),
        None => "opening the store".to_owned(),
    }
}
