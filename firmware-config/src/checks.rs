//! What other crates know about values of the configuration.

/// Rules that are not ours: this crate depends on none of the crates that know them, so the
/// caller brings them along.
#[derive(Clone, Copy, Debug)]
pub struct Checks {
    /// Whether a text is an MQTT topic filter (MQTT 5.0 section 4.7); the error says why not,
    /// without the text itself.
    pub topic_filter: fn(&str) -> Result<(), String>,
}
