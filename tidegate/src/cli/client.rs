//! Options of `pub` and `sub`. Letters and names are those of mosquitto's clients where these have
//! them; what a password is, is never on the command line, where every user of the machine sees it.

use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueEnum};
use mqtt::{TopicFilter, TopicName, Utf8String, Utf8StringError};

/// How to reach the broker, and as whom.
#[derive(Args, Debug)]
pub(crate) struct ConnectionOptions {
    /// Name or IP address of the broker
    #[arg(long, value_name = "HOST", default_value = "localhost")]
    pub(crate) host: String,
    /// Port of the broker; 1883 without and 8883 with --cafile
    #[arg(short, long, value_name = "PORT")]
    pub(crate) port: Option<u16>,
    /// Version of MQTT to speak: 3 is 3.1.1
    #[arg(short = 'V', long, value_enum, default_value_t = MqttVersion::V5)]
    pub(crate) mqtt_version: MqttVersion,
    /// Client id; without one a random one
    #[arg(short, long, value_name = "ID", value_parser = mqtt_string)]
    pub(crate) id: Option<String>,
    /// User name
    #[arg(short, long, value_name = "NAME", value_parser = mqtt_string)]
    pub(crate) username: Option<String>,
    /// File whose first line is the password
    #[arg(long, value_name = "FILE", requires = "username")]
    pub(crate) password_file: Option<PathBuf>,
    /// Encrypt (TLS), and trust a broker whose certificate one of this file (PEM) has signed
    #[arg(long, value_name = "FILE")]
    pub(crate) cafile: Option<PathBuf>,
    /// Longest time to wait for an answer that the broker owes
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) timeout: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum MqttVersion {
    /// MQTT 3.1.1
    #[value(name = "3", aliases = ["311", "3.1.1", "mqttv311"])]
    V311,
    /// MQTT 5
    #[value(name = "5", alias = "mqttv5")]
    V5,
}

/// What scripts may rely on; kept in step with `exit`.
const PUB_EXIT_STATUS: &str = "\
Exit status:
  0  everything was published; with QoS 1 or 2 the broker has acknowledged every message
  1  failed or refused; the message says how many were acknowledged
  2  wrong command line, a topic with a wildcard for instance
Ended by a signal, it dies of the signal: what was not acknowledged by then is not promised.";

/// As [`PUB_EXIT_STATUS`].
const SUB_EXIT_STATUS: &str = "\
Exit status:
  0  --count was reached, --wait is over (without --count), or whoever reads the output has gone
  1  refused, connection lost, or --wait is over before --count was reached
  2  wrong command line, a topic filter that is none for instance
Ended by a signal, it dies of the signal: every message that was received is in the output.";

#[derive(Args, Debug)]
#[command(group = ArgGroup::new("what").required(true), after_help = PUB_EXIT_STATUS)]
pub(crate) struct PubOptions {
    #[command(flatten)]
    pub(crate) connection: ConnectionOptions,
    /// Topic to publish to
    #[arg(short, long, value_name = "TOPIC")]
    pub(crate) topic: TopicName,
    /// Publish this text
    #[arg(short, long, value_name = "TEXT", group = "what")]
    pub(crate) message: Option<String>,
    /// Publish a file as one message; `-` is standard input
    #[arg(short, long, value_name = "FILE", group = "what")]
    pub(crate) file: Option<PathBuf>,
    /// Publish every line of standard input as a message, as it comes
    #[arg(short, long, group = "what")]
    pub(crate) lines: bool,
    /// Publish a message without content; with --retain it removes the retained one
    #[arg(short, long, group = "what")]
    pub(crate) null: bool,
    /// Quality of service: with 1, success means that the broker has acknowledged every message
    #[arg(short, long, value_name = "0|1|2", default_value_t = 0)]
    #[arg(value_parser = clap::value_parser!(u8).range(0..=2))]
    pub(crate) qos: u8,
    /// Ask the broker to keep the message for later subscribers
    #[arg(short, long)]
    pub(crate) retain: bool,
    /// User property of the messages (MQTT 5); may be given several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = user_property)]
    pub(crate) property: Vec<(String, String)>,
}

#[derive(Args, Debug)]
#[command(after_help = SUB_EXIT_STATUS)]
pub(crate) struct SubOptions {
    #[command(flatten)]
    pub(crate) connection: ConnectionOptions,
    /// Topic filter to subscribe to; may be given several times
    #[arg(short, long, value_name = "FILTER", required = true)]
    pub(crate) topic: Vec<TopicFilter>,
    /// Highest quality of service to receive messages with
    #[arg(short, long, value_name = "0|1|2", default_value_t = 0)]
    #[arg(value_parser = clap::value_parser!(u8).range(0..=2))]
    pub(crate) qos: u8,
    /// End after so many messages
    #[arg(short, visible_short_alias = 'C', long, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// End after this time; it is a failure if --count has not been reached
    #[arg(short = 'W', long, value_name = "SECONDS")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=31_536_000))]
    pub(crate) wait: Option<u64>,
    /// Print the topic before the payload
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// Print one JSON object a message
    #[arg(long, conflicts_with = "verbose")]
    pub(crate) json: bool,
}

/// A text that MQTT can carry.
fn mqtt_string(text: &str) -> Result<String, Utf8StringError> {
    Utf8String::try_from(text).map(|_| text.to_owned())
}

fn user_property(text: &str) -> Result<(String, String), String> {
    let (name, value) = text
        .split_once('=')
        .ok_or("there is no `=` between name and value")?;
    let checked = |text| mqtt_string(text).map_err(|error| error.to_string());
    Ok((checked(name)?, checked(value)?))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use crate::cli::{Arguments, Command};

    #[test]
    fn letters_of_mosquitto_are_understood() {
        let line = "tidegate sub -t a/# -t b -q 1 -V mqttv311 -p 1884 -i me -u joe -C 3 -W 9 -v";
        let Command::Sub(options) = Arguments::parse_from(line.split(' ')).command else {
            panic!("not sub");
        };
        assert_eq!(options.topic.len(), 2);
        assert_eq!((options.count, options.wait), (Some(3), Some(9)));
        assert_eq!(options.connection.port, Some(1884));
        assert!(Arguments::try_parse_from(["tidegate", "pub", "-t", "a"]).is_err());
        for arguments in [
            "-m x -n",
            "-m x -q 3",
            "-m x --property y",
            "-m x --password-file p",
        ] {
            let line = format!("tidegate pub -t a {arguments}");
            assert!(
                Arguments::try_parse_from(line.split(' ')).is_err(),
                "{line}"
            );
        }
        let wildcard = ["tidegate", "pub", "-t", "a/#", "-m", "x"];
        let error = Arguments::try_parse_from(wildcard).unwrap_err().to_string();
        assert!(error.contains("wildcard"), "{error}");
    }
}
