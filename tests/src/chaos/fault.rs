//! What goes wrong: three kinds of faults, each in several forms.

use std::fmt;
use std::thread;
use std::time::Duration;

use anyhow::Result;

use super::fleet::Fleet;
use super::seeded::Seeded;
use super::stage::{LOG, REQUEST_TIMEOUT, Stage};

/// What is hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Tidegate,
    Kafka,
    Link,
}

/// What happens to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// SIGKILL, and started again.
    TidegateKilled,
    /// SIGKILL with batches that Kafka has and whose answers never come.
    TidegateKilledBeforeAnswers,
    /// SIGKILL with batches on their way that Kafka never gets; then Kafka forgets the producers.
    TidegateKilledBeforeRequestsForgotten,
    /// SIGKILL with batches that Kafka has and whose answers never come; then Kafka forgets the
    /// producers.
    TidegateKilledBeforeAnswersForgotten,
    /// SIGKILL, and once more as soon as it is back.
    TidegateKilledTwice,
    /// SIGKILL, and back without a link for a while.
    TidegateKilledLinkDown,
    /// SIGKILL, and started again.
    KafkaKilled,
    /// SIGKILL after it took batches and before its answers arrived.
    KafkaKilledBeforeAnswers,
    /// SIGKILL of both at once.
    BothKilled,
    /// Every connection is reset.
    LinkCut,
    /// Connections are reset when Kafka has taken batches and its answers have not arrived.
    AnswersLost,
    /// Requests are stuck until the bridge has given them up, and arrive then.
    RequestsLate,
    /// No connection for a while.
    LinkDown,
    /// Every connection is reset, again and again, while the bridge finds out what Kafka has.
    LinkFlaps,
    /// Everything takes much longer for a while.
    LinkSlow,
}

const TIDEGATE: [Fault; 6] = [
    Fault::TidegateKilled,
    Fault::TidegateKilledBeforeAnswers,
    Fault::TidegateKilledBeforeRequestsForgotten,
    Fault::TidegateKilledBeforeAnswersForgotten,
    Fault::TidegateKilledTwice,
    Fault::TidegateKilledLinkDown,
];
const KAFKA: [Fault; 3] = [
    Fault::KafkaKilled,
    Fault::KafkaKilledBeforeAnswers,
    Fault::BothKilled,
];
const LINK: [Fault; 6] = [
    Fault::LinkCut,
    Fault::AnswersLost,
    Fault::RequestsLate,
    Fault::LinkDown,
    Fault::LinkFlaps,
    Fault::LinkSlow,
];

/// What was under way when a fault came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct InFlight {
    /// Messages that clients had sent and that were not acknowledged when their connections broke.
    pub(super) appends: u64,
    /// Records in batches that Kafka had not answered.
    pub(super) produced: u64,
}

impl InFlight {
    pub(super) fn is_enough_for(&self, fault: Fault) -> bool {
        match fault.kind() {
            Kind::Tidegate if fault.is_about_produces() => self.produced > 0,
            Kind::Tidegate => self.appends > 0,
            Kind::Kafka | Kind::Link => self.produced > 0,
        }
    }
}

impl Fault {
    /// So many of each kind, their forms in turn, in an order that `random` decides.
    pub(super) fn sequence(of_each_kind: u32, random: &mut Seeded) -> Vec<Self> {
        let count = usize::try_from(of_each_kind).unwrap_or(usize::MAX);
        let mut sequence = Vec::new();
        for forms in [&TIDEGATE[..], &KAFKA, &LINK] {
            let mut forms = forms.to_vec();
            random.shuffle(&mut forms);
            sequence.extend(forms.into_iter().cycle().take(count));
        }
        random.shuffle(&mut sequence);
        sequence
    }

    pub(super) fn kind(self) -> Kind {
        match self {
            fault if TIDEGATE.contains(&fault) => Kind::Tidegate,
            fault if KAFKA.contains(&fault) => Kind::Kafka,
            _ => Kind::Link,
        }
    }

    /// Whether it needs batches in flight although Kafka and the link live.
    fn is_about_produces(self) -> bool {
        matches!(
            self,
            Self::TidegateKilledBeforeAnswers
                | Self::TidegateKilledBeforeRequestsForgotten
                | Self::TidegateKilledBeforeAnswersForgotten
        )
    }

    /// Does it, and undoes what is not to last; what was in flight.
    pub(super) fn strike(
        self,
        stage: &mut Stage,
        fleet: &Fleet,
        random: &mut Seeded,
    ) -> Result<InFlight> {
        let in_flight = match self.kind() {
            Kind::Tidegate => self.strike_tidegate(stage, fleet),
            Kind::Kafka => self.strike_kafka(stage, fleet, random),
            Kind::Link => self.strike_link(stage, random),
        };
        stage.proxy.delay(Duration::ZERO);
        in_flight
    }

