//! Sockets that are held while the broker starts again, as `tidegate.socket` has it.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tests::broker_process::binary;
use tests::deadline::{PATIENCE, wait_for};
use tests::mqtt::{Client, Connect, Publish, SUCCESS, Version};

/// Does what systemd does: the sockets become descriptors 3 and 4, and the variables say so.
const PASS: &str = "exec 3<&0 4<&1 </dev/null >/dev/null; \
                    export LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=mqtt:quic; exec \"$@\"";

/// Holds the sockets and starts the broker.
struct Holder {
    tcp: TcpListener,
    udp: UdpSocket,
    folder: TempDir,
    broker: Option<Child>,
}

impl Holder {
    fn new() -> Self {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        Self {
            udp: UdpSocket::bind("127.0.0.1:0").unwrap(),
            tcp,
            folder: tempfile::tempdir().unwrap(),
            broker: None,
        }
    }

    fn address(&self) -> SocketAddr {
        self.tcp.local_addr().unwrap()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// With a listener at `bind`.
    fn start(&mut self, bind: SocketAddr) {
        let folder = self.folder.path();
        let configuration =
            format!("[[listener]]\nbind = \"{bind}\"\n[admin]\nbind = \"127.0.0.1:0\"\n");
        fs::write(folder.join("tidegate.toml"), configuration).unwrap();
        let log = File::options()
            .create(true)
            .append(true)
            .open(folder.join("log"));
        let mut command = Command::new("sh");
        command
            .args(["-c", PASS, "sh"])
            .arg(binary().unwrap())
            .args(["run", "--config", "tidegate.toml"])
            .current_dir(folder)
            .stdin(OwnedFd::from(self.tcp.try_clone().unwrap()))
            .stdout(OwnedFd::from(self.udp.try_clone().unwrap()))
            .stderr(Stdio::from(log.unwrap()));
        self.broker = Some(command.spawn().unwrap());
    }

    fn signal(&self, signal: Signal) {
        let broker = self.broker.as_ref().unwrap();
        kill_process(Pid::from_child(broker), signal).unwrap();
    }

    fn wait_end(&mut self) -> Option<i32> {
        let mut broker = self.broker.take().unwrap();
        let ended = wait_for("the broker's end", PATIENCE, || Ok(broker.try_wait()?));
        let code = ended.map(|status| status.code());
        if code.is_err() {
            self.broker = Some(broker);
        }
        code.unwrap()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        if let Some(mut broker) = self.broker.take() {
            let _ = broker.kill();
            let _ = broker.wait();
        }
    }
}

fn publish_one(server: SocketAddr, name: &str) {
    let mut client = Client::connect(server, &Connect::new(Version::V5, name)).unwrap();
    let publish = Publish::new("t", "payload");
    assert_eq!(client.publish_acknowledged(publish).unwrap(), SUCCESS);
}

/// Connects until it is told to end; how often, and how often it was refused.
fn knock(server: SocketAddr, ends: &AtomicBool, knocks: &AtomicUsize) -> Vec<std::io::Error> {
    let mut refused = Vec::new();
    while !ends.load(Ordering::Relaxed) {
        match TcpStream::connect_timeout(&server, PATIENCE) {
            // As long as it is known that it was there: who waits is not to fill the queue.
            Ok(stream) => drop(stream),
            Err(error) => refused.push(error),
        }
        knocks.fetch_add(1, Ordering::Relaxed);
        thread::sleep(std::time::Duration::from_millis(5));
    }
    refused
}

fn wait_knocks(knocks: &AtomicUsize) {
    let aim = knocks.load(Ordering::Relaxed) + 10;
    let waited = wait_for("connections", PATIENCE, || {
        Ok((knocks.load(Ordering::Relaxed) >= aim).then_some(()))
    });
    waited.unwrap();
}

#[test]
fn nobody_is_refused_while_the_broker_starts_again_on_sockets_that_are_held() {
    let mut holder = Holder::new();
    let address = holder.address();
    holder.start(address);
    publish_one(address, "before");
    let (ends, knocks) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let knocking = thread::spawn({
        let (ends, knocks) = (Arc::clone(&ends), Arc::clone(&knocks));
        move || knock(address, &ends, &knocks)
    });
    wait_knocks(&knocks);
    holder.signal(Signal::TERM);
    assert_eq!(holder.wait_end(), Some(0), "{}", holder.log());
    wait_knocks(&knocks);
    // These ask while nobody is there who could answer.
    let waiting: Vec<_> = (0..20)
        .map(|number| thread::spawn(move || publish_one(address, &format!("c{number}"))))
        .collect();
    wait_knocks(&knocks);
    assert!(waiting.iter().all(|client| !client.is_finished()));
    holder.start(address);
    for client in waiting {
        client.join().unwrap();
    }
    ends.store(true, Ordering::Relaxed);
    let refused = knocking.join().unwrap();
    assert!(refused.is_empty(), "{refused:?}");
    let log = holder.log();
    assert!(log.contains("A socket was passed."), "{log}");
    let udp = holder.udp.local_addr().unwrap().to_string();
    assert!(
        log.contains("A UDP socket was passed") && log.contains(&udp),
        "{log}"
    );
}

#[test]
fn socket_that_no_listener_has_ends_the_start_with_what_would_be_right() {
    let mut holder = Holder::new();
    let other = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    holder.start(other);
    assert_eq!(holder.wait_end(), Some(78), "{}", holder.log());
    let (log, passed) = (holder.log(), holder.address());
    let last = log.lines().last().unwrap();
    assert!(last.contains(&format!("`mqtt` at {passed}")), "{last}");
    assert!(last.contains(&format!("that is {other}")), "{last}");
}
