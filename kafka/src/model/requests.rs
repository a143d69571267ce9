//! From a request frame to the answer: header, version, decoding, one file per request type.
//!
//! The versions served reach lower than those that this crate's client speaks, so that other Kafka
//! clients can produce to the model and read from it by partition. There are no consumer groups.

mod create_topics;
mod describe_producers;
mod fetch;
mod list_offsets;
mod metadata;
mod offset_for_leader_epoch;
mod produce;

use std::collections::BTreeMap;

use bytes::{Buf, Bytes};
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, InitProducerIdRequest, InitProducerIdResponse,
    ResponseHeader,
};
use kafka_protocol::protocol::{Encodable, HeaderVersion, Request};

use super::server::Shared;
use crate::api::{Api, VersionRange};
use crate::error_code::ErrorCode;
use crate::frame::encode;
use crate::layout::{Layout, header_tags_bytes};
use crate::messages::{self, decode_checked};

/// What to do after a request.
#[derive(Debug)]
pub(super) enum Answer {
    /// Close the connection.
    Cut,
    /// Send this frame.
    Frame(Bytes),
    /// Nothing: the client wants no answer.
    Silence,
}

/// A request as its header describes it.
struct Received {
    api: Api,
    version: i16,
    correlation_id: i32,
    /// What follows the client id: the tags of flexible headers and the body.
    rest: Bytes,
}

/// The versions of `api` that the model can speak.
pub(super) const fn versions(api: Api) -> VersionRange {
    let (min, max) = match api {
        Api::Produce => (3, 9),
        Api::Fetch => (4, 12),
        Api::ListOffsets => (1, 6),
        Api::Metadata => (0, 12),
        Api::ApiVersions => (0, 3),
        Api::CreateTopics => (2, 7),
        Api::InitProducerId => (0, 4),
        Api::OffsetForLeaderEpoch => (2, 4),
        Api::DescribeProducers => (0, 0),
    };
    VersionRange { min, max }
}

/// Answers a request. Whatever cannot be understood closes the connection, as Kafka does it.
pub(super) async fn answer(shared: &Shared, frame: Bytes) -> Answer {
    let Some(received) = header(frame) else {
        return Answer::Cut;
    };
    let offered = shared.node().options.versions.clone();
    let spoken = offered.get(&received.api).is_some_and(|range| {
        range.contains(received.version) && versions(received.api).contains(received.version)
    });
    if !spoken {
        return match received.api {
            Api::ApiVersions => {
                api_versions(&received, &offered, ErrorCode::UNSUPPORTED_VERSION, 0)
            }
            _ => Answer::Cut,
        };
    }
    match received.api {
        Api::ApiVersions => {
            let layout = &messages::api_versions::REQUEST;
            match received.body::<ApiVersionsRequest>(layout) {
                Some(_) => api_versions(&received, &offered, ErrorCode::NONE, received.version),
                None => Answer::Cut,
            }
        }
        Api::CreateTopics => create_topics::answer(shared, &received),
        Api::DescribeProducers => describe_producers::answer(shared, &received),
        Api::Fetch => fetch::answer(shared, &received).await,
        Api::InitProducerId => init_producer_id(shared, &received),
        Api::ListOffsets => list_offsets::answer(shared, &received),
        Api::Metadata => metadata::answer(shared, &received),
        Api::OffsetForLeaderEpoch => offset_for_leader_epoch::answer(shared, &received),
        Api::Produce => produce::answer(shared, &received).await,
    }
}

fn header(mut frame: Bytes) -> Option<Received> {
    let api = Api::from_key(frame.try_get_i16().ok()?)?;
    let version = frame.try_get_i16().ok()?;
    let correlation_id = frame.try_get_i32().ok()?;
    // The client id keeps its old form in flexible headers; -1 stands for none.
    let client_id_bytes = usize::try_from(frame.try_get_i16().ok()?).unwrap_or(0);
    if client_id_bytes > frame.len() {
        return None;
    }
    frame.advance(client_id_bytes);
    Some(Received {
        api,
        version,
        correlation_id,
        rest: frame,
    })
}

impl Received {
    /// The body, if it has its layout.
    fn body<R: Request>(&self, layout: &Layout) -> Option<R> {
        let mut body = self.rest.clone();
        if R::header_version(self.version) >= 2 {
            let tags = header_tags_bytes(&body).ok()?;
            body.advance(tags);
        }
        decode_checked(layout, body, self.version).ok()
    }

    fn reply<B: Encodable + HeaderVersion>(&self, body: &B) -> Answer {
        self.reply_version(body, self.version)
    }

    fn reply_version<B: Encodable + HeaderVersion>(&self, body: &B, version: i16) -> Answer {
        let header = ResponseHeader::default().with_correlation_id(self.correlation_id);
        match encode(&header, B::header_version(version), body, version) {
            Ok(frame) => Answer::Frame(frame),
            Err(_) => Answer::Cut,
        }
    }
}

fn api_versions(
    received: &Received,
    offered: &BTreeMap<Api, VersionRange>,
    code: ErrorCode,
    version: i16,
) -> Answer {
    let supported = offered.iter().map(|(api, range)| {
        ApiVersion::default()
            .with_api_key(api.key())
            .with_min_version(range.min)
            .with_max_version(range.max)
    });
    let body = ApiVersionsResponse::default()
        .with_error_code(code.0)
        .with_api_keys(supported.collect());
    received.reply_version(&body, version)
}

fn init_producer_id(shared: &Shared, received: &Received) -> Answer {
    let layout = &messages::init_producer_id::REQUEST;
    let Some(request) = received.body::<InitProducerIdRequest>(layout) else {
        return Answer::Cut;
    };
    let body = if request.transactional_id.is_some() {
        let code = ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED;
        InitProducerIdResponse::default()
            .with_error_code(code.0)
            .with_producer_id((-1).into())
            .with_producer_epoch(-1)
    } else {
        let producer_id = shared.node().new_producer_id();
        InitProducerIdResponse::default()
            .with_producer_id(producer_id.into())
            .with_producer_epoch(0)
    };
    received.reply(&body)
}

/// A leader epoch in a request; -1 stands for none.
fn epoch(epoch: i32) -> Option<i32> {
    messages::unless_negative(epoch)
}

/// The code of a result; 0 for success.
fn code<T>(result: &Result<T, ErrorCode>) -> i16 {
    result.as_ref().err().map_or(0, |code| code.0)
}
