//! The address of a Kafka broker to begin with.
//!
//! A name is kept as a name: the bridge looks it up at every attempt to connect, because the
//! addresses behind it change while the gateway is away.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use super::Refusal;

/// A host (name or IP address) and a port: `kafka-1.example:9093`, `192.0.2.7:9092`,
/// `[2001:db8::7]:9092`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    host: String,
    port: u16,
}

impl HostPort {
    /// The host name or IP address, an IPv6 address without its brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The TCP port, never 0.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for HostPort {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        if text.contains("://") {
            return Err(Refusal::new(
                "is a URL, and a broker has only a host and a port",
            ));
        }
        if text.parse::<Ipv6Addr>().is_ok() {
            return Err(Refusal::new("an IPv6 address stands in brackets"));
        }
        let Some((host, port)) = text
            .rsplit_once(':')
            .filter(|(_, port)| !port.ends_with(']'))
        else {
            return Err(Refusal::new("has no port (Kafka's own default is 9092)"));
        };
        let port = match port.parse::<u16>() {
            Ok(port) if port > 0 => port,
            _ => return Err(Refusal::new("its port is no number from 1 to 65535")),
        };
        let host = match host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
        {
            Some(address) => match address.parse::<Ipv6Addr>() {
                Ok(address) => address.to_string(),
                Err(_) => return Err(Refusal::new("what stands in brackets is no IPv6 address")),
            },
            None => checked_host(host)?.to_owned(),
        };
        Ok(Self { host, port })
    }
}

/// Lets IPv4 addresses and host names through. The rules for names are those of RFC 1123
/// section 2.1, and the underscore, which container networks use in names.
fn checked_host(host: &str) -> Result<&str, Refusal> {
    if host.is_empty() {
        return Err(Refusal::new("has no host"));
    }
    if host.contains(':') {
        return Err(Refusal::new("an IPv6 address stands in brackets"));
    }
    let is_dotted_number = host.chars().all(|c| c.is_ascii_digit() || c == '.');
    if is_dotted_number && host.parse::<Ipv4Addr>().is_err() {
        return Err(Refusal::new(
            "its host is neither a name nor an IPv4 address",
        ));
    }
    let is_host_character = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if let Some(other) = host.chars().find(|c| !is_host_character(*c)) {
        return Err(Refusal::new(format!(
            "{other:?} is not allowed in a host name"
        )));
    }
    let is_label = |label: &str| {
        !label.is_empty() && label.len() <= 63 && !label.starts_with('-') && !label.ends_with('-')
    };
    // A name may end in the dot of the root.
    let name = host.strip_suffix('.').unwrap_or(host);
    if name.len() > 253 || !name.split('.').all(is_label) {
        return Err(Refusal::new(
            "its host name has an empty or too long part (63 characters, 253 in all), or a part \
             that begins or ends with a hyphen",
        ));
    }
    Ok(host)
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refusal(text: &str) -> String {
        text.parse::<HostPort>().unwrap_err().to_string()
    }

    #[test]
    fn host_port_takes_names_and_addresses() {
        for text in [
            "kafka-1.example:9093",
            "192.0.2.7:9092",
            "kafka_1:1",
            "kafka.example.:65535",
        ] {
            assert_eq!(text.parse::<HostPort>().unwrap().to_string(), text);
        }
        let v6: HostPort = "[2001:DB8:0::7]:9092".parse().unwrap();
        assert_eq!((v6.host(), v6.port()), ("2001:db8::7", 9092));
        assert_eq!(v6.to_string(), "[2001:db8::7]:9092");
    }

    #[test]
    fn host_port_is_refused_with_what_is_wrong_about_it() {
        assert_eq!(
            refusal("kafka"),
            "has no port (Kafka's own default is 9092)"
        );
        assert_eq!(
            refusal("[::1]"),
            "has no port (Kafka's own default is 9092)"
        );
        assert_eq!(refusal("kafka:0"), "its port is no number from 1 to 65535");
        assert_eq!(
            refusal("kafka:65536"),
            "its port is no number from 1 to 65535"
        );
        assert_eq!(refusal("kafka:"), "its port is no number from 1 to 65535");
        assert_eq!(refusal(":9092"), "has no host");
        assert_eq!(refusal("2001:db8::7"), "an IPv6 address stands in brackets");
        assert_eq!(
            refusal("2001:db8:0:0:0:0:0:0:7:9092"),
            "an IPv6 address stands in brackets"
        );
        assert_eq!(
            refusal("[kafka]:9092"),
            "what stands in brackets is no IPv6 address"
        );
        assert_eq!(
            refusal("10.0.0.300:9"),
            "its host is neither a name nor an IPv4 address"
        );
        assert_eq!(
            refusal(".:9"),
            "its host is neither a name nor an IPv4 address"
        );
        assert_eq!(refusal("ka fka:9092"), "' ' is not allowed in a host name");
        let url = "is a URL, and a broker has only a host and a port";
        assert_eq!(refusal("kafka://broker:9092"), url);
        for text in ["a..b:1", "-a:1", "a-:1", &format!("{}:1", "x".repeat(64))] {
            assert!(
                refusal(text).starts_with("its host name has an empty"),
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn host_port_reads_back_equal_when_printed(text in "[\\[\\]:.a-z0-9_-]{0,24}:[0-9]{1,5}") {
            if let Ok(parsed) = text.parse::<HostPort>() {
                prop_assert_eq!(parsed.to_string().parse(), Ok(parsed));
            }
        }
    }
}
