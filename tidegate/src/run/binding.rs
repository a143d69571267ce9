//! Why a gateway cannot listen, with the exit status that it deserves.

use std::io;
use std::net::SocketAddr;

use broker::StartError;

use crate::exit::{Failure, Status};
use crate::port_holder;

pub(super) fn explain_start(error: StartError) -> Failure {
    match &error {
        StartError::Anonymous { .. } => Failure::with(Status::Configuration, error),
        StartError::Bind { bind, source } => explain_bind(*bind, source.kind(), error),
        _ => Failure::from(error),
    }
}

/// Names who has the port, if that is why it cannot be listened at.
pub(super) fn explain_bind(
    address: SocketAddr,
    kind: io::ErrorKind,
    error: impl Into<anyhow::Error>,
) -> Failure {
    if kind != io::ErrorKind::AddrInUse {
        return Failure::from(error);
    }
    let holder = port_holder::holder(address)
        .unwrap_or_else(|| String::from("a process that cannot be seen from here"));
    let port = address.port();
    let what =
        format!("port {port} is held by {holder}; stop that process or configure another port");
    Failure::with(Status::InUse, error.into().context(what))
}
