//! Bounded waiting. A bound says when to give up on a broken peer, never how fast something must be.

use std::fmt::Display;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How long to wait for a process to start or stop, or for a peer to answer, on a machine that is
/// busy with other work.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Pause between two probes.
const INTERVAL: Duration = Duration::from_millis(20);

/// Probes until `probe` returns a value. An error of the probe ends the waiting at once.
///
/// # Errors
/// The probe's own error, or that `what` did not happen within `limit`.
pub fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut probe: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = probe()? {
            return Ok(value);
        }
        if Instant::now() >= end {
            bail!("waited {} s in vain for {what}", limit.as_secs());
        }
        thread::sleep(INTERVAL);
    }
}

/// Tries until `attempt` succeeds.
///
/// # Errors
/// The last attempt's error, with `what` and the time waited.
pub fn retry<T, E: Display>(
    what: &str,
    limit: Duration,
    mut attempt: impl FnMut() -> Result<T, E>,
) -> Result<T> {
    let end = Instant::now() + limit;
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() >= end => {
                bail!(
                    "waited {} s in vain for {what}; last: {error:#}",
                    limit.as_secs()
                );
            }
            Err(_) => thread::sleep(INTERVAL),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{retry, wait_for};

    #[test]
    fn value_is_returned_when_the_probe_has_one() {
        let mut probes = 0;
        let value = wait_for("the third probe", Duration::from_secs(60), || {
            probes += 1;
            Ok((probes == 3).then_some(probes))
        });
        assert_eq!(value.unwrap(), 3);
    }

    #[test]
    fn error_names_what_was_waited_for_when_time_is_up() {
        let error = wait_for::<()>("godot", Duration::ZERO, || Ok(None)).unwrap_err();
        assert_eq!(error.to_string(), "waited 0 s in vain for godot");
        let error = retry::<(), _>("godot", Duration::ZERO, || Err("no show")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "waited 0 s in vain for godot; last: no show"
        );
    }

    #[test]
    fn waiting_ends_when_the_probe_fails() {
        let error = wait_for::<()>("a dead process", Duration::from_secs(3600), || {
            anyhow::bail!("it exited")
        });
        assert_eq!(error.unwrap_err().to_string(), "it exited");
    }
}
