//! A client program that is driven line by line, one process for all its connections of a test.
//! `tests/python/client_lines.py` has the lines.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::rc::Rc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::{cell::Cell, thread};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};
use tests::{node, python};

use crate::connection::{Commands, Connack, Connection, EVENTS_MAX, Event};
use crate::message::{Connect, Message, Subscription, with};
use crate::who::{Program, Who};

/// Who hears of which connection.
type Listeners = Arc<Mutex<HashMap<u64, SyncSender<Event>>>>;

/// The process. It ends with its standard input, so it cannot outlive the test.
#[derive(Debug)]
pub(crate) struct Driver {
    child: Child,
    stdin: ChildStdin,
    listeners: Listeners,
    connections: Cell<u64>,
}

impl Driver {
    pub(crate) fn start(program: Program) -> Result<Self> {
        let command = match program {
            Program::Gmqtt => python::command("gmqtt_client.py"),
            Program::MqttJs => node::command("mqttjs_client.js"),
            Program::Paho => python::command("paho_client.py"),
            Program::Mosquitto | Program::Rumqttc => bail!("{} has no driver", program.name()),
        };
        let mut command: Command = command.map_err(|reason| anyhow!(reason))?;
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("start the driver of {}", program.name()))?;
        let stdin = child.stdin.take().context("no standard input")?;
        let stdout = child.stdout.take().context("no standard output")?;
        let listeners = Listeners::default();
        let listening = Arc::clone(&listeners);
        let name = program.name();
        thread::Builder::new()
            .name(format!("driver of {name}"))
            .spawn(move || read(stdout, &listening, name))
            .context("start a thread")?;
        Ok(Self {
            child,
            stdin,
            listeners,
            connections: Cell::new(0),
        })
    }

    pub(crate) fn connect(
        self: &Rc<Self>,
        who: Who,
        port: u16,
        connect: &Connect,
    ) -> Result<Connection> {
        let number = self.connections.get();
        self.connections.set(number + 1);
        let (sender, events) = sync_channel(EVENTS_MAX);
        lock(&self.listeners).insert(number, sender);
        let commands = Line {
            driver: Rc::clone(self),
            number,
        };
        commands.send(connect.to_json(port, who.level.number()))?;
        Connection::open(Box::new(commands), events)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // Its sockets go with it, as those of any program that is killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One connection of the process.
struct Line {
    driver: Rc<Driver>,
    number: u64,
}

impl Line {
    fn send(&self, command: Value) -> Result<()> {
        let line = format!("{}\n", with(command, "on", json!(self.number)));
        let written = (&self.driver.stdin).write_all(line.as_bytes());
        written.context("the driver takes no commands")
    }
}

impl Commands for Line {
    fn subscribe(&self, subscription: &Subscription) -> Result<()> {
        self.send(subscription.to_json())
    }

    fn publish(&self, message: &Message) -> Result<()> {
        self.send(with(message.to_json(), "do", json!("publish")))
    }

    fn disconnect(&self) -> Result<()> {
        self.send(json!({"do": "disconnect"}))
    }

    fn cut(&self) -> Result<()> {
        self.send(json!({"do": "cut"}))
    }
}

fn lock(
    listeners: &Listeners,
) -> impl std::ops::DerefMut<Target = HashMap<u64, SyncSender<Event>>> {
    listeners.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Hands out events until the process ends; then nobody hears anything any more.
fn read(stdout: ChildStdout, listeners: &Listeners, name: &str) {
    for line in BufReader::new(stdout).lines() {
        let Ok(line) = line else { break };
        let (number, event) = match parse(&line) {
            Ok(parsed) => parsed,
            Err(error) => panic!("the driver of {name} wrote {line:?}: {error:#}"),
        };
        let listener = lock(listeners).get(&number).cloned();
        if let Some(listener) = listener {
            // Nobody listens to a connection that was dropped.
            let _ = listener.send(event);
        }
    }
    lock(listeners).clear();
}

fn parse(line: &str) -> Result<(u64, Event)> {
    let line: Value = serde_json::from_str(line).context("not JSON")?;
    let code =
        |value: &Value| -> Result<Option<u8>> { Ok(value.as_u64().map(u8::try_from).transpose()?) };
    let event = match line["is"].as_str().context("no event")? {
        "connected" => Event::Connected(Connack {
            session_present: line["session_present"].as_bool(),
            maximum_packet_size: line["maximum_packet_size"]
                .as_u64()
                .map(u32::try_from)
                .transpose()?,
        }),
        "subscribed" => {
            let codes = line["codes"].as_array().context("no codes")?;
            let codes = codes.iter().map(|value| code(value)?.context("no code"));
            Event::Subscribed(codes.collect::<Result<_>>()?)
        }
        "published" => Event::Published(code(&line["code"])?.context("no code")?),
        "message" => Event::Message(Message::from_json(&line)?),
        "closed" => Event::Closed(code(&line["code"])?),
        "failed" => Event::Failed(line["error"].as_str().unwrap_or("no error").to_owned()),
        other => bail!("no such event: {other}"),
    };
    Ok((line["on"].as_u64().context("no connection")?, event))
}
