//! Peers that are no broker, or a broken one: an error that says what it is, never a panic, never a
//! hang, never memory by their word.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka::messages::describe_producers::DescribeProducers;
use kafka::{
    Api, CallError, ConnectError, Connection, ConnectionOptions, ErrorCode, Lost, ResponseError,
    TransportError, TransportOptions,
};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use crate::setup::{ended, produce_request, topic};

/// A peer that answers each request by what `answer` makes of its type, version and correlation id,
/// and closes the connection when that is `None`.
async fn peer(
    answer: impl Fn(i16, i16, i32) -> Option<Vec<u8>> + Send + 'static,
) -> (String, tokio::task::JoinHandle<io::Result<()>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let task = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await?;
        while let Some([key, version, high, low]) = request(&mut stream).await? {
            let correlation_id = i32::from(high) << 16 | i32::from(low.cast_unsigned());
            match answer(key, version, correlation_id) {
                Some(bytes) => stream.write_all(&bytes).await?,
                None => return Ok(()),
            }
        }
        Ok(())
    });
    (address, task)
}

/// The first four numbers of a request; `None` when the client has closed in good order.
async fn request(stream: &mut TcpStream) -> io::Result<Option<[i16; 4]>> {
    let length = match stream.read_i32().await {
        Ok(length) => length,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut frame = vec![0; usize::try_from(length).unwrap()];
    stream.read_exact(&mut frame).await?;
    let number = |at: usize| i16::from_be_bytes([frame[at], frame[at + 1]]);
    Ok(Some([number(0), number(2), number(4), number(6)]))
}

/// A response frame.
fn response(correlation_id: i32, body: &[u8]) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    bytes.extend_from_slice(&i32::try_from(body.len() + 4).unwrap().to_be_bytes());
    bytes.extend_from_slice(&correlation_id.to_be_bytes());
    bytes.extend_from_slice(body);
    bytes.to_vec()
}

/// ApiVersions, version 3: the given request types, each in versions 0 to 99.
fn supports(apis: &[Api], correlation_id: i32) -> Vec<u8> {
    let mut body = vec![0, 0, u8::try_from(apis.len() + 1).unwrap()];
    for api in apis {
        body.extend_from_slice(&api.key().to_be_bytes());
        body.extend_from_slice(&[0, 0, 0, 99, 0]);
    }
    // No throttling, no tags.
    body.extend_from_slice(&[0, 0, 0, 0, 0]);
    response(correlation_id, &body)
}

async fn connect(address: &str) -> Result<Connection, ConnectError> {
    let options = ConnectionOptions {
        request_timeout: Duration::from_secs(20),
        frame_bytes_max: 100_000,
        ..ConnectionOptions::default()
    };
    Connection::connect(address, options).await
}

/// Connects to a peer that speaks InitProducerId and answers it with `body`.
async fn init_producer_id_answered_with(body: &'static [u8]) -> CallError {
    let (address, _peer) = peer(move |key, _, id| {
        Some(if key == 18 {
            supports(&Api::ALL, id)
        } else {
            response(id, body)
        })
    })
    .await;
    let connection = connect(&address).await.unwrap();
    connection.init_producer_id().await.unwrap_err()
}

