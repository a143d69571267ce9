//! mosquitto_pub, mosquitto_sub and mosquitto_rr as clients: what they have done is read from what
//! they print with `-d`.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use tempfile::TempDir;
use tests::deadline::{PATIENCE, wait_for};
use tests::mosquitto;
use tests::supervised::{ExitCode, Files, Supervised};

use crate::connection::{Connack, Published, Subscriber};
use crate::message::{Connect, Message, Properties, Subscription, bytes};
use crate::who::{Level, Who};

/// How mosquitto_sub is to print a message. It has no other escape than hexadecimal digits for the
/// payload: no test uses a bar in a topic or a property.
const FORMAT: &str = "message|%t|%q|%r|%F|%C|%D|%R|%P|%x\\n";

/// What it prints when it has subscribed.
const SUBSCRIBED: &str = "Subscribed (mid: 1): ";

/// mosquitto_pub ends with this status when the connection was lost (MOSQ_ERR_CONN_LOST).
const CONNECTION_LOST: i32 = 7;

fn program(name: &str, who: Who, port: u16, connect: &Connect) -> Result<Command> {
    let (mosquitto_pub, _) = mosquitto::clients().map_err(|reason| anyhow::anyhow!(reason))?;
    // Line by line, or what it prints beside messages stays in its buffer.
    let mut command = Command::new("stdbuf");
    command.arg("-oL").arg(mosquitto_pub.with_file_name(name));
    let version = match who.level {
        Level::V31 => "mqttv31",
        Level::V311 => "mqttv311",
        Level::V5 => "mqttv5",
    };
    command
        .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-d"])
        .args(["-V", version, "-i", &connect.client_id]);
    if !connect.clean {
        command.arg("-c");
    }
    if let Some(seconds) = connect.session_expiry {
        command.args(["-x", &seconds.to_string()]);
    }
    if let Some(size) = connect.maximum_packet_size {
        let size = size.to_string();
        command.args(["-D", "CONNECT", "maximum-packet-size", &size]);
    }
    if let Some(will) = &connect.will {
        let Message {
            topic, qos, retain, ..
        } = &will.message;
        command.args(["--will-topic", topic, "--will-qos", &qos.to_string()]);
        command.args(["--will-payload", &will.message.text()]);
        command.args(retain.then_some("--will-retain"));
        if let Some(seconds) = will.delay {
            let seconds = seconds.to_string();
            command.args(["-D", "WILL", "will-delay-interval", &seconds]);
        }
    }
    Ok(command)
}

fn add_properties(command: &mut Command, properties: &Properties) {
    let number = |value: Option<u32>| value.map(|value| value.to_string());
    let correlation_data = properties.correlation_data.as_deref();
    let given = [
        ("content-type", properties.content_type.clone()),
        ("response-topic", properties.response_topic.clone()),
        (
            "correlation-data",
            correlation_data.map(|data| String::from_utf8_lossy(data).into_owned()),
        ),
        (
            "payload-format-indicator",
            number(properties.payload_format.map(u32::from)),
        ),
        ("message-expiry-interval", number(properties.message_expiry)),
    ];
    for (name, value) in given {
        if let Some(value) = value {
            command.args(["-D", "PUBLISH", name, &value]);
        }
    }
    for (name, value) in &properties.user {
        command.args(["-D", "PUBLISH", "user-property", name, value]);
    }
}

/// Publishes on one connection each run of messages that differ in nothing but their payload of one
/// line, every other message on one of its own, and says good-bye each time.
pub(crate) fn publish(
    who: Who,
    port: u16,
    connect: &Connect,
    messages: &[Message],
) -> Result<Published> {
    let is_like = |one: &Message, other: &Message| {
        let is_line = |message: &Message| {
            !message.payload.is_empty()
                && !message.payload.contains(&b'\n')
                && message.payload.len() < 1000
        };
        is_line(one) && is_line(other) && one.payload != other.payload && {
            let payload = other.payload.clone();
            &Message {
                payload,
                ..one.clone()
            } == other
        }
    };
    for run in messages.chunk_by(is_like) {
        match publish_run(who, port, connect, run)? {
            Published::All => {}
            other => return Ok(other),
        }
    }
    Ok(Published::All)
}

