//! What the emulator starts for each connection that the guest makes to Kafka: standard input and output
//! to a port of the host's loopback and back. Emulators have no option that does this by itself.

use std::io::{self, Write, stdin, stdout};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::thread;

use anyhow::{Context, Result};

/// Copies in both directions until one of them has ended.
///
/// # Errors
/// When nobody listens there.
pub(crate) fn run(port: u16) -> Result<()> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).context("connect to Kafka")?;
    stream.set_nodelay(true).context("set TCP_NODELAY")?;
    let mut upstream = stream.try_clone().context("copy a socket")?;
    thread::spawn(move || {
        let _ = io::copy(&mut stdin().lock(), &mut upstream);
        // The guest has closed, or is gone: so has this.
        let _ = upstream.shutdown(Shutdown::Both);
    });
    let mut downstream = stream;
    let mut out = stdout().lock();
    let mut chunk = [0; 16 << 10];
    loop {
        let len = match io::Read::read(&mut downstream, &mut chunk) {
            Ok(0) | Err(_) => return Ok(()),
            Ok(len) => len,
        };
        let bytes = chunk.get(..len).unwrap_or_default();
        if out.write_all(bytes).and_then(|()| out.flush()).is_err() {
            return Ok(());
        }
    }
}