fn lost(error: ConnectError) -> Lost {
    match error {
        ConnectError::Handshake(CallError::Lost { source, .. }) => source,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn connecting_fails_when_nobody_listens_or_the_name_is_none() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let error = connect(&address).await.unwrap_err();
    assert!(
        matches!(
            error,
            ConnectError::Transport(TransportError::Connect { .. })
        ),
        "{error:?}"
    );
    assert!(error.to_string().contains(&address), "{error}");
    let error = connect("127.0.0.1").await.unwrap_err();
    assert_eq!(error.to_string(), "resolve kafka broker 127.0.0.1");
}

#[tokio::test]
async fn connecting_fails_when_the_peer_closes_or_speaks_something_else() {
    let (address, _peer) = peer(|_, _, _| None).await;
    let error = lost(connect(&address).await.unwrap_err());
    assert!(
        matches!(error, Lost::ClosedByBroker | Lost::Io { .. }),
        "{error:?}"
    );

    let (address, _peer) = peer(|_, _, _| Some(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec())).await;
    let error = lost(connect(&address).await.unwrap_err());
    assert!(
        matches!(
            error,
            Lost::FrameLength {
                length: 0x4854_5450,
                ..
            }
        ),
        "{error:?}"
    );

    let (address, _peer) = peer(|_, _, _| Some(vec![0xff, 0xff, 0xff, 0xff])).await;
    let error = lost(connect(&address).await.unwrap_err());
    assert!(
        matches!(error, Lost::FrameLength { length: -1, .. }),
        "{error:?}"
    );

    let (address, _peer) = peer(|_, _, _| Some(vec![0, 0, 0, 2, 7, 7])).await;
    let error = lost(connect(&address).await.unwrap_err());
    assert!(matches!(error, Lost::Header { bytes: 2 }), "{error:?}");
}

#[tokio::test]
async fn connection_ends_when_an_answer_is_not_the_next_one() {
    let (address, _peer) = peer(|_, _, id| Some(supports(&Api::ALL, id + 1))).await;
    let error = lost(connect(&address).await.unwrap_err());
    assert!(
        matches!(
            error,
            Lost::Unexpected {
                found: 1,
                expected: Some(0)
            }
        ),
        "{error:?}"
    );

    let (address, _peer) =
        peer(|_, _, id| Some([supports(&Api::ALL, id), response(id, b"again")].concat())).await;
    let connection = connect(&address).await.unwrap();
    let error = ended(&connection).await;
    assert!(
        matches!(
            error,
            Lost::Unexpected {
                found: 0,
                expected: None
            }
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn connection_ends_when_it_is_cut_inside_a_frame() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let peer = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        request(&mut stream).await.unwrap();
        stream.write_all(&[0, 0, 1, 0, 0, 0]).await.unwrap();
        stream.shutdown().await.unwrap();
        // Kept open on this side, so that the end is seen before a reset.
        stream
    });
    let error = lost(connect(&address).await.unwrap_err());
    assert!(matches!(error, Lost::Truncated), "{error:?}");
    drop(peer.await.unwrap());
}

#[tokio::test]
async fn old_broker_is_asked_for_its_versions_in_version_0() {
    let (address, _peer) = peer(|_, version, id| {
        // Error 35 with an empty list, as version 0 has it; then one request type.
        Some(if version == 3 {
            response(id, &[0, 35, 0, 0, 0, 0])
        } else {
            response(id, &[0, 0, 0, 0, 0, 1, 0, 22, 0, 0, 0, 1])
        })
    })
    .await;
    let connection = connect(&address).await.unwrap();
    let range = connection.broker_versions(Api::InitProducerId).unwrap();
    assert_eq!((range.min, range.max), (0, 1));
    let asked = [DescribeProducers {
        topic: topic(),
        partition: 0,
    }];
    let error = connection.describe_producers(&asked).await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("supports DescribeProducers not at all"),
        "{text}"
    );
    assert!(!error.is_in_doubt());
}

#[tokio::test]
async fn refusal_of_a_whole_request_names_the_code() {
    // Tags, throttle time, error 31, producer id, epoch, tags.
    let body = b"\0\0\0\0\0\0\x1f\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\0";
    let error = init_producer_id_answered_with(body).await;
    assert_eq!(error.refused_with(), Some(ErrorCode(31)));
    assert!(
        error
            .to_string()
            .contains("CLUSTER_AUTHORIZATION_FAILED (31)"),
        "{error}"
    );
}

#[tokio::test]
async fn impossible_value_is_an_error_of_the_protocol() {
    let body = b"\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xfb\0\0\0";
    let error = init_producer_id_answered_with(body).await;
    let CallError::Protocol {
        source,
        api: Api::InitProducerId,
        ..
    } = &error
    else {
        panic!("{error:?}");
    };
    assert_eq!(
        *source,
        ResponseError::Value {
            field: "producer id",
            value: -5
        }
    );
}

#[tokio::test]
async fn response_of_the_wrong_layout_is_refused_and_the_connection_goes_on() {
    for body in [
        b"".as_slice(),
        b"\0",
        b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x07\0\0\0 more",
    ] {
        let error = init_producer_id_answered_with(body).await;
        assert!(
            matches!(
                error,
                CallError::Protocol {
                    source: ResponseError::Layout(_),
                    ..
                }
            ),
            "{error:?}"
        );
    }
    // Metadata whose array of brokers claims 2^28 - 1 elements.
    let (address, _peer) = peer(|key, _, id| {
        Some(match key {
            18 => supports(&Api::ALL, id),
            3 => response(id, &[0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0x7f, 0, 0, 0]),
            _ => response(id, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0]),
        })
    })
    .await;
    let connection = connect(&address).await.unwrap();
    let error = connection.metadata(&[topic()]).await.unwrap_err();
    assert!(
        matches!(
            error,
            CallError::Protocol {
                source: ResponseError::Layout(_),
                ..
            }
        ),
        "{error:?}"
    );
    assert_eq!(connection.init_producer_id().await.unwrap().producer_id, 7);
}