fn publish_run(who: Who, port: u16, connect: &Connect, run: &[Message]) -> Result<Published> {
    let scratch = scratch()?;
    let (input, output) = (scratch.path().join("in"), scratch.path().join("out"));
    let first = run.first().context("no message")?;
    let mut command = program("mosquitto_pub", who, port, connect)?;
    command.args(["-t", &first.topic, "-q", &first.qos.to_string()]);
    command.args(first.retain.then_some("-r"));
    add_properties(&mut command, &first.properties);
    if run.len() > 1 {
        let lines = run.iter().map(|message| message.text() + "\n");
        fs::write(&input, lines.collect::<String>())?;
        command.arg("-l");
    } else if first.payload.is_empty() {
        fs::write(&input, "")?;
        command.arg("-n");
    } else {
        fs::write(&input, &first.payload)?;
        command.arg("-s");
    }
    command
        .stdin(File::open(&input)?)
        .stdout(File::create(&output)?)
        .stderr(Stdio::inherit());
    let mut child = command.spawn().context("start mosquitto_pub")?;
    let waited = wait_for("the end of mosquitto_pub", PATIENCE, || {
        Ok(child.try_wait()?)
    });
    if waited.is_err() {
        child.kill()?;
        child.wait()?;
    }
    let status = waited?;
    let text = fs::read_to_string(&output)?;
    if status.code() == Some(CONNECTION_LOST) {
        return Ok(Published::Closed(None));
    }
    ensure!(status.success(), "mosquitto_pub: {status}: {text}");
    let done = match first.qos {
        0 => "sending PUBLISH",
        1 => "received PUBACK",
        _ => "received PUBCOMP",
    };
    let count = text.lines().filter(|line| line.contains(done)).count();
    if count == 0 {
        // It says nothing of a message above the broker's Maximum Packet Size, and ends with 0.
        return Ok(Published::Refused(String::from(
            "mosquitto_pub sent nothing",
        )));
    }
    ensure!(count == run.len(), "{count} of {}: {text}", run.len());
    Ok(Published::All)
}

fn scratch() -> Result<TempDir> {
    let scratch = tempfile::Builder::new()
        .prefix("tidegate-mosquitto-")
        .tempdir();
    scratch.context("create a temporary folder")
}

/// A running mosquitto_sub or mosquitto_rr.
struct Process {
    process: Supervised,
    output: PathBuf,
    _scratch: TempDir,
}

impl Process {
    fn start(name: &str, command: &Command) -> Result<Self> {
        let scratch = scratch()?;
        let output = scratch.path().join("out");
        let log = scratch.path().join("log");
        let files = Files {
            stdout: &output,
            stderr: &log,
            scratch: Some(scratch.path()),
        };
        Ok(Self {
            process: Supervised::spawn(name, command, &files)?,
            output,
            _scratch: scratch,
        })
    }

    /// Whole lines that it has printed.
    fn lines(&self) -> Result<Vec<String>> {
        let text = fs::read(&self.output).context("read what mosquitto printed")?;
        let text = String::from_utf8(text).context("mosquitto printed no text")?;
        let complete = text.rfind('\n').and_then(|end| text.get(..end));
        Ok(complete
            .unwrap_or_default()
            .lines()
            .map(str::to_owned)
            .collect())
    }

    fn messages(&self) -> Result<Vec<Message>> {
        let lines = self.lines()?;
        let told = lines
            .iter()
            .filter_map(|line| line.strip_prefix("message|"));
        told.map(parse).collect()
    }
}

fn parse(line: &str) -> Result<Message> {
    let parts: Vec<&str> = line.split('|').collect();
    let [
        topic,
        qos,
        retain,
        format,
        content_type,
        correlation_data,
        response_topic,
        user,
        payload,
    ] = parts[..]
    else {
        bail!("mosquitto_sub printed {line:?}");
    };
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let pair = |text: &str| {
        let (name, value) = text.split_once(':').context("no user property")?;
        Ok((name.to_owned(), value.to_owned()))
    };
    let user: Result<_> = user.split_whitespace().map(pair).collect();
    Ok(Message {
        topic: topic.to_owned(),
        payload: bytes(payload)?,
        qos: qos.parse()?,
        retain: retain == "1",
        properties: Properties {
            content_type: text(content_type),
            response_topic: text(response_topic),
            correlation_data: text(correlation_data).map(String::into_bytes),
            payload_format: text(format).map(|value| value.parse()).transpose()?,
            message_expiry: None,
            user: user?,
        },
    })
}

/// mosquitto_sub; what it publishes, mosquitto_pub does beside it.
pub(crate) struct MosquittoSub {
    running: Process,
    who: Who,
    port: u16,
    client_id: String,
    taken: usize,
}

