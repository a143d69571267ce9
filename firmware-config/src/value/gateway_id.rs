//! The name of this gateway among all gateways of an owner.

use super::Refusal;
use super::name::{check_characters, impl_name, is_kafka_character};

/// Names this gateway upstream: it is the first part of the `tg-id` that every replicated record
/// carries. One to 64 of `A-Z a-z 0-9 . _ -`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GatewayId(String);

impl GatewayId {
    fn check(text: &str) -> Result<(), Refusal> {
        check_characters(text, 64, is_kafka_character)
    }
}

impl_name!(GatewayId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateway_id_is_refused_when_a_separator_of_tg_id_stands_in_it() {
        assert_eq!(
            "plant7-gw.12_B".parse::<GatewayId>().unwrap().as_str(),
            "plant7-gw.12_B"
        );
        assert_eq!(
            "a/b".parse::<GatewayId>(),
            Err(Refusal::new("'/' is not allowed in it"))
        );
        assert_eq!(
            "ü".parse::<GatewayId>(),
            Err(Refusal::new("'ü' is not allowed in it"))
        );
        assert_eq!("".parse::<GatewayId>(), Err(Refusal::new("is empty")));
    }

    #[test]
    fn gateway_id_is_refused_when_longer_than_64() {
        assert!("x".repeat(64).parse::<GatewayId>().is_ok());
        assert_eq!(
            "x".repeat(65).parse::<GatewayId>(),
            Err(Refusal::new("has 65 characters"))
        );
    }
}
