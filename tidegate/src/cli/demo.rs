//! The command line of `tidegate demo`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

#[derive(Args, Debug)]
pub(crate) struct DemoOptions {
    /// Replicate to this cluster instead of to the model that the demo brings along
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "tamper", value_parser = host_and_port)]
    pub(crate) kafka: Option<String>,
    /// How many devices
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=500))]
    pub(crate) devices: u16,
    /// Messages that each device publishes in a second
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=200))]
    pub(crate) rate: u16,
    /// How long it takes, roughly; it ends 30 seconds later in any case
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u16).range(15..=3600))]
    pub(crate) seconds: u16,
    /// What the devices say and when the link flaps; without it something new
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Put the gateway's configuration, data and log into this new folder, and leave them there
    #[arg(long, value_name = "DIR")]
    pub(crate) keep: Option<PathBuf>,
    /// Print a summary as JSON at the end; all else goes to standard error
    #[arg(long)]
    pub(crate) json: bool,
    /// Let the model lie about one record, which the balance must find
    #[arg(long, hide = true, value_enum)]
    pub(crate) tamper: Option<Tamper>,
    /// Become the gateway of the demo with this process id
    #[arg(long, hide = true, value_name = "PID", requires = "gateway_config")]
    pub(crate) gateway_of: Option<i32>,
    /// Configuration of that gateway
    #[arg(long, hide = true, value_name = "FILE", requires = "gateway_of")]
    pub(crate) gateway_config: Option<PathBuf>,
}

/// What the model does to one record that it acknowledges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tamper {
    /// Not stored
    Drop,
    /// Stored twice
    Duplicate,
}

/// As the client of the cluster takes it; names are looked up there.
fn host_and_port(text: &str) -> Result<String, String> {
    let is_address = text.rsplit_once(':').is_some_and(|(host, port)| {
        let is_port = port.parse::<u16>().is_ok_and(|port| port > 0);
        !host.is_empty() && is_port
    });
    if is_address {
        Ok(text.to_owned())
    } else {
        Err("expected HOST:PORT, such as kafka-1.example:9092 or [::1]:9092".to_owned())
    }
}
