//! The address that a listener binds to.

use std::net::{IpAddr, SocketAddr};

use super::Refusal;

/// Reads an IP address and a port, IPv6 in brackets. Host names are refused: nothing is looked up.
pub(crate) fn parse_bind(text: &str) -> Result<SocketAddr, Refusal> {
    text.parse().map_err(|_| Refusal::new(reason(text)))
}

/// Says what about `text` is no socket address, from the most to the least specific.
fn reason(text: &str) -> &'static str {
    if text.parse::<IpAddr>().is_ok() {
        return "has no port, or is an IPv6 address without brackets";
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return "has no port";
    };
    let bracketed = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let is_address = bracketed.unwrap_or(host).parse::<IpAddr>().is_ok();
    if port.parse::<u16>().is_err() {
        return "its port is no number from 0 to 65535";
    }
    if is_address {
        return "an IPv6 address stands in brackets, an IPv4 address does not";
    }
    match host {
        "" | "*" => "has no address (0.0.0.0 is every IPv4 interface, [::] every interface)",
        _ if host.contains(|c: char| c.is_ascii_alphabetic()) && !host.contains(['[', ':']) => {
            "a host name is not looked up here: it may mean another address after the next \
             start, or none before the network is up"
        }
        _ => "is not an IP address",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refusal(text: &str) -> String {
        parse_bind(text).unwrap_err().to_string()
    }

    #[test]
    fn bind_is_an_ip_address_and_a_port() {
        for text in ["127.0.0.1:1883", "0.0.0.0:0", "[::1]:65535", "[::]:1883"] {
            assert_eq!(parse_bind(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn bind_to_a_host_name_is_refused_with_the_reason() {
        for text in ["localhost:1883", "broker.example:1883", "gw-1:1883"] {
            assert!(
                refusal(text).starts_with("a host name is not looked up here"),
                "{text}"
            );
        }
    }

    #[test]
    fn bind_is_refused_with_what_is_wrong_about_it() {
        assert_eq!(
            refusal("127.0.0.1"),
            "has no port, or is an IPv6 address without brackets"
        );
        assert_eq!(
            refusal("::1"),
            "has no port, or is an IPv6 address without brackets"
        );
        assert_eq!(refusal("1883"), "has no port");
        assert_eq!(
            refusal("127.0.0.1:65536"),
            "its port is no number from 0 to 65535"
        );
        assert_eq!(
            refusal("localhost:mqtt"),
            "its port is no number from 0 to 65535"
        );
        let brackets = "an IPv6 address stands in brackets, an IPv4 address does not";
        assert_eq!(refusal("[127.0.0.1]:1883"), brackets);
        assert_eq!(refusal("fe80::1%eth0:1883"), "is not an IP address");
        assert_eq!(refusal("10.0.0.300:1883"), "is not an IP address");
        let no_address = "has no address (0.0.0.0 is every IPv4 interface, [::] every interface)";
        assert_eq!(refusal(":1883"), no_address);
        assert_eq!(refusal("*:1883"), no_address);
    }

    proptest! {
        #[test]
        fn bind_reads_back_equal_when_printed(address: IpAddr, port: u16) {
            let bind = SocketAddr::new(address, port);
            prop_assert_eq!(parse_bind(&bind.to_string()), Ok(bind));
        }

        #[test]
        fn bind_parser_answers_any_text(text in "[\\[\\]:.*%a0-9é]{0,20}") {
            let _answer = parse_bind(&text);
        }
    }
}
