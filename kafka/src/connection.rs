//! A connection to one broker: requests go out in the order in which they were begun, any number of
//! them (up to a limit) before the first answer, and the answers come back in the same order.
//!
//! Not for: knowing where a partition's leader is, retrying, batching. Whoever uses a connection
//! decides what an error means.
//!
//! Invariants:
//! - A response completes the oldest request without an answer, and only if its correlation id is
//!   that request's. Anything else ends the connection.
//! - A request that is not answered in time ends the connection: the answers behind it could only
//!   come after its own.
//! - Requests in flight and their bytes are bounded by [`ConnectionOptions::inflight_max`].
//! - Dropping the connection ends its task and closes the stream, whatever is in flight.

mod inflight;
mod task;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::protocol::StrBytes;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::api::{Api, VersionRange};
use crate::error::{CallError, ConnectError, Lost, ResponseError};
use crate::frame::{Traffic, encode_request};
use crate::messages::{Message, api_versions};
use crate::transport::{self, TransportOptions};
use inflight::{InFlight, Unanswered};
use task::Outgoing;

/// How to connect and what to allow.
#[derive(Clone, Debug)]
pub struct ConnectionOptions {
    /// Name of this client in the broker's logs, metrics and quotas.
    pub client_id: String,
    /// Name of this software, sent once on connecting ([KIP-511]). Letters, digits, `.` and `-`.
    ///
    /// [KIP-511]: https://cwiki.apache.org/confluence/display/KAFKA/KIP-511%3A+Collect+and+Expose+Client%27s+Name+and+Version+in+the+Brokers
    pub client_software_name: String,
    /// Version of this software, likewise.
    pub client_software_version: String,
    /// Largest response; a longer one ends the connection before memory is reserved for it.
    pub frame_bytes_max: usize,
    /// Requests that may be without an answer at the same time; further ones wait.
    pub inflight_max: usize,
    /// Time for an answer, from the moment the request has its place, where the call names none.
    pub request_timeout: Duration,
    /// Where sent and received bytes are counted.
    pub traffic: Arc<Traffic>,
    /// Socket settings.
    pub transport: TransportOptions,
}

impl Default for ConnectionOptions {
    fn default() -> Self {
        Self {
            client_id: "tidegate".to_owned(),
            client_software_name: "tidegate".to_owned(),
            client_software_version: env!("CARGO_PKG_VERSION").to_owned(),
            frame_bytes_max: 16 * 1024 * 1024,
            inflight_max: 16,
            request_timeout: Duration::from_secs(30),
            traffic: Arc::default(),
            transport: TransportOptions::default(),
        }
    }
}

/// An open connection, ready for requests.
pub struct Connection {
    shared: Arc<Shared>,
    requests: mpsc::Sender<Outgoing>,
    places: Arc<Semaphore>,
    correlation_id: AtomicI32,
    client_id: StrBytes,
    request_timeout: Duration,
    task: AbortHandle,
    versions: BTreeMap<Api, VersionRange>,
}

/// What the task and those who wait for it both see.
#[derive(Debug)]
struct Shared {
    broker: Arc<str>,
    traffic: Arc<Traffic>,
    /// Set once, before anyone is told that the connection has ended.
    lost: OnceLock<Lost>,
}

impl Shared {
    fn lost(&self) -> Lost {
        self.lost.get().cloned().unwrap_or(Lost::Dropped)
    }
}

impl Connection {
    /// Connects to `broker` (`host:port`) and asks which versions it speaks.
    ///
    /// # Errors
    /// The name does not resolve, nobody answers, or what answers is not a Kafka broker.
    pub async fn connect(broker: &str, options: ConnectionOptions) -> Result<Self, ConnectError> {
        let broker: Arc<str> = broker.into();
        let stream = transport::connect(&broker, &options.transport).await?;
        let shared = Arc::new(Shared {
            broker,
            traffic: Arc::clone(&options.traffic),
            lost: OnceLock::new(),
        });
        let inflight_max = options.inflight_max.max(1);
        let (requests, queue) = mpsc::channel(inflight_max);
        let task = task::run(stream, queue, Arc::clone(&shared), options.frame_bytes_max);
        let mut connection = Self {
            shared,
            requests,
            places: Arc::new(Semaphore::new(inflight_max)),
            correlation_id: AtomicI32::new(0),
            client_id: StrBytes::from_string(options.client_id),
            request_timeout: options.request_timeout,
            task: tokio::spawn(task).abort_handle(),
            versions: BTreeMap::new(),
        };
        let name = options.client_software_name;
        let version = options.client_software_version;
        connection.versions = api_versions::negotiate(&connection, name, version)
            .await
            .map_err(ConnectError::Handshake)?;
        Ok(connection)
    }

    /// The broker as it was named on connecting.
    pub fn broker(&self) -> &str {
        &self.shared.broker
    }

    /// Bytes that this connection's counter has seen.
    pub fn traffic(&self) -> &Traffic {
        &self.shared.traffic
    }

    /// What ended the connection, if it has ended.
    pub fn lost(&self) -> Option<Lost> {
        self.shared.lost.get().cloned()
    }

    /// The versions of `api` that the broker speaks, if it knows it.
    pub fn broker_versions(&self, api: Api) -> Option<VersionRange> {
        self.versions.get(&api).copied()
    }

