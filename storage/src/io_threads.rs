//! Whether sled's I/O threads of this process are whole.
//!
//! All databases of a process share a few threads. One that panics, which damage of the right kind
//! makes it do, is gone, and sled sets a flag that fails or blocks whatever comes later, in healthy
//! databases too. Nothing in sled mends that. So the process must neither take the next database for
//! damaged because of it, nor wait for a thread that is not there: it has to end and start again.

use std::panic;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// How sled names them.
const NAME: &str = "sled-io-";

static HAVE_FAILED: AtomicBool = AtomicBool::new(false);

/// Notices from now on when one of them panics.
pub(crate) fn watch() {
    static WATCHED: Once = Once::new();
    WATCHED.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if thread::current()
                .name()
                .is_some_and(|name| name.starts_with(NAME))
            {
                HAVE_FAILED.store(true, Ordering::SeqCst);
            }
            before(info);
        }));
    });
}

/// Whether one of them has panicked: no database can be opened, made or written any more by this
/// process, only by the next one.
pub fn have_failed() -> bool {
    HAVE_FAILED.load(Ordering::SeqCst)
}
