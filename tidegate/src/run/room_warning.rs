//! Tells at a start when the logs may fill more than the disk has, or the rest more than the memory. The gateway serves all the same:
//! it refuses publishes before the disk is full, and there may be room until then.

use std::thread;

use firmware_config::Config;

use crate::room::{self, Space, Verdict};
use crate::status::size;

/// Looks and warns on a thread of its own: to see what the folder has takes a look at each file.
pub(super) fn warn_if_too_little(config: &Config) {
    room::memory::tell(config);
    let config = config.clone();
    let looking = thread::Builder::new()
        .name("room".to_owned())
        .spawn(move || look(&config));
    if let Err(error) = looking {
        tracing::warn!(%error, "Whether the logs fit the disk is not known.");
    }
}

fn look(config: &Config) {
    // Where it cannot be seen, the store has said more.
    let data_dir = std::path::absolute(&config.data_dir);
    let Ok(space) = data_dir.and_then(|data_dir| Space::of(&data_dir)) else {
        return;
    };
    let need = room::need(config);
    let (may_fill, has, free) = (need.total_bytes(), space.usable_bytes, space.free_bytes);
    match room::judge(&space, &need) {
        Verdict::Never => tracing::warn!(
            may_fill = size(may_fill),
            disk_has = size(has),
            "The logs cannot fit the disk: publishes will be refused before retention makes room. \
             `tidegate check` says what would fit."
        ),
        Verdict::NotNow => tracing::warn!(
            may_fill = size(may_fill),
            free = size(free),
            folder_has = size(space.used_bytes.unwrap_or_default()),
            "The logs do not fit beside what else is on the disk: publishes will be refused before \
             retention makes room."
        ),
        Verdict::Fits | Verdict::Hidden | Verdict::NoSize => {}
    }
}
