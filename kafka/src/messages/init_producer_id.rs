//! InitProducerId: a fresh producer id for an idempotent producer.
//!
//! Versions: the request is the same in 0 to 2; 3 and 4 let a transactional producer name the id
//! that it had ([KIP-360]), which this client leaves empty; later ones concern transactions only.
//!
//! [KIP-360]: https://cwiki.apache.org/confluence/pages/viewpage.action?pageId=89068820

use std::time::Duration;

use kafka_protocol::messages::{InitProducerIdRequest as WireRequest, InitProducerIdResponse};

use super::{Message, throttle};
use crate::api::{Api, VersionRange};
use crate::connection::{Connection, MessageError};
use crate::error::{CallError, ResponseError};
use crate::error_code::ErrorCode;
use crate::layout::{Field, I16, I32, I64, Layout};

pub(crate) const RESPONSE: Layout = Layout {
    flexible_from: 2,
    fields: &[I32, I16, I64, I16],
};

pub(crate) const REQUEST: Layout = Layout {
    flexible_from: 2,
    fields: &[
        Field::Text,
        I32,
        Field::Since(3, &I64),
        Field::Since(3, &I16),
    ],
};

struct InitProducerIdRequest;

/// A producer id that nobody else has or had in this cluster.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NewProducerId {
    /// How long the broker asks this client to wait.
    pub throttle: Duration,
    /// The id.
    pub producer_id: i64,
    /// The epoch to start with.
    pub producer_epoch: i16,
}

impl Message for InitProducerIdRequest {
    const API: Api = Api::InitProducerId;
    const VERSIONS: VersionRange = VersionRange { min: 0, max: 4 };
    const RESPONSE: &'static Layout = &RESPONSE;
    type Wire = WireRequest;
    type Response = NewProducerId;

    fn to_wire(&self, version: i16) -> WireRequest {
        let request = WireRequest::default()
            .with_transactional_id(None)
            // Of no account without a transactional id, but it must be positive.
            .with_transaction_timeout_ms(60_000);
        if version < 3 {
            return request;
        }
        request
            .with_producer_id((-1).into())
            .with_producer_epoch(-1)
    }

    fn from_wire(wire: InitProducerIdResponse) -> Result<NewProducerId, MessageError> {
        ErrorCode(wire.error_code)
            .ok()
            .map_err(MessageError::Refused)?;
        if wire.producer_id.0 < 0 {
            let value = wire.producer_id.0;
            return Err(ResponseError::Value {
                field: "producer id",
                value,
            }
            .into());
        }
        if wire.producer_epoch < 0 {
            let value = wire.producer_epoch.into();
            return Err(ResponseError::Value {
                field: "producer epoch",
                value,
            }
            .into());
        }
        Ok(NewProducerId {
            throttle: throttle(wire.throttle_time_ms),
            producer_id: wire.producer_id.0,
            producer_epoch: wire.producer_epoch,
        })
    }
}

impl Connection {
    /// Asks for a producer id; any broker can give one.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn init_producer_id(&self) -> Result<NewProducerId, CallError> {
        self.call(&InitProducerIdRequest).await
    }
}