impl MosquittoSub {
    /// Waits until it has subscribed. It subscribes again when it comes back to a session.
    pub(crate) fn start(
        who: Who,
        port: u16,
        connect: &Connect,
        subscriptions: &[Subscription],
    ) -> Result<Self> {
        let mut command = program("mosquitto_sub", who, port, connect)?;
        let first = subscriptions.first().context("no subscription")?;
        for subscription in subscriptions {
            command.args(["-t", &subscription.filter]);
        }
        let is_alike = |one: &Subscription| {
            one.retain_handling == 0
                && (one.qos, one.retain_as_published) == (first.qos, first.retain_as_published)
        };
        ensure!(
            subscriptions.iter().all(is_alike),
            "mosquitto_sub has one set of options, without Retain Handling: {subscriptions:?}"
        );
        command.args(["-q", &first.qos.to_string(), "-F", FORMAT]);
        command.args(first.retain_as_published.then_some("--retain-as-published"));
        let mut running = Process::start("mosquitto_sub", &command)?;
        let granted = vec![first.qos.to_string(); subscriptions.len()].join(", ");
        let expected = format!("{SUBSCRIBED}{granted}");
        wait_for("mosquitto_sub's SUBACK", PATIENCE, || {
            running.process.check_running()?;
            let lines = running.lines()?;
            let Some(suback) = lines.iter().find(|line| line.starts_with(SUBSCRIBED)) else {
                return Ok(None);
            };
            ensure!(*suback == expected, "{suback}");
            Ok(Some(()))
        })?;
        Ok(Self {
            running,
            who,
            port,
            client_id: connect.client_id.clone(),
            taken: 0,
        })
    }
}

impl Subscriber for MosquittoSub {
    fn connack(&self) -> Connack {
        Connack::default()
    }

    fn subscribe(&mut self, subscription: &Subscription) -> Result<()> {
        bail!("mosquitto_sub subscribes once, not to {subscription:?} later")
    }

    fn publish(&mut self, messages: &[Message]) -> Result<Published> {
        let connect = Connect::new(&format!("{}-p", self.client_id));
        publish(self.who, self.port, &connect, messages)
    }

    fn arrived(&mut self) -> Result<Vec<Message>> {
        let messages = self.running.messages()?.split_off(self.taken);
        self.taken += messages.len();
        Ok(messages)
    }

    fn take(&mut self, count: usize) -> Result<Vec<Message>> {
        let mut messages = wait_for("messages of mosquitto_sub", PATIENCE, || {
            let messages = self.running.messages()?.split_off(self.taken);
            if messages.len() < count {
                self.running.process.check_running()?;
                return Ok(None);
            }
            Ok(Some(messages))
        })?;
        messages.truncate(count);
        self.taken += count;
        Ok(messages)
    }

    fn leave(mut self: Box<Self>) -> Result<()> {
        self.running.process.signal(Signal::TERM)?;
        let code = self.running.process.wait(PATIENCE)?;
        ensure!(code == ExitCode(0), "mosquitto_sub ended with {code}");
        let lines = self.running.lines()?;
        let said = lines
            .iter()
            .any(|line| line.ends_with("sending DISCONNECT"));
        ensure!(said, "mosquitto_sub said no good-bye: {lines:?}");
        let rest = self.arrived()?;
        ensure!(rest.is_empty(), "also came: {rest:?}");
        Ok(())
    }

    fn cut(mut self: Box<Self>) -> Result<()> {
        self.running.process.kill().map(drop)
    }
}

/// mosquitto_rr: asks, and ends with the first answer.
pub(crate) struct MosquittoRr {
    running: Process,
}

impl MosquittoRr {
    /// Subscribes to `answers` and publishes the request.
    pub(crate) fn start(
        who: Who,
        port: u16,
        connect: &Connect,
        request: &Message,
        answers: &str,
    ) -> Result<Self> {
        let mut command = program("mosquitto_rr", who, port, connect)?;
        command
            .args(["-t", &request.topic, "-e", answers])
            .args(["-m", &request.text(), "-q", &request.qos.to_string()])
            .args(["-F", FORMAT]);
        // It sets the response topic itself, to what it subscribes to.
        let properties = Properties {
            response_topic: None,
            ..request.properties.clone()
        };
        add_properties(&mut command, &properties);
        let running = Process::start("mosquitto_rr", &command)?;
        Ok(Self { running })
    }

    /// Waits for its end.
    pub(crate) fn answer(mut self) -> Result<Message> {
        let code = self.running.process.wait(PATIENCE)?;
        ensure!(code == ExitCode(0), "mosquitto_rr ended with {code}");
        let answer = self.running.messages()?.into_iter().next();
        answer.context("mosquitto_rr printed no answer")
    }
}
