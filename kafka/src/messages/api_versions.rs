//! ApiVersions: the first request on every connection asks which request types and versions the
//! broker speaks.
//!
//! Versions: 3 tells the broker this software's name and version ([KIP-511]), which shows up in its
//! metrics. A broker that does not know 3 answers in version 0, with error 35; then 0 is asked,
//! which every broker since 0.10 speaks. The response header never has tagged fields, so that this
//! works.
//!
//! [KIP-511]: https://cwiki.apache.org/confluence/display/KAFKA/KIP-511%3A+Collect+and+Expose+Client%27s+Name+and+Version+in+the+Brokers

use std::collections::BTreeMap;

use bytes::Bytes;
use kafka_protocol::messages::{ApiVersionsRequest as WireRequest, ApiVersionsResponse};
use kafka_protocol::protocol::StrBytes;

use super::{Message, decode_checked};
use crate::api::{Api, VersionRange};
use crate::connection::{Connection, MessageError};
use crate::error::CallError;
use crate::error_code::ErrorCode;
use crate::layout::{BOOL, Field, I16, I32, I64, Layout};

const FEATURES: Field = Field::Array(&[Field::Text, I16, I16]);

pub(crate) const RESPONSE: Layout = Layout {
    flexible_from: 3,
    fields: &[
        I16,
        Field::Array(&[I16, I16, I16]),
        Field::Since(1, &I32),
        Field::Tags(&[
            (0, &[FEATURES]),
            (1, &[I64]),
            (2, &[FEATURES]),
            (3, &[BOOL]),
        ]),
    ],
};

pub(crate) const REQUEST: Layout = Layout {
    flexible_from: 3,
    fields: &[Field::Since(3, &Field::Text), Field::Since(3, &Field::Text)],
};

struct ApiVersionsRequest {
    software_name: String,
    software_version: String,
}

impl Message for ApiVersionsRequest {
    const API: Api = Api::ApiVersions;
    const VERSIONS: VersionRange = VersionRange { min: 0, max: 3 };
    const RESPONSE: &'static Layout = &RESPONSE;
    type Wire = WireRequest;
    type Response = BTreeMap<Api, VersionRange>;

    fn to_wire(&self, version: i16) -> WireRequest {
        if version < 3 {
            return WireRequest::default();
        }
        WireRequest::default()
            .with_client_software_name(StrBytes::from_string(self.software_name.clone()))
            .with_client_software_version(StrBytes::from_string(self.software_version.clone()))
    }

    fn from_wire(wire: ApiVersionsResponse) -> Result<Self::Response, MessageError> {
        ErrorCode(wire.error_code)
            .ok()
            .map_err(MessageError::Refused)?;
        let known = wire.api_keys.iter().filter_map(|supported| {
            let range = VersionRange {
                min: supported.min_version,
                max: supported.max_version,
            };
            Some((Api::from_key(supported.api_key)?, range))
        });
        Ok(known.collect())
    }

    fn decode(bytes: Bytes, version: i16) -> Result<Self::Response, MessageError> {
        // The refusal of a version comes in version 0.
        let refused = bytes
            .first_chunk()
            .map(|code| ErrorCode(i16::from_be_bytes(*code)))
            == Some(ErrorCode::UNSUPPORTED_VERSION);
        let version = if refused { 0 } else { version };
        Self::from_wire(decode_checked(Self::RESPONSE, bytes, version)?)
    }
}

/// Asks for the broker's versions, by the newest way that it understands.
pub(crate) async fn negotiate(
    connection: &Connection,
    software_name: String,
    software_version: String,
) -> Result<BTreeMap<Api, VersionRange>, CallError> {
    let request = ApiVersionsRequest {
        software_name,
        software_version,
    };
    match connection.call_version(&request, 3).await {
        Err(CallError::Refused {
            code: ErrorCode::UNSUPPORTED_VERSION,
            ..
        }) => connection.call_version(&request, 0).await,
        answer => answer,
    }
}
