//! The name of a route.

use super::Refusal;
use super::name::{check_characters, impl_name, is_plain_character};

/// Names a route of the bridge; the route's position in its log is kept under this name. One to
/// 64 of `a-z 0-9 _ -`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteName(String);

impl RouteName {
    fn check(text: &str) -> Result<(), Refusal> {
        check_characters(text, 64, is_plain_character)
    }
}

impl_name!(RouteName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn route_name_is_refused_when_it_could_not_be_a_metric_label() {
        assert!("telemetry-2".parse::<RouteName>().is_ok());
        assert_eq!(
            "a b".parse::<RouteName>(),
            Err(Refusal::new("' ' is not allowed in it"))
        );
        assert_eq!("".parse::<RouteName>(), Err(Refusal::new("is empty")));
        assert_eq!(
            "x".repeat(65).parse::<RouteName>(),
            Err(Refusal::new("has 65 characters"))
        );
    }
}
