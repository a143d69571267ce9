//! Who the clients are, what they subscribe to, and what is in their messages.

use ::tests::mqtt::Version;

use crate::content;

/// Messages go to these.
pub(crate) const TOPICS: [&str; 5] = ["a/0", "a/1", "b/0", "b/1", "c/0"];
/// The filters that subscribers use; [`GROUP`] is the shared one.
pub(crate) const FILTERS: [&str; 4] = ["#", "a/+", "+/0", "$share/g/c/+"];
pub(crate) const GROUP: usize = 3;
/// Numbers of messages: this many for each client.
pub(crate) const NUMBERS_EACH: u64 = 1_000_000;

/// Who a client is.
#[derive(Debug)]
pub(crate) struct Who {
    pub(crate) client_id: &'static str,
    pub(crate) version: Version,
    pub(crate) receive_maximum: u16,
    /// Publishes on their way at most.
    pub(crate) window: u16,
    /// QoS with which it publishes.
    pub(crate) publishes: &'static [u8],
    /// Filters that it subscribes to, by number, and the QoS.
    pub(crate) filters: &'static [usize],
    pub(crate) qos: u8,
    /// Of a hundred turns, those in which it goes, and those in which it unsubscribes.
    pub(crate) goes_percent: u8,
    pub(crate) unsubscribes_percent: u8,
}

const fn who(client_id: &'static str, version: Version) -> Who {
    Who {
        client_id,
        version,
        receive_maximum: 3,
        window: 3,
        publishes: &[],
        filters: &[],
        qos: 2,
        goes_percent: 1,
        unsubscribes_percent: 0,
    }
}

/// All of them, with short names, of which checkpoints are made. Every QoS in both directions, in both versions; one publishes and subscribes, one goes
/// all the time, one unsubscribes all the time, two share a subscription.
pub(crate) static ALL: [Who; 10] = [
    Who {
        publishes: &[1, 2],
        ..who("p12", Version::V311)
    },
    Who {
        publishes: &[2],
        window: 4,
        ..who("p2", Version::V5)
    },
    Who {
        publishes: &[1, 2, 2],
        filters: &[1],
        window: 2,
        ..who("ps", Version::V5)
    },
    Who {
        filters: &[0],
        ..who("s2", Version::V5)
    },
    Who {
        filters: &[1, 2],
        qos: 1,
        ..who("s1", Version::V311)
    },
    Who {
        filters: &[2],
        receive_maximum: 2,
        goes_percent: 5,
        ..who("sg", Version::V5)
    },
    Who {
        filters: &[0],
        ..who("s3", Version::V311)
    },
    Who {
        filters: &[1],
        unsubscribes_percent: 20,
        ..who("su", Version::V5)
    },
    Who {
        filters: &[GROUP],
        ..who("g1", Version::V5)
    },
    Who {
        filters: &[GROUP],
        goes_percent: 3,
        ..who("g2", Version::V311)
    },
];

/// How many of the topics, from the first on, get messages of this QoS: the group's none of QoS 1, since
/// whoever goes gives those back, and a client cannot know that.
pub(crate) fn topics(qos: u8) -> usize {
    match qos {
        2 => TOPICS.len(),
        _ => TOPICS.len() - 1,
    }
}

/// Whether a filter matches a topic, both by number.
pub(crate) fn matches(filter: usize, topic: usize) -> bool {
    match filter {
        0 => true,
        1 => topic < 2,
        2 => topic.is_multiple_of(2),
        _ => topic == 4,
    }
}

/// The payload of a message: its number, and bytes of which each counts.
pub(crate) fn payload(number: u64, bytes_max: usize) -> Vec<u8> {
    let bytes = usize::try_from(number.wrapping_mul(7919)).unwrap_or(0) % bytes_max.max(1);
    let mut payload = number.to_be_bytes().to_vec();
    payload.extend(content::payload(number, bytes));
    payload
}

/// The number of a message that came, if all of its payload is right.
pub(crate) fn number_of(payload: &[u8], bytes_max: usize) -> Option<u64> {
    let number = u64::from_be_bytes(*payload.first_chunk()?);
    (self::payload(number, bytes_max) == payload).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_comes_back_unless_a_byte_is_wrong() {
        for number in [0, 17, 3 * NUMBERS_EACH + 5] {
            let mut bytes = payload(number, 300);
            assert_eq!(number_of(&bytes, 300), Some(number));
            bytes.push(0);
            assert_eq!(number_of(&bytes, 300), None);
        }
    }

    #[test]
    fn filters_match_as_the_standard_says() {
        let inner = FILTERS.map(|filter| filter.strip_prefix("$share/g/").unwrap_or(filter));
        for (filter, text) in inner.iter().enumerate() {
            for (topic, name) in TOPICS.iter().enumerate() {
                let mut levels = name.split('/').zip(text.split('/'));
                let is_match = levels.all(|(level, wanted)| ["#", "+", level].contains(&wanted));
                assert_eq!(matches(filter, topic), is_match, "{text} {name}");
            }
        }
    }
}
