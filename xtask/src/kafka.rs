//! `cargo xtask kafka`: the tests' Kafka for a person, in the background on a known port.

use std::fs::{self, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use ::tests::cache::Cache;
use ::tests::deadline::{PATIENCE, wait_for};
use ::tests::kafka::{Node, admin, available};
use anyhow::{Context, Result, anyhow, bail};
use clap::{Args, Subcommand};
use rustix::process::{Pid, Signal, kill_process};

use crate::setup;

#[derive(Subcommand)]
pub(crate) enum Task {
    /// Start it; topics are made when they are first used
    Up(Place),
    /// Stop it; its data stays
    Down {
        #[command(flatten)]
        place: Place,
        /// Remove its data, too
        #[arg(long)]
        delete: bool,
    },
    /// Say whether it runs
    Status(Place),
}

#[derive(Args)]
pub(crate) struct Place {
    /// Port for clients on 127.0.0.1; the controller takes the next one
    #[arg(long, default_value_t = 9092)]
    port: u16,
}

pub(crate) fn run(task: Task) -> Result<ExitCode> {
    match task {
        Task::Up(place) => place.up()?,
        Task::Down { place, delete } => place.down(delete)?,
        Task::Status(place) => return place.status(),
    }
    Ok(ExitCode::SUCCESS)
}

impl Place {
    fn up(&self) -> Result<()> {
        if let Some(pid) = self.running()? {
            println!("Kafka runs at {} already (pid {pid}).", self.address());
            return Ok(());
        }
        if available().is_err() {
            setup::for_kafka()?;
        }
        let jars = available().map_err(|reason| anyhow!(reason))?;
        let controller_port = self.port.checked_add(1).context("no port after 65535")?;
        for port in [self.port, controller_port] {
            check_free(port)?;
        }
        let node = Node {
            folder: self.folder()?,
            port: self.port,
            controller_port,
            advertised: self.address(),
            properties: [
                ("auto.create.topics.enable", "true"),
                ("num.partitions", "4"),
            ]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .to_vec(),
            heap_mib: 512,
        };
        node.prepare(&jars)?;
        let pid = self.spawn(&mut node.server(&jars))?;
        println!("Kafka starts (pid {pid}, log {}).", self.log()?.display());
        wait_for(&format!("Kafka at {}", self.address()), PATIENCE, || {
            if self.running()?.is_none() {
                bail!("Kafka has ended; see {}", self.log()?.display());
            }
            // Any answer will do; the topic need not exist.
            let answer = admin::partition_count(self.address(), "is-anybody-there");
            let up = answer.map_or_else(|e| e.to_string().contains("Kafka error"), |_| true);
            Ok(up.then_some(()))
        })?;
        println!("Kafka answers at {}. To read a topic:\n", self.address());
        println!(
            "    kcat -b {} -C -o beginning -t TOPIC -f '%p/%o %k [%h] %s\\n'\n",
            self.address()
        );
        println!("To stop it: cargo xtask kafka down{}", self.port_argument());
        Ok(())
    }

    /// In a session of its own, so that it outlives the terminal.
    fn spawn(&self, server: &mut Command) -> Result<u32> {
        let log = self.log()?;
        let output = OpenOptions::new().create(true).append(true).open(&log);
        let output = output.with_context(|| format!("open {}", log.display()))?;
        let mut command = Command::new("setsid");
        command.arg(server.get_program()).args(server.get_args());
        if let Some(folder) = server.get_current_dir() {
            command.current_dir(folder);
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone().context("copy the log's descriptor")?)
            .stderr(output)
            .spawn()
            .context("start Kafka")?;
        let pid = child.id();
        fs::write(self.pid_file()?, pid.to_string()).context("write Kafka's pid")?;
        Ok(pid)
    }

    fn down(&self, delete: bool) -> Result<()> {
        match self.running()? {
            Some(pid) => {
                let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
                let raw = raw.with_context(|| format!("{pid} is no process id"))?;
                kill_process(raw, Signal::TERM).with_context(|| format!("end process {pid}"))?;
                wait_for(&format!("the end of Kafka (pid {pid})"), PATIENCE, || {
                    Ok(self.running()?.is_none().then_some(()))
                })?;
                println!("Kafka at {} has ended.", self.address());
            }
            None => println!("No Kafka of ours runs at {}.", self.address()),
        }
        let folder = self.folder()?;
        if delete && folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))?;
            println!("Its data is removed.");
        }
        Ok(())
    }

    fn status(&self) -> Result<ExitCode> {
        if let Some(pid) = self.running()? {
            println!("Kafka runs at {} (pid {pid}).", self.address());
            return Ok(ExitCode::SUCCESS);
        }
        println!("No Kafka of ours runs at {}.", self.address());
        if let Err(error) = check_free(self.port) {
            println!("{error:#}");
        }
        Ok(ExitCode::FAILURE)
    }

    /// The process of the pid file, if it is still our Kafka: a pid may have been given to another.
    fn running(&self) -> Result<Option<u32>> {
        let folder = self.folder()?;
        let Ok(text) = fs::read_to_string(self.pid_file()?) else {
            return Ok(None);
        };
        let Ok(pid) = text.trim().parse::<u32>() else {
            return Ok(None);
        };
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let ours = String::from_utf8_lossy(&arguments).contains(&*folder.to_string_lossy());
        Ok(ours.then_some(pid))
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    fn folder(&self) -> Result<PathBuf> {
        Ok(Cache::locate()?
            .root()
            .join(format!("running-kafka-{}", self.port)))
    }

    fn pid_file(&self) -> Result<PathBuf> {
        Ok(self.folder()?.join("pid"))
    }

    fn log(&self) -> Result<PathBuf> {
        Ok(self.folder()?.join("kafka.log"))
    }

    fn port_argument(&self) -> String {
        if self.port == 9092 {
            String::new()
        } else {
            format!(" --port {}", self.port)
        }
    }
}

/// Fails when the port is taken, with who has it as far as that can be seen.
fn check_free(port: u16) -> Result<()> {
    let Err(error) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) else {
        return Ok(());
    };
    let holder = holder(port).unwrap_or_else(|| String::from("a process that is not ours to see"));
    bail!("port {port} is taken by {holder} ({error}); take another with --port, or end it")
}

/// `name (pid n)` of the listener, from `ss`.
fn holder(port: u16) -> Option<String> {
    let filter = format!("sport = :{port}");
    let output = Command::new("ss").args(["-Hltnp", &filter]).output().ok()?;
    parse_holder(&String::from_utf8(output.stdout).ok()?)
}

/// From `… users:(("java",pid=123,fd=45))`.
fn parse_holder(line: &str) -> Option<String> {
    let user = line.split_once("users:((\"")?.1;
    let (name, rest) = user.split_once("\",pid=")?;
    Some(format!("{name} (pid {})", rest.split_once(',')?.0))
}

#[cfg(test)]
mod tests {
    use super::parse_holder;

    #[test]
    fn holder_of_a_port_is_read_from_ss() {
        let line = "LISTEN 0 50 *:9092 *:* users:((\"java\",pid=123,fd=45),(\"x\",pid=2,fd=4))\n";
        assert_eq!(parse_holder(line).unwrap(), "java (pid 123)");
        assert_eq!(parse_holder("LISTEN 0 50 *:9092 *:*\n"), None);
    }
}
