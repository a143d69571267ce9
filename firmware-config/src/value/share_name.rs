//! The name of a group of shared subscribers.

use super::Refusal;
use super::name::impl_name;

/// Longest name in bytes.
const LEN_MAX: usize = 256;

/// Names a group of shared subscribers: what stands between `$share/` and the filter (MQTT 5, 4.8.2).
/// Text of 1 to 256 bytes without `/`, `+`, `#` and the zero character.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShareName(String);

impl ShareName {
    fn check(text: &str) -> Result<(), Refusal> {
        if text.is_empty() {
            return Err(Refusal::new("is empty"));
        }
        if let Some(other) = text.chars().find(|c| matches!(c, '/' | '+' | '#' | '\0')) {
            return Err(Refusal::new(format!("{other:?} is not allowed in it")));
        }
        if text.len() > LEN_MAX {
            return Err(Refusal::new(format!("has {} bytes", text.len())));
        }
        Ok(())
    }
}

impl_name!(ShareName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn share_name_is_refused_when_no_client_could_use_it() {
        assert!("Pressen 2 – Süd".parse::<ShareName>().is_ok());
        for character in ['/', '+', '#', '\0'] {
            let refusal = Refusal::new(format!("{character:?} is not allowed in it"));
            assert_eq!(format!("a{character}").parse::<ShareName>(), Err(refusal));
        }
        let refusal = Refusal::new("has 257 bytes");
        assert_eq!("x".repeat(257).parse::<ShareName>(), Err(refusal));
        assert_eq!("".parse::<ShareName>(), Err(Refusal::new("is empty")));
    }
}
