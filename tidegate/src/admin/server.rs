//! The HTTP side of the admin server.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use firmware_config::AdminConfig;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::admin::log_pages::{Reading, read_records, summarise};
use crate::admin::metrics::exposition;
use crate::admin::state::{AdminState, describe};
use crate::admin::status_page::StatusPage;

/// Connections at one time; a health check needs one.
const CONNECTIONS_MAX: usize = 32;
/// For the request head to arrive.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// For everything on one connection: whoever does not read the answer must not keep others out.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(20);
/// Records that one request may ask for.
const RECORDS_MAX: u64 = 10_000;

/// The bound server.
pub(crate) struct Admin {
    listener: TcpListener,
    address: SocketAddr,
    state: Rc<AdminState>,
}

type Answer = Response<Full<Bytes>>;

impl Admin {
    /// Binds the configured address; `None` if there is to be no admin server.
    pub(crate) fn bind(
        config: &AdminConfig,
        state: Rc<AdminState>,
    ) -> Result<Option<Self>, (SocketAddr, std::io::Error)> {
        if !config.enabled {
            return Ok(None);
        }
        let wanted = *config.bind;
        let bind = || {
            let listener = std::net::TcpListener::bind(wanted)?;
            listener.set_nonblocking(true)?;
            let listener = TcpListener::from_std(listener)?;
            let address = listener.local_addr()?;
            Ok(Self {
                listener,
                address,
                state,
            })
        };
        bind().map(Some).map_err(|error| (wanted, error))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers requests for ever.
    pub(crate) async fn serve(self) {
        tracing::info!(address = %self.address, "Listening for admin requests.");
        let mut connections = JoinSet::new();
        loop {
            while connections.len() >= CONNECTIONS_MAX {
                connections.join_next().await;
            }
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "Admin connection could not be accepted.");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let state = Rc::clone(&self.state);
            connections.spawn_local(async move {
                let service = service_fn(move |request| {
                    let state = Rc::clone(&state);
                    async move { Ok::<_, Infallible>(answer(&state, &request).await) }
                });
                let served = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEADER_TIMEOUT)
                    .serve_connection(TokioIo::new(stream), service);
                match tokio::time::timeout(CONNECTION_TIMEOUT, served).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::debug!(%error, "Admin connection ended."),
                    Err(_) => tracing::debug!("Admin connection took too long and was closed."),
                }
            });
            while connections.try_join_next().is_some() {}
        }
    }
}

async fn answer(state: &AdminState, request: &Request<Incoming>) -> Answer {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut refused = text(
            StatusCode::METHOD_NOT_ALLOWED,
            "only GET and HEAD are answered\n".to_owned(),
        );
        refused
            .headers_mut()
            .insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    let query = request.uri().query().unwrap_or_default();
    match request.uri().path() {
        "/healthz" => verdict(state.liveness()),
        "/readyz" => verdict(state.readiness()),
        "/metrics" => metrics(state),
        "/status" => json(&StatusPage::of(state)),
        "/log/list" => match state.store() {
            Ok(store) => json(&summarise(&store)),
            Err(degraded) => verdict(Err(describe(&degraded))),
        },
        "/log/read" => log_read(state, query).await,
        path => text(
            StatusCode::NOT_FOUND,
            format!(
                "there is no {path}; there are /healthz, /readyz, /metrics, /status, /log/list and \
                 /log/read?log=NAME[&partition=N][&from=OFFSET][&count=N]\n"
            ),
        ),
    }
}

fn verdict(result: Result<(), String>) -> Answer {
    match result {
        Ok(()) => text(StatusCode::OK, "ok\n".to_owned()),
        Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

fn metrics(state: &AdminState) -> Answer {
    match exposition(state) {
        Ok(body) => {
            let mut answer = text(StatusCode::OK, body);
            let kind = "text/plain; version=0.0.4; charset=utf-8";
            answer
                .headers_mut()
                .insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
            answer
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

/// Reads records on a blocking thread: a segment may have to be opened.
async fn log_read(state: &AdminState, query: &str) -> Answer {
    let reading = match parse_reading(query) {
        Ok(reading) => reading,
        Err(what) => return text(StatusCode::BAD_REQUEST, format!("{what}\n")),
    };
    let store = match state.store() {
        Ok(store) => store,
        Err(degraded) => return verdict(Err(describe(&degraded))),
    };
    match tokio::task::spawn_blocking(move || read_records(&store, &reading)).await {
        Ok(Ok(records)) => json(&records),
        Ok(Err(error)) => text(StatusCode::NOT_FOUND, format!("{error:#}\n")),
        Err(_) => text(
            StatusCode::INTERNAL_SERVER_ERROR,
            "reading failed\n".to_owned(),
        ),
    }
}

fn parse_reading(query: &str) -> Result<Reading, String> {
    let mut fields: HashMap<&str, &str> = HashMap::new();
    for field in query.split('&').filter(|field| !field.is_empty()) {
        let (name, value) = field
            .split_once('=')
            .ok_or_else(|| format!("`{field}` has no value"))?;
        fields.insert(name, value);
    }
    fn number<T: std::str::FromStr>(name: &str, value: Option<&str>) -> Result<Option<T>, String> {
        let parse = |value: &str| {
            value
                .parse()
                .map_err(|_| format!("{name}={value} is no number"))
        };
        value.map(parse).transpose()
    }
    let log = fields
        .remove("log")
        .ok_or("log=NAME is missing")?
        .to_owned();
    let partition = number("partition", fields.remove("partition"))?;
    let from = number("from", fields.remove("from"))?;
    let count = number("count", fields.remove("count"))?
        .unwrap_or(100)
        .min(RECORDS_MAX);
    match fields.keys().next() {
        Some(unknown) => Err(format!(
            "`{unknown}` is unknown; there are log, partition, from, count"
        )),
        None => Ok(Reading {
            log,
            partition,
            from,
            count,
        }),
    }
}

fn json(value: &impl serde::Serialize) -> Answer {
    match serde_json::to_string(value) {
        Ok(body) => {
            let mut answer = text(StatusCode::OK, body);
            let kind = hyper::header::HeaderValue::from_static("application/json");
            answer.headers_mut().insert(CONTENT_TYPE, kind);
            answer
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

fn text(status: StatusCode, body: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    // Said, so that nobody guesses HTML: the text may repeat what was asked.
    let kind = hyper::header::HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn question_about_records_is_read_strictly() {
        let reading = parse_reading("log=a&partition=2&from=7&count=5").unwrap();
        let Reading {
            log,
            partition,
            from,
            count,
        } = reading;
        assert_eq!(
            (log.as_str(), partition, from, count),
            ("a", Some(2), Some(7), 5)
        );
        assert_eq!(parse_reading("log=a").unwrap().count, 100);
        assert_eq!(
            parse_reading("log=a&count=99999999").unwrap().count,
            RECORDS_MAX
        );
        for (query, what) in [
            ("", "log=NAME is missing"),
            ("log=a&from=x", "from=x is no number"),
            ("log", "`log` has no value"),
            (
                "log=a&until=5",
                "`until` is unknown; there are log, partition, from, count",
            ),
        ] {
            assert_eq!(parse_reading(query).err().unwrap(), what);
        }
    }
}
