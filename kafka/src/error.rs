//! What can go wrong between a request and its answer. Every error names the broker and the request
//! type; which variant it is tells whose turn it is:
//!
//! - [`CallError::Lost`] and [`CallError::Timeout`]: the network or the broker. Connect again. The
//!   request may have been carried out.
//! - [`CallError::Refused`]: the broker's answer. [`ErrorCode::is_retriable`] tells whether waiting
//!   helps, [`ErrorCode::remedy`] what an operator can do.
//! - [`CallError::Protocol`], [`CallError::Encode`]: a bug on one of the two sides.
//! - [`CallError::Unsupported`]: the broker is too old or too new for this request.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::api::{Api, VersionRange};
use crate::error_code::ErrorCode;
use crate::frame::EncodeError;
use crate::layout::LayoutError;
use crate::transport::TransportError;

/// Why no connection could be made.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ConnectError {
    /// The stream is there, but the first request failed.
    #[error("open the kafka connection")]
    Handshake(#[source] CallError),
    /// There is no stream.
    #[error(transparent)]
    Transport(#[from] TransportError),
}

/// Why a request has no usable answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CallError {
    /// The request cannot be written; nothing was sent.
    #[error("{api} request for kafka broker {broker} cannot be encoded")]
    Encode {
        /// As configured.
        broker: Arc<str>,
        /// The request type.
        api: Api,
        /// What does not fit.
        #[source]
        source: EncodeError,
    },
    /// The connection ended before the answer came.
    #[error("{api} request to kafka broker {broker} has no answer: {}",
            if *.sent { "it was sent" } else { "it was not sent" })]
    Lost {
        /// As configured.
        broker: Arc<str>,
        /// The request type.
        api: Api,
        /// Whether a part of the request may have reached the broker. If not, it was certainly not
        /// carried out.
        sent: bool,
        /// What ended the connection.
        #[source]
        source: Lost,
    },
    /// The answer is not what the protocol says.
    #[error("{api} response of kafka broker {broker} (version {version}) cannot be used")]
    Protocol {
        /// As configured.
        broker: Arc<str>,
        /// The request type.
        api: Api,
        /// The version spoken.
        version: i16,
        /// What is wrong with it.
        #[source]
        source: ResponseError,
    },
    /// The broker refused the request as a whole.
    #[error("{api} request refused by kafka broker {broker}: {code}")]
    Refused {
        /// As configured.
        broker: Arc<str>,
        /// The request type.
        api: Api,
        /// The broker's reason.
        code: ErrorCode,
    },
    /// The broker did not answer in time. The connection is closed, because answers come in order.
    #[error("{api} request to kafka broker {broker} was not answered within {} ms",
            timeout.as_millis())]
    Timeout {
        /// As configured.
        broker: Arc<str>,
        /// The request type.
        api: Api,
        /// The time allowed.
        timeout: Duration,
    },
    /// There is no version of this request that both sides speak.
    #[error("kafka broker {broker} supports {api} {}, this client needs {ours}",
            theirs.map_or_else(|| "not at all".to_owned(), |theirs| theirs.to_string()))]
    Unsupported {
        /// As configured.
        broker: Arc<str>,
        /// The request type.
        api: Api,
        /// This client's versions.
        ours: VersionRange,
        /// The broker's versions, if it knows the request at all.
        theirs: Option<VersionRange>,
    },
}

impl CallError {
    /// The request type.
    pub fn api(&self) -> Api {
        match self {
            Self::Encode { api, .. }
            | Self::Lost { api, .. }
            | Self::Protocol { api, .. }
            | Self::Refused { api, .. }
            | Self::Timeout { api, .. }
            | Self::Unsupported { api, .. } => *api,
        }
    }

    /// Whether the broker may have carried the request out although there is no answer.
    pub fn is_in_doubt(&self) -> bool {
        match self {
            Self::Lost { sent, .. } => *sent,
            Self::Timeout { .. } | Self::Protocol { .. } => true,
            Self::Encode { .. } | Self::Refused { .. } | Self::Unsupported { .. } => false,
        }
    }

    /// The broker's error code, if it is a refusal.
    pub fn refused_with(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }
}

/// What ended a connection.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Lost {
    /// The broker closed it.
    #[error("the broker closed the connection")]
    ClosedByBroker,
    /// This side dropped the connection.
    #[error("the connection was dropped")]
    Dropped,
    /// A frame with an impossible length: not a Kafka broker, or a damaged stream.
    #[error("frame of {length} bytes received, between 0 and {bytes_max} are allowed")]
    FrameLength {
        /// The length found.
        length: i32,
        /// The limit in force.
        bytes_max: usize,
    },
    /// The system reported an error.
    #[error("{action}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// What the system said.
        #[source]
        source: Arc<io::Error>,
    },
    /// An earlier request on this connection was not answered in time.
    #[error("an earlier {api} request was not answered within {} ms", timeout.as_millis())]
    TimedOut {
        /// The request type of that request.
        api: Api,
        /// The time allowed.
        timeout: Duration,
    },
    /// The stream ended inside a frame.
    #[error("the connection ended inside a response")]
    Truncated,
    /// A response to no request, or to another than the oldest one.
    #[error("response with correlation id {found} received, {}",
            expected.map_or_else(|| "none is expected".to_owned(), |id| format!("{id} is next")))]
    Unexpected {
        /// The id in the response.
        found: i32,
        /// The id of the oldest request without an answer.
        expected: Option<i32>,
    },
    /// A response too short for its header.
    #[error("response of {bytes} bytes received, which is no header")]
    Header {
        /// Size of the response.
        bytes: usize,
    },
}

/// What is wrong with a response.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ResponseError {
    /// The decoder refused it.
    #[error("{0}")]
    Decode(String),
    /// Its bytes do not have the layout of the message.
    #[error("wrong layout")]
    Layout(#[from] LayoutError),
    /// A field has a value that it cannot have.
    #[error("{field} is {value}")]
    Value {
        /// The field.
        field: &'static str,
        /// The value found.
        value: i64,
    },
}