    /// Waits until the connection has ended and tells why.
    pub async fn closed(&self) -> Lost {
        self.requests.closed().await;
        self.shared.lost()
    }

    /// Sends `request` in the best version that both sides speak and waits for the answer.
    pub(crate) async fn call<M: Message>(&self, request: &M) -> Result<M::Response, CallError> {
        self.begin(request, self.request_timeout).await?.await
    }

    /// As [`Self::call`], but returns as soon as the request has its place in the order.
    pub(crate) async fn begin<M: Message>(
        &self,
        request: &M,
        timeout: Duration,
    ) -> Result<Pending<M::Response>, CallError> {
        let theirs = self.broker_versions(M::API);
        let common = theirs.and_then(|theirs| M::VERSIONS.highest_common(theirs));
        let version = common.ok_or_else(|| CallError::Unsupported {
            broker: Arc::clone(&self.shared.broker),
            api: M::API,
            ours: M::VERSIONS,
            theirs,
        })?;
        self.begin_version(request, version, timeout).await
    }

    /// As [`Self::call`], in a given version.
    pub(crate) async fn call_version<M: Message>(
        &self,
        request: &M,
        version: i16,
    ) -> Result<M::Response, CallError> {
        self.begin_version(request, version, self.request_timeout)
            .await?
            .await
    }

    async fn begin_version<M: Message>(
        &self,
        request: &M,
        version: i16,
        timeout: Duration,
    ) -> Result<Pending<M::Response>, CallError> {
        let api = M::API;
        let lost = |sent| CallError::Lost {
            broker: Arc::clone(&self.shared.broker),
            api,
            sent,
            source: self.shared.lost(),
        };
        let place = tokio::select! {
            biased;
            () = self.requests.closed() => return Err(lost(false)),
            place = Arc::clone(&self.places).acquire_owned() => {
                // The semaphore is never closed, but if it were, so would be the connection.
                place.map_err(|_| lost(false))?
            }
        };
        let correlation_id = self.correlation_id.fetch_add(1, Ordering::Relaxed);
        let wire = request.to_wire(version);
        let frame = encode_request(&wire, version, correlation_id, &self.client_id);
        let frame = frame.map_err(|source| CallError::Encode {
            broker: Arc::clone(&self.shared.broker),
            api,
            source,
        })?;
        let (reply, answer) = oneshot::channel();
        let outgoing = Outgoing {
            frame,
            inflight: InFlight {
                correlation_id,
                api,
                // Not before: those in front have their own time.
                deadline: Instant::now() + timeout,
                timeout,
                reply,
                _place: place,
            },
        };
        // Never full: whoever has a place has room.
        self.requests.try_send(outgoing).map_err(|_| lost(false))?;
        let shared = Arc::clone(&self.shared);
        let decode = M::decode;
        Ok(Pending {
            answer,
            shared,
            api,
            version,
            decode,
        })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("broker", &self.shared.broker)
            .field("lost", &self.shared.lost.get())
            .finish_non_exhaustive()
    }
}

/// A request that has its place in the order; awaiting it gives the answer. Dropping it does not
/// take the request back: the answer is then thrown away.
#[must_use = "the answer, or that there is none, comes from awaiting it"]
pub struct Pending<T> {
    answer: oneshot::Receiver<Result<Bytes, Unanswered>>,
    shared: Arc<Shared>,
    api: Api,
    version: i16,
    decode: fn(Bytes, i16) -> Result<T, MessageError>,
}

/// Why a message has no domain value: it is broken, or it is a refusal.
#[derive(Debug)]
pub(crate) enum MessageError {
    Refused(crate::error_code::ErrorCode),
    Response(ResponseError),
}

impl<E: Into<ResponseError>> From<E> for MessageError {
    fn from(error: E) -> Self {
        Self::Response(error.into())
    }
}

impl<T> Pending<T> {
    fn finish(&self, answer: Option<Result<Bytes, Unanswered>>) -> Result<T, CallError> {
        let broker = Arc::clone(&self.shared.broker);
        let (api, version) = (self.api, self.version);
        let unanswered = match answer {
            Some(Ok(body)) => {
                return (self.decode)(body, version).map_err(|error| match error {
                    MessageError::Refused(code) => CallError::Refused { broker, api, code },
                    MessageError::Response(source) => CallError::Protocol {
                        broker,
                        api,
                        version,
                        source,
                    },
                });
            }
            Some(Err(unanswered)) => unanswered,
            // The task was ended by dropping the connection, perhaps in the middle of a write.
            None => Unanswered::Lost { sent: true },
        };
        Err(match unanswered {
            Unanswered::Lost { sent } => CallError::Lost {
                broker,
                api,
                sent,
                source: self.shared.lost(),
            },
            Unanswered::Timeout(timeout) => CallError::Timeout {
                broker,
                api,
                timeout,
            },
        })
    }
}

impl<T> Future for Pending<T> {
    type Output = Result<T, CallError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = std::task::ready!(Pin::new(&mut self.answer).poll(context));
        Poll::Ready(self.finish(answer.ok()))
    }
}

impl<T> fmt::Debug for Pending<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending")
            .field("broker", &self.shared.broker)
            .field("api", &self.api)
            .finish_non_exhaustive()
    }
}
