//! Why a connection failed, told to a person: who, what, and what to look at.

use std::io;

use anyhow::{Error, anyhow};
use rumqttc::v5;
use rustls::CertificateError;

use crate::client::reason;

/// What the words need to know of the connection.
#[derive(Clone, Debug)]
pub(super) struct Circumstances {
    /// `HOST:PORT`.
    pub(super) broker: String,
    pub(super) encrypted: bool,
    pub(super) timeout_seconds: u64,
    /// Whether the broker has accepted the connection.
    pub(super) connected: bool,
}

impl Circumstances {
    /// Explains the end of a 3.1.1 connection.
    pub(super) fn explain_v311(&self, error: rumqttc::ConnectionError) -> Error {
        use rumqttc::{ConnectionError, StateError};
        let broker = &self.broker;
        match error {
            ConnectionError::ConnectionRefused(code) => anyhow!(
                "the broker at {broker} refused the connection: {}",
                reason::connack_v311(code)
            ),
            ConnectionError::Io(error) => self.explain_io(&error),
            ConnectionError::MqttState(StateError::Io(error)) => self.explain_io(&error),
            ConnectionError::MqttState(StateError::ConnectionAborted) => self.closed(),
            ConnectionError::MqttState(StateError::AwaitPingResp)
            | ConnectionError::NetworkTimeout
            | ConnectionError::FlushTimeout => self.silent(),
            ConnectionError::MqttState(StateError::Deserialization(error)) => {
                self.explain_bytes_v311(error)
            }
            ConnectionError::Tls(error) => self.explain_tls(error),
            ConnectionError::NotConnAck(_) => self.not_mqtt("the first packet is not a CONNACK"),
            error => anyhow!("the connection to {broker} failed: {error}"),
        }
    }

    /// Explains the end of an MQTT 5 connection.
    pub(super) fn explain_v5(&self, error: v5::ConnectionError) -> Error {
        use v5::mqttbytes::Error as BytesError;
        use v5::{ConnectionError, StateError};
        let broker = &self.broker;
        match error {
            ConnectionError::ConnectionRefused(code) => anyhow!(
                "the broker at {broker} refused the connection: {}",
                reason::connack(code)
            ),
            ConnectionError::Io(error) => self.explain_io(&error),
            ConnectionError::MqttState(StateError::Io(error)) => self.explain_io(&error),
            ConnectionError::MqttState(StateError::ConnectionAborted) => self.closed(),
            ConnectionError::MqttState(StateError::AwaitPingResp) | ConnectionError::Timeout(_) => {
                self.silent()
            }
            ConnectionError::MqttState(StateError::ServerDisconnect {
                reason_code,
                reason_string,
            }) => anyhow!(
                "the broker at {broker} ended the connection: {}",
                reason::with_text(reason::disconnect(reason_code), reason_string.as_deref())
            ),
            ConnectionError::MqttState(
                StateError::OutgoingPacketTooLarge { pkt_size, max }
                | StateError::Deserialization(BytesError::OutgoingPacketTooLarge { pkt_size, max }),
            ) => anyhow!(
                "the message makes a packet of {pkt_size} bytes, the broker at {broker} takes at \
                 most {max}"
            ),
            ConnectionError::MqttState(StateError::Deserialization(BytesError::Io(error))) => {
                self.explain_io(&error)
            }
            ConnectionError::MqttState(StateError::Deserialization(error)) => {
                self.not_mqtt(&error.to_string())
            }
            ConnectionError::Tls(error) => self.explain_tls(error),
            ConnectionError::NotConnAck(_) => self.not_mqtt("the first packet is not a CONNACK"),
            error => anyhow!("the connection to {broker} failed: {error}"),
        }
    }

    /// Nothing came for as long as the caller waits.
    pub(super) fn silent(&self) -> Error {
        let Self {
            broker,
            timeout_seconds,
            ..
        } = self;
        if self.connected {
            anyhow!("the broker at {broker} has not answered for {timeout_seconds} s")
        } else {
            anyhow!("no answer from {broker} to CONNECT within {timeout_seconds} s")
        }
    }

    fn closed(&self) -> Error {
        let broker = &self.broker;
        if self.connected {
            anyhow!("the broker at {broker} closed the connection")
        } else if self.encrypted {
            anyhow!("{broker} closed the connection; is this its port for TLS (--port)?")
        } else {
            anyhow!(
                "{broker} closed the connection instead of answering CONNECT; if it expects TLS, \
                 use --cafile"
            )
        }
    }

    fn not_mqtt(&self, what: &str) -> Error {
        anyhow!("{} sent what is not MQTT: {what}", self.broker)
    }

    /// `rumqttc` also reports failed reads and writes of 3.1.1 as undecodable.
    fn explain_bytes_v311(&self, error: rumqttc::mqttbytes::Error) -> Error {
        use rumqttc::mqttbytes::Error as BytesError;
        match error {
            BytesError::Io(error) => self.explain_io(&error),
            BytesError::OutgoingPacketTooLarge { pkt_size, max } => {
                anyhow!("the message has {pkt_size} bytes, at most {max} can be sent")
            }
            error => self.not_mqtt(&error.to_string()),
        }
    }

    fn explain_io(&self, error: &io::Error) -> Error {
        let broker = &self.broker;
        match error.kind() {
            io::ErrorKind::ConnectionRefused => anyhow!(
                "nobody listens at {broker}; is the broker running, and is this its address (--host, --port)?"
            ),
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof => self.closed(),
            _ if self.connected => anyhow!("the connection to {broker} failed: {error}"),
            _ => anyhow!("cannot reach {broker}: {error}"),
        }
    }

    fn explain_tls(&self, error: rumqttc::TlsError) -> Error {
        let broker = &self.broker;
        let error = match error {
            rumqttc::TlsError::Io(error) => error,
            rumqttc::TlsError::DNSName(_) => {
                return anyhow!("{broker}: a certificate cannot be for this name (--host)");
            }
            error => return anyhow!("no TLS connection to {broker}: {error}"),
        };
        let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
        match cause {
            Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
                anyhow!("the certificate of {broker} is not signed by one in the file of --cafile")
            }
            Some(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => anyhow!("the certificate of {broker} is for another name than that of --host"),
            Some(rustls::Error::InvalidMessage(_)) => {
                anyhow!("{broker} does not speak TLS; is this its port for TLS (--port)?")
            }
            Some(cause) => anyhow!("no TLS connection to {broker}: {cause}"),
            None => self.explain_io(&error),
        }
    }
}