    fn strike_tidegate(self, stage: &mut Stage, fleet: &Fleet) -> Result<InFlight> {
        match self {
            Self::TidegateKilledBeforeAnswers | Self::TidegateKilledBeforeAnswersForgotten => {
                stage.proxy.hold_replies();
                stage.wait_in_doubt()?;
            }
            Self::TidegateKilledBeforeRequestsForgotten => {
                stage.proxy.block();
                stage.wait_in_doubt()?;
            }
            _ => {}
        }
        let produced = stage.in_doubt()?;
        let lost_before = fleet.lost();
        stage.broker.kill()?;
        fleet.wait_disconnected()?;
        let appends = fleet.lost() - lost_before;
        match self {
            Self::TidegateKilledBeforeAnswers => {
                stage.proxy.cut();
                stage.proxy.unblock();
            }
            Self::TidegateKilledBeforeRequestsForgotten
            | Self::TidegateKilledBeforeAnswersForgotten => {
                stage.proxy.cut();
                stage.kafka.forget_producers(LOG)?;
                stage.proxy.unblock();
            }
            Self::TidegateKilledTwice => {
                stage.broker.restart()?;
                stage.broker.kill()?;
            }
            Self::TidegateKilledLinkDown => stage.proxy.down(),
            _ => {}
        }
        stage.broker.restart()?;
        if self == Self::TidegateKilledLinkDown {
            thread::sleep(Duration::from_secs(2));
            stage.proxy.up();
        }
        Ok(InFlight { appends, produced })
    }

    fn strike_kafka(
        self,
        stage: &mut Stage,
        fleet: &Fleet,
        random: &mut Seeded,
    ) -> Result<InFlight> {
        if self == Self::KafkaKilledBeforeAnswers {
            stage.proxy.hold_replies();
        }
        stage.wait_in_doubt()?;
        stage.kafka.kill()?;
        // What has no answer now never gets one.
        let produced = stage.in_doubt()?;
        let lost_before = fleet.lost();
        if self == Self::BothKilled {
            stage.broker.kill()?;
            fleet.wait_disconnected()?;
        }
        let appends = fleet.lost() - lost_before;
        stage.proxy.cut();
        stage.proxy.unblock();
        thread::sleep(Duration::from_millis(random.below(1000)));
        if self == Self::BothKilled {
            stage.broker.restart()?;
        }
        stage.kafka.restart()?;
        Ok(InFlight { appends, produced })
    }

    fn strike_link(self, stage: &Stage, random: &mut Seeded) -> Result<InFlight> {
        let proxy = &stage.proxy;
        match self {
            Self::AnswersLost => proxy.hold_replies(),
            Self::RequestsLate => proxy.block(),
            Self::LinkSlow => proxy.delay(Duration::from_millis(100 + random.below(300))),
            _ => {}
        }
        let mut produced = stage.wait_in_doubt()?;
        match self {
            Self::RequestsLate => {
                thread::sleep(REQUEST_TIMEOUT + Duration::from_secs(1));
                proxy.unblock();
            }
            Self::LinkSlow => thread::sleep(Duration::from_secs(3)),
            Self::LinkFlaps => {
                for _ in 0..10 {
                    proxy.cut();
                    thread::sleep(Duration::from_millis(random.below(500)));
                }
            }
            Self::LinkDown => {
                proxy.down();
                produced = stage.in_doubt()?;
                thread::sleep(Duration::from_millis(1000 + random.below(2000)));
                proxy.up();
            }
            _ => {
                proxy.cut();
                produced = stage.in_doubt()?;
                proxy.unblock();
            }
        }
        Ok(InFlight {
            appends: 0,
            produced,
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tidegate => "tidegate killed",
            Self::Kafka => "Kafka killed",
            Self::Link => "link cut or delayed",
        })
    }
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::Tidegate, Self::Kafka, Self::Link];
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TidegateKilled => "tidegate killed",
            Self::TidegateKilledBeforeAnswers => "tidegate killed before Kafka's answers came",
            Self::TidegateKilledBeforeRequestsForgotten => {
                "tidegate killed before its requests arrived, its producers forgotten by Kafka"
            }
            Self::TidegateKilledBeforeAnswersForgotten => {
                "tidegate killed before Kafka's answers came, its producers forgotten by Kafka"
            }
            Self::TidegateKilledTwice => "tidegate killed twice",
            Self::TidegateKilledLinkDown => "tidegate killed, back without a link",
            Self::KafkaKilled => "Kafka killed",
            Self::KafkaKilledBeforeAnswers => "Kafka killed before its answers came",
            Self::BothKilled => "Kafka and tidegate killed",
            Self::LinkCut => "link cut",
            Self::AnswersLost => "link cut before Kafka's answers came",
            Self::RequestsLate => "requests stuck until they were given up, then delivered",
            Self::LinkDown => "link down",
            Self::LinkFlaps => "link cut ten times",
            Self::LinkSlow => "link slow",
        })
    }
}

impl fmt::Display for InFlight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { appends, produced } = self;
        write!(f, "{appends} appends, {produced} produced records")
    }
}

#[cfg(test)]
mod tests {
    use super::{Fault, Kind, Seeded};

    #[test]
    fn sequence_has_so_many_of_each_kind_and_is_the_seeds() {
        let sequence = |seed| Fault::sequence(10, &mut Seeded::new(seed));
        for kind in Kind::ALL {
            let of_kind = sequence(1).iter().filter(|f| f.kind() == kind).count();
            assert_eq!(of_kind, 10);
        }
        assert_eq!(sequence(1), sequence(1));
        assert_ne!(sequence(1), sequence(2));
    }
}
