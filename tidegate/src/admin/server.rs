//! The HTTP side of the admin server.

use std::cell::Cell;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use firmware_config::AdminConfig;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::admin::export_pages::{ExportLine, ExportRequest, export};
use crate::admin::log_pages::{Reading, read_records, summarise};
use crate::admin::metrics::exposition;
use crate::admin::query::Query;
use crate::admin::state::{AdminState, describe};
use crate::admin::status_page::StatusPage;
use crate::admin::stream::{AnswerBody, LastTaken, STREAMS_MAX};
use crate::admin::verify_pages::{check_log, verify};

/// Connections at one time; a health check needs one.
const CONNECTIONS_MAX: usize = 32;
/// For the request head to arrive.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// For everything on one connection, or for the next piece of an answer that comes in pieces:
/// whoever does not read must not keep others out.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(20);
/// Records that one request may ask for.
const RECORDS_MAX: u64 = 10_000;

/// The bound server.
pub(crate) struct Admin {
    listener: TcpListener,
    address: SocketAddr,
    state: Rc<AdminState>,
}

type Answer = Response<AnswerBody>;

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
            connections.spawn_local(serve_connection(state, stream));
            while connections.try_join_next().is_some() {}
        }
    }
}

async fn serve_connection(state: Rc<AdminState>, stream: TcpStream) {
    let taken: LastTaken = Rc::new(Cell::new(Some(Instant::now())));
    let of_service = Rc::clone(&taken);
    let service = service_fn(move |request| {
        let (state, taken) = (Rc::clone(&state), Rc::clone(&of_service));
        async move { Ok::<_, Infallible>(answer(&state, &request, &taken).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    let mut served = pin!(served);
    loop {
        // While a stream waits for the flash, it is not the client's fault.
        let end = taken.get().unwrap_or_else(Instant::now) + CONNECTION_TIMEOUT;
        match tokio::time::timeout_at(end.into(), &mut served).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => return tracing::debug!(%error, "Admin connection ended."),
            Err(_)
                if taken
                    .get()
                    .is_none_or(|last| last + CONNECTION_TIMEOUT > end) => {}
            Err(_) => {
                return tracing::debug!("Admin connection took too long and was closed.");
            }
        }
    }
}

async fn answer(state: &AdminState, request: &Request<Incoming>, taken: &LastTaken) -> Answer {
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
        "/log/list" => log_list(state).await,
        "/log/read" => log_read(state, query).await,
        "/log/verify" => log_verify(state, query, taken),
        "/log/export" => log_export(state, query, taken),
        path => text(
            StatusCode::NOT_FOUND,
            format!(
                "there is no {path}; there are /healthz, /readyz, /metrics, /status, /log/list, \
                 /log/read?log=NAME[&partition=N][&from=OFFSET][&count=N], /log/verify[?log=NAME] \
                 and /log/export?log=NAME[&partition=N][&from=OFFSET][&to=OFFSET][&since_ms=T]\
                 [&until_ms=T]\n"
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

/// Lists the logs on a blocking thread: segments may have to be opened for the times.
async fn log_list(state: &AdminState) -> Answer {
    let store = match state.store() {
        Ok(store) => store,
        Err(degraded) => return verdict(Err(describe(&degraded))),
    };
    match tokio::task::spawn_blocking(move || summarise(&store)).await {
        Ok(Ok(logs)) => json(&logs),
        Ok(Err(error)) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}\n")),
        Err(_) => text(
            StatusCode::INTERNAL_SERVER_ERROR,
            "reading failed\n".to_owned(),
        ),
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
    let mut query = Query::parse(query)?;
    let reading = Reading {
        log: query.log()?,
        partition: query.number("partition")?,
        from: query.number("from")?,
        count: query.number("count")?.unwrap_or(100).min(RECORDS_MAX),
    };
    query.finish("log, partition, from, count")?;
    Ok(reading)
}

/// Begins to verify; what is found follows line by line.
fn log_verify(state: &AdminState, query: &str, taken: &LastTaken) -> Answer {
    let parse = || {
        let mut query = Query::parse(query)?;
        let log = query.text("log");
        query.finish("log").map(|()| log)
    };
    let log: Option<String> = match parse() {
        Ok(log) => log,
        Err(what) => return text(StatusCode::BAD_REQUEST, format!("{what}\n")),
    };
    let store = match state.store() {
        Ok(store) => store,
        Err(degraded) => return verdict(Err(describe(&degraded))),
    };
    if let Err(error) = check_log(&store, log.as_deref()) {
        return text(StatusCode::NOT_FOUND, format!("{error:#}\n"));
    }
    streamed(state.streams.start(taken, move |tell| {
        verify(&store, log.as_deref(), tell);
    }))
}

/// Begins to export; the batches follow line by line.
fn log_export(state: &AdminState, query: &str, taken: &LastTaken) -> Answer {
    let request = match ExportRequest::parse(query) {
        Ok(request) => request,
        Err(what) => return text(StatusCode::BAD_REQUEST, format!("{what}\n")),
    };
    let store = match state.store() {
        Ok(store) => store,
        Err(degraded) => return verdict(Err(describe(&degraded))),
    };
    if let Err(error) = request.check(&store) {
        return text(StatusCode::NOT_FOUND, format!("{error:#}\n"));
    }
    streamed(state.streams.start(taken, move |tell| {
        if let Err(error) = export(&store, &request, &mut |line| tell(&line)) {
            let _ = tell(&ExportLine::Failed(format!("{error:#}")));
        }
    }))
}

fn streamed(body: std::io::Result<Option<AnswerBody>>) -> Answer {
    match body {
        Ok(Some(body)) => {
            let mut answer = Response::new(body);
            let kind = hyper::header::HeaderValue::from_static("application/jsonl");
            answer.headers_mut().insert(CONTENT_TYPE, kind);
            answer
        }
        Ok(None) => text(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("the log is being read by {STREAMS_MAX} others already; try again later\n"),
        ),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
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
    let mut answer = Response::new(AnswerBody::Whole(Full::new(Bytes::from(body))));
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
