//! What the simulated devices publish: four topics each, every message numbered within its topic.
//!
//! Invariant: topic and payload follow from seed, device, kind and number alone, so that what is
//! upstream can be compared byte for byte with what was sent.

use super::noise::noise;

const MACHINES: [&str; 5] = ["press", "oven", "robot", "pump", "mixer"];
const LINES: u16 = 4;
const STATES: [&str; 4] = ["running", "idle", "changeover", "maintenance"];
const ALARMS: [&str; 4] = [
    "pressure low",
    "temperature high",
    "door open",
    "vibration high",
];

/// A kind of message; each device has one topic for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// QoS 1, in a log of its own.
    Alarm,
    /// QoS 1, retained.
    State,
    /// QoS 1.
    Temperature,
    /// QoS 0: sent once and forgotten.
    Vibration,
}

impl Kind {
    pub(super) const ALL: [Self; 4] =
        [Self::Alarm, Self::State, Self::Temperature, Self::Vibration];

    /// The kind of a device's message number `turn`, of all its topics together.
    pub(super) fn of_turn(seed: u64, device: u16, turn: u64) -> Self {
        match noise(seed, &[u64::from(device), turn]) % 20 {
            0..=1 => Self::Alarm,
            2..=4 => Self::State,
            5..=14 => Self::Temperature,
            _ => Self::Vibration,
        }
    }

    /// Whether the message is acknowledged (QoS 1) or not (QoS 0).
    pub(super) fn is_acknowledged(self) -> bool {
        self != Self::Vibration
    }

    pub(super) fn is_retained(self) -> bool {
        self == Self::State
    }

    /// The topic of the device for messages of this kind.
    pub(super) fn topic(self, device: u16) -> String {
        let line = 1 + device % LINES;
        let client = client_id(device);
        match self {
            Self::Alarm => format!("alarms/line{line}/{client}"),
            Self::State => format!("plant/line{line}/{client}/state"),
            Self::Temperature => format!("plant/line{line}/{client}/temperature"),
            Self::Vibration => format!("plant/line{line}/{client}/vibration"),
        }
    }

    /// The payload of message `number` in that topic.
    pub(super) fn payload(self, seed: u64, device: u16, number: u64) -> String {
        let noise = noise(seed, &[u64::from(device), self as u64, number]);
        match self {
            Self::Alarm => {
                let (alarm, severity) = (choose(&ALARMS, noise), 1 + noise % 3);
                format!(r#"{{"n":{number},"alarm":"{alarm}","severity":{severity}}}"#)
            }
            Self::State => {
                let state = choose(&STATES, noise);
                format!(r#"{{"n":{number},"state":"{state}"}}"#)
            }
            Self::Temperature => {
                let (whole, tenth) = (40 + noise % 40, noise / 64 % 10);
                format!(r#"{{"n":{number},"celsius":{whole}.{tenth}}}"#)
            }
            Self::Vibration => {
                let (whole, hundredths) = (noise % 8, noise / 64 % 100);
                format!(r#"{{"n":{number},"mm_per_second":{whole}.{hundredths:02}}}"#)
            }
        }
    }
}

/// Topic filter of the retained states of all devices.
pub(super) const STATE_FILTER: &str = "plant/+/+/state";

/// Client id of a device.
pub(super) fn client_id(device: u16) -> String {
    let machine = choose(&MACHINES, u64::from(device));
    format!("{machine}-{:02}", device + 1)
}

/// The number that a payload bears, if it is one of a device.
pub(super) fn number_in(payload: &[u8]) -> Option<u64> {
    #[derive(serde::Deserialize)]
    struct Numbered {
        n: u64,
    }
    let Numbered { n } = serde_json::from_slice(payload).ok()?;
    Some(n)
}

fn choose<'a>(from: &[&'a str], noise: u64) -> &'a str {
    let index = noise.checked_rem(from.len() as u64).unwrap_or(0);
    let index = usize::try_from(index).unwrap_or(0);
    from.get(index).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{Kind, client_id, number_in};

    #[test]
    fn payload_is_json_and_bears_its_number() {
        for kind in Kind::ALL {
            for number in [1, 17, 123_456] {
                let payload = kind.payload(5, 3, number);
                serde_json::from_str::<serde_json::Value>(&payload).unwrap();
                assert_eq!(number_in(payload.as_bytes()), Some(number));
            }
        }
        assert_eq!(number_in(br#"{"m":1}"#), None);
        assert_eq!(number_in(b"7"), None);
    }

    #[test]
    fn every_kind_comes_up_and_topics_are_each_device_s_own() {
        let turns: Vec<_> = (0..100).map(|turn| Kind::of_turn(1, 0, turn)).collect();
        assert!(Kind::ALL.iter().all(|kind| turns.contains(kind)));
        let mut topics: Vec<_> = (0..50)
            .flat_map(|device| Kind::ALL.map(|kind| kind.topic(device)))
            .collect();
        topics.sort();
        topics.dedup();
        assert_eq!(topics.len(), 200);
        assert_eq!(client_id(6), "oven-07");
    }
}
