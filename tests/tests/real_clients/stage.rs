//! The broker of a test and the clients around it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use anyhow::{Context, Result, ensure};
use tests::broker_process::{BrokerProcess, Options};
use tests::deadline::{PATIENCE, wait_for};

use crate::connection::{Connection, Published, Subscriber};
use crate::driver::Driver;
use crate::message::{Connect, Message, Subscription};
use crate::mosquitto_client::{self, MosquittoSub};
use crate::rumqttc_client;
use crate::who::{Level, Program, Who};

/// Every client, each driver started when it is needed first.
#[derive(Default)]
pub(crate) struct Clients {
    drivers: RefCell<Vec<(Program, Rc<Driver>)>>,
}

impl Clients {
    /// A connection of a client that is no command line program.
    pub(crate) fn connect(&self, who: Who, port: u16, connect: &Connect) -> Result<Connection> {
        if who.program == Program::Rumqttc {
            rumqttc_client::connect(who, port, connect)
        } else {
            self.driver(who.program)?.connect(who, port, connect)
        }
    }

    fn driver(&self, program: Program) -> Result<Rc<Driver>> {
        let mut drivers = self.drivers.borrow_mut();
        let found = drivers.iter().find(|(of, _)| *of == program);
        if let Some((_, driver)) = found {
            return Ok(Rc::clone(driver));
        }
        let driver = Rc::new(Driver::start(program)?);
        drivers.push((program, Rc::clone(&driver)));
        Ok(driver)
    }

    /// Publishes, waits for the acknowledgements, and says good-bye.
    pub(crate) fn publish(
        &self,
        who: Who,
        port: u16,
        connect: &Connect,
        messages: &[Message],
    ) -> Result<Published> {
        if who.program == Program::Mosquitto {
            return mosquitto_client::publish(who, port, connect, messages);
        }
        let mut connection = self.connect(who, port, connect)?;
        let published = connection.publish(messages)?;
        if published == Published::All {
            Box::new(connection).leave()?;
        }
        Ok(published)
    }
}

pub(crate) struct Stage {
    pub(crate) broker: BrokerProcess,
    pub(crate) clients: Clients,
    fences: Cell<usize>,
}

impl Stage {
    /// A broker of its own; nothing of it goes to Kafka.
    pub(crate) fn start(options: Options) -> Result<Self> {
        Ok(Self {
            broker: BrokerProcess::start(options)?,
            clients: Clients::default(),
            fences: Cell::new(0),
        })
    }

    pub(crate) fn port(&self) -> u16 {
        self.broker.mqtt().port()
    }

    /// Connects and subscribes.
    pub(crate) fn subscribe(
        &self,
        who: Who,
        connect: &Connect,
        subscriptions: &[Subscription],
    ) -> Result<Box<dyn Subscriber>> {
        let about = || format!("{who} subscribes to {subscriptions:?}");
        let port = self.port();
        if who.program == Program::Mosquitto {
            let started = MosquittoSub::start(who, port, connect, subscriptions);
            return Ok(Box::new(started.with_context(about)?));
        }
        let mut connection = self
            .clients
            .connect(who, port, connect)
            .with_context(about)?;
        for subscription in subscriptions {
            connection.subscribe(subscription).with_context(about)?;
        }
        Ok(Box::new(connection))
    }

    /// Connects to a session that was left. Only mosquitto_sub subscribes again: it cannot help it.
    pub(crate) fn resume(
        &self,
        who: Who,
        connect: &Connect,
        subscriptions: &[Subscription],
    ) -> Result<Box<dyn Subscriber>> {
        if who.program == Program::Mosquitto {
            return self.subscribe(who, connect, subscriptions);
        }
        let subscriber = self.subscribe(who, connect, &[])?;
        // CONNACK of MQTT 3.1 does not say.
        let is_there = subscriber.connack().session_present;
        let is_told = who.level != Level::V31;
        ensure!(is_there == Some(is_told), "{who}: the session is gone");
        Ok(subscriber)
    }

    /// Publishes from a connection of its own.
    pub(crate) fn publish(&self, who: Who, messages: &[Message]) -> Result<()> {
        self.try_publish(who, messages)?
            .ensure_all()
            .with_context(|| format!("{who} publishes"))
    }

    pub(crate) fn try_publish(&self, who: Who, messages: &[Message]) -> Result<Published> {
        let connect = Connect::new(&who.id("pub"));
        self.clients
            .publish(who, self.port(), &connect, messages)
            .with_context(|| format!("{who} publishes"))
    }

    /// Shows that nothing else was on its way to a subscriber: one more message, to a topic that it
    /// has subscribed to, is the next that it gets.
    pub(crate) fn fence(&self, subscriber: &mut dyn Subscriber, topic: &str) -> Result<()> {
        let number = self.fences.get();
        self.fences.set(number + 1);
        let who = Who {
            program: Program::Rumqttc,
            level: Level::V311,
        };
        let message = Message::new(topic, format!("fence {number}"), 1);
        let connect = Connect::new("fence");
        self.clients
            .publish(who, self.port(), &connect, std::slice::from_ref(&message))?
            .ensure_all()
            .context("publish the fence")?;
        let next = subscriber.take(1).context("wait for the fence")?;
        let is_fence =
            |next: &Message| (&next.topic, &next.payload) == (topic_of(&message), &message.payload);
        ensure!(
            next.iter().all(is_fence),
            "nothing was to come on {topic}, but: {next:?}"
        );
        Ok(())
    }

    /// Waits until the broker has this many sessions.
    pub(crate) fn wait_sessions(&self, wanted: u64) -> Result<()> {
        self.wait_status("/broker/sessions", wanted)
    }

    /// Waits until the broker has this many connections.
    pub(crate) fn wait_connections(&self, wanted: u64) -> Result<()> {
        self.wait_status("/broker/listeners/0/connections", wanted)
    }

    fn wait_status(&self, pointer: &str, wanted: u64) -> Result<()> {
        wait_for(pointer, PATIENCE, || {
            let status = self.broker.status()?;
            let number = status.pointer(pointer).context("no such status")?;
            Ok((*number == wanted).then_some(()))
        })
    }
}

fn topic_of(message: &Message) -> &String {
    &message.topic
}
