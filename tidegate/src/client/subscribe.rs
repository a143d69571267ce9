//! `tidegate sub`: prints messages until there are enough, the time is up, or the connection ends.
//!
//! A lost connection is a failure, not a reason to connect again: the session is a clean one, so
//! what was published in between would be missing without a word.

use std::io::{self, Write};
use std::time::Duration;

use anyhow::{Context as _, bail};
use mqtt::{QoS, TopicFilter};

use crate::cli::client::SubOptions;
use crate::client::connection::Connection;
use crate::client::event::Event;
use crate::client::output::Style;

/// Why printing ended well.
enum Ended {
    /// Enough messages were printed.
    Count,
    /// Whoever reads the output has gone, as `head` does.
    ReaderGone,
}

/// Subscribes to what the options say, and prints.
pub(super) async fn subscribe(options: &SubOptions) -> anyhow::Result<()> {
    let mut connection = Connection::open(&options.connection)?;
    let mut printed = 0;
    let printing = print_messages(options, &mut connection, &mut printed);
    let ended = match options.wait {
        None => Some(printing.await?),
        Some(seconds) => tokio::time::timeout(Duration::from_secs(seconds), printing)
            .await
            .ok()
            .transpose()?,
    };
    connection.close().await;
    match (ended, options.count, options.wait) {
        (None, Some(count), Some(seconds)) => {
            bail!("{printed} of {count} messages came within {seconds} s")
        }
        (Some(Ended::Count | Ended::ReaderGone) | None, _, _) => Ok(()),
    }
}

async fn print_messages(
    options: &SubOptions,
    connection: &mut Connection,
    printed: &mut u64,
) -> anyhow::Result<Ended> {
    let qos = QoS::from_bits(options.qos).unwrap_or_default();
    match connection.answer().await? {
        Event::Connected(_) => connection.subscribe(&options.topic, qos)?,
        event => bail!("the broker began with {event:?} instead of CONNACK"),
    }
    let style = Style::of(options);
    let mut stdout = io::stdout().lock();
    let mut is_subscribed = false;
    loop {
        // Retained messages may come before the answer to SUBSCRIBE.
        let event = if is_subscribed {
            connection.next().await?
        } else {
            connection.answer().await?
        };
        match event {
            Event::Subscribed(granted) => {
                is_subscribed = true;
                tell_granted(&options.topic, qos, granted)?;
            }
            Event::Message(message) => {
                match style.print(&mut stdout, &message) {
                    Ok(()) => *printed += 1,
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                        return Ok(Ended::ReaderGone);
                    }
                    Err(error) => return Err(error).context("print a message"),
                }
                if options.count == Some(*printed) {
                    return Ok(Ended::Count);
                }
            }
            Event::Answered { .. } | Event::Connected(_) | Event::Sent { .. } => {}
        }
    }
}

/// Says what was refused (a failure) and what was granted less.
fn tell_granted(
    filters: &[TopicFilter],
    asked: QoS,
    granted: Vec<Result<QoS, String>>,
) -> anyhow::Result<()> {
    if granted.len() != filters.len() {
        bail!(
            "the broker answered for {} topic filters instead of {}",
            granted.len(),
            filters.len()
        );
    }
    for (filter, granted) in filters.iter().zip(granted) {
        match granted {
            Err(refusal) => bail!("the broker refused the subscription to {filter}: {refusal}"),
            // A note, which must not stop the messages when nobody can read it.
            Ok(granted) if granted < asked => {
                let _ = writeln!(
                    io::stderr(),
                    "tidegate: the broker grants {filter} {granted} instead of {asked}"
                );
            }
            Ok(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_filter_is_named() {
        let filters = ["a/#", "b"].map(|filter| filter.parse().unwrap());
        let granted = vec![
            Ok(QoS::AtMostOnce),
            Err(String::from("not authorized (0x87)")),
        ];
        let error = tell_granted(&filters, QoS::AtLeastOnce, granted).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the broker refused the subscription to b: not authorized (0x87)"
        );
        assert!(tell_granted(&filters, QoS::AtMostOnce, Vec::new()).is_err());
    }
}