#[tokio::test]
async fn silent_peer_costs_the_time_allowed_and_the_connection() {
    let (address, _peer) = peer(|_, _, _| Some(Vec::new())).await;
    let request_timeout = Duration::from_millis(50);
    let options = ConnectionOptions {
        request_timeout,
        ..ConnectionOptions::default()
    };
    let error = Connection::connect(&address, options).await.unwrap_err();
    let ConnectError::Handshake(error) = error else {
        panic!("{error:?}")
    };
    assert!(
        matches!(
            error,
            CallError::Timeout {
                api: Api::ApiVersions,
                ..
            }
        ),
        "{error:?}"
    );
}

/// A peer that answers ApiVersions and then reads nothing until it is told to; gives the number of
/// bytes that it could read after that.
async fn deaf_peer() -> (String, oneshot::Sender<()>, tokio::task::JoinHandle<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (wake, woken) = oneshot::channel();
    let task = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        request(&mut stream).await.unwrap();
        stream.write_all(&supports(&Api::ALL, 0)).await.unwrap();
        woken.await.unwrap();
        let mut read = Vec::new();
        let _ = stream.read_to_end(&mut read).await;
        read.len()
    });
    (address, wake, task)
}

/// More than the buffers of two sockets hold.
const LARGE_BYTES: usize = 32 * 1024 * 1024;

#[tokio::test]
async fn dropping_the_connection_stops_a_request_that_is_half_written() {
    let (address, wake, peer) = deaf_peer().await;
    let connection = Connection::connect(&address, ConnectionOptions::default())
        .await
        .unwrap();
    let request = produce_request(Bytes::from(vec![0; LARGE_BYTES]));
    let pending = connection
        .begin_produce(&request, Duration::from_secs(60))
        .await
        .unwrap();
    while connection.traffic().sent_bytes() < 10_000 {
        tokio::task::yield_now().await;
    }
    drop(connection);
    let error = pending.await.unwrap_err();
    assert!(
        matches!(
            error,
            CallError::Lost {
                source: Lost::Dropped,
                ..
            }
        ),
        "{error:?}"
    );
    assert!(error.is_in_doubt());
    wake.send(()).unwrap();
    assert!(
        peer.await.unwrap() < LARGE_BYTES,
        "nothing follows once it is dropped"
    );
}

#[tokio::test]
async fn request_behind_one_that_cannot_be_written_is_known_not_to_be_sent() {
    let (address, _wake, _peer) = deaf_peer().await;
    let connection = Connection::connect(&address, ConnectionOptions::default())
        .await
        .unwrap();
    let request = produce_request(Bytes::from(vec![0; LARGE_BYTES]));
    let first = connection
        .begin_produce(&request, Duration::from_millis(100))
        .await
        .unwrap();
    let second = connection
        .begin_produce(&request, Duration::from_secs(60))
        .await
        .unwrap();
    let error = first.await.unwrap_err();
    assert!(
        matches!(error, CallError::Timeout { .. }) && error.is_in_doubt(),
        "{error:?}"
    );
    let error = second.await.unwrap_err();
    assert!(
        matches!(error, CallError::Lost { sent: false, .. }),
        "{error:?}"
    );
    assert!(!error.is_in_doubt());
}

#[tokio::test]
async fn closing_resets_the_connection_when_asked_to() {
    for reset_on_close in [true, false] {
        let (address, peer) = peer(|_, _, id| Some(supports(&Api::ALL, id))).await;
        let transport = TransportOptions {
            reset_on_close,
            notsent_lowat_bytes: Some(16_384),
            ..TransportOptions::default()
        };
        let options = ConnectionOptions {
            transport,
            ..ConnectionOptions::default()
        };
        let connection = Connection::connect(&address, options).await.unwrap();
        drop(connection);
        let ended = peer.await.unwrap().map_err(|error| error.kind());
        let expected = if reset_on_close {
            Err(io::ErrorKind::ConnectionReset)
        } else {
            Ok(())
        };
        assert_eq!(ended, expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a peer sends in place of answers, the caller gets an answer or an error.
    #[test]
    fn arbitrary_answers_end_in_an_answer_or_an_error(
        body in proptest::collection::vec(any::<u8>(), 0..64),
        framed: bool,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let body = Bytes::from(body);
            let (address, _peer) = peer(move |key, _, id| match key {
                18 => Some(supports(&Api::ALL, id)),
                _ if framed => Some(response(id, &body)),
                _ => Some(body.to_vec()),
            })
            .await;
            let request_timeout = Duration::from_millis(20);
            let options = ConnectionOptions { request_timeout, ..ConnectionOptions::default() };
            let connection = Connection::connect(&address, options).await.unwrap();
            let _ = connection.metadata(&[topic()]).await;
            let _ = connection.init_producer_id().await;
        });
    }
}
