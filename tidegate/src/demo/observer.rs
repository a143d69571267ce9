//! What the gateway says of itself, asked again and again.
//!
//! Invariant: a sample is of one life of the gateway and of one moment; the last one stays when the
//! gateway is gone.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::gateway::Live;
use super::upstream::Topic;
use crate::admin::status_page::{RoutePage, StatusPage};
use crate::admin::{LogSummary, fetch};

const ASK_EVERY: Duration = Duration::from_millis(100);
/// A gateway that was killed while it was asked does not answer any more.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// What the gateway said.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    /// In which of its lives.
    pub(super) life: u32,
    /// When it was asked.
    pub(super) asked: Instant,
    pub(super) sessions: u64,
    /// Records of the demonstration's logs that are durable.
    pub(super) on_flash: u64,
    /// Size of its store.
    pub(super) flash_bytes: u64,
    /// Records that are not acknowledged by the cluster.
    pub(super) waiting: u64,
    /// Of these, records that the cluster may have.
    pub(super) in_doubt: u64,
    pub(super) replicated: u64,
    pub(super) lost: u64,
    /// For how long the oldest record that waits has been seen on flash. This is what the
    /// demonstration sees, not what the gateway says.
    pub(super) lag: Duration,
    /// Why records do not flow.
    pub(super) trouble: Option<String>,
    /// Whether every partition has been told about.
    pub(super) is_complete: bool,
}

impl Sample {
    /// `logs` must have been asked for after `page`: what waits is then never too little.
    fn of(
        page: &StatusPage,
        logs: &[LogSummary],
        topics: &[Topic],
        live: &Live,
        asked: Instant,
    ) -> Self {
        let routes = || page.bridge.iter().flat_map(|bridge| bridge.routes.values());
        let sum = |field: fn(&RoutePage) -> u64| routes().map(field).sum();
        let parts = || routes().flat_map(|route| &route.partitions);
        // The bridge may not have looked at the log for a while, when it is busy with its link.
        let replicated = topics
            .iter()
            .flat_map(|topic| logs.iter().filter(|log| log.name == topic.log));
        let durable = replicated.flat_map(|log| &log.partitions);
        let on_flash = durable.map(|partition| partition.high_watermark).sum();
        let acknowledged: u64 = parts().map(|partition| partition.acknowledged).sum();
        let partitions = topics.iter().map(|topic| usize::from(topic.partitions));
        Self {
            life: live.life,
            asked,
            sessions: page.broker.sessions,
            on_flash,
            flash_bytes: page.store.as_ref().map_or(0, |store| store.bytes),
            waiting: u64::saturating_sub(on_flash, acknowledged),
            in_doubt: sum(|route| route.in_doubt),
            replicated: sum(|route| route.replicated),
            lost: sum(|route| route.lost),
            lag: Duration::ZERO,
            trouble: routes().find_map(|route| route.trouble.clone()),
            is_complete: parts().count() == partitions.sum::<usize>(),
        }
    }

    /// Whether everything that is on flash is upstream, for certain.
    pub(super) fn is_drained(&self) -> bool {
        self.is_complete && self.waiting == 0 && self.in_doubt == 0
    }
}

/// When which records were first seen on flash, as long as they wait.
#[derive(Debug, Default)]
struct Seen(VecDeque<(Instant, u64)>);

impl Seen {
    /// How long the oldest record that waits has been there.
    fn lag(&mut self, sample: &Sample) -> Duration {
        if !sample.is_complete {
            return Duration::ZERO;
        }
        let newest = self.0.back().map_or(0, |(_, on_flash)| *on_flash);
        if sample.on_flash > newest {
            self.0.push_back((sample.asked, sample.on_flash));
        }
        let upstream = sample.on_flash - sample.waiting.min(sample.on_flash);
        while self
            .0
            .front()
            .is_some_and(|(_, on_flash)| *on_flash <= upstream)
        {
            self.0.pop_front();
        }
        let oldest = self.0.front().map_or(sample.asked, |(asked, _)| *asked);
        sample.asked.saturating_duration_since(oldest)
    }
}

/// Asks as long as it lives.
#[derive(Debug)]
pub(super) struct Observer {
    samples: watch::Receiver<Option<Sample>>,
    _task: JoinSet<()>,
}

impl Observer {
    /// Starts to ask the gateway, whenever there is one.
    pub(super) fn start(live: watch::Receiver<Option<Live>>, topics: &[Topic]) -> Self {
        let (sender, samples) = watch::channel(None);
        let mut task = JoinSet::new();
        task.spawn_local(observe(live, topics.to_vec(), sender));
        Self {
            samples,
            _task: task,
        }
    }

    /// The samples, as they come.
    pub(super) fn samples(&self) -> watch::Receiver<Option<Sample>> {
        self.samples.clone()
    }
}

async fn observe(
    gateway: watch::Receiver<Option<Live>>,
    topics: Vec<Topic>,
    samples: watch::Sender<Option<Sample>>,
) {
    let mut ticks = interval(ASK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen = Seen::default();
    loop {
        ticks.tick().await;
        let live = gateway.borrow().clone();
        let Some(live) = live else { continue };
        let asked = Instant::now();
        let answers = async {
            let page: StatusPage = fetch(live.admin, "/status").await?;
            let logs: Vec<LogSummary> = fetch(live.admin, "/log/list").await?;
            anyhow::Ok((page, logs))
        };
        // No answer is no news: it is being killed, and will be back.
        if let Ok(Ok((page, logs))) = timeout(ANSWER_LIMIT, answers).await {
            let mut sample = Sample::of(&page, &logs, &topics, &live, asked);
            sample.lag = seen.lag(&sample);
            samples.send_replace(Some(sample));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{Sample, Seen};

    #[test]
    fn lag_is_the_age_of_the_oldest_record_that_waits() {
        let start = Instant::now();
        let mut seen = Seen::default();
        let mut lag = |second, on_flash, waiting| {
            let sample = Sample {
                life: 1,
                asked: start + Duration::from_secs(second),
                sessions: 0,
                on_flash,
                flash_bytes: 0,
                waiting,
                in_doubt: 0,
                replicated: on_flash - waiting,
                lost: 0,
                trouble: None,
                lag: Duration::ZERO,
                is_complete: true,
            };
            seen.lag(&sample).as_secs()
        };
        assert_eq!(lag(0, 10, 0), 0);
        assert_eq!(lag(1, 20, 10), 0);
        assert_eq!(lag(2, 30, 20), 1);
        assert_eq!(lag(5, 30, 20), 4);
        // The first ten of those that waited are gone; the others came at second 2.
        assert_eq!(lag(6, 40, 20), 4);
        assert_eq!(lag(7, 40, 0), 0);
    }
}
