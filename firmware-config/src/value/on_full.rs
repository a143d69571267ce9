//! What gives way when a log is full.

use std::fmt;
use std::str::FromStr;

use super::Refusal;

/// What gives way when a log has its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFull {
    /// The oldest records, replicated or not.
    #[default]
    DropOldest,
    /// New records, while those that a route has not replicated leave no room.
    Reject,
}

impl FromStr for OnFull {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        match text {
            "drop-oldest" => Ok(Self::DropOldest),
            "reject" => Ok(Self::Reject),
            _ => Err(Refusal::new("is none of the two")),
        }
    }
}

impl fmt::Display for OnFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DropOldest => "drop-oldest",
            Self::Reject => "reject",
        })
    }
}
