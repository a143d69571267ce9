//! Which client program in which version of the protocol.

use std::fmt;

use tests::{mosquitto, node, python};

/// A version of the protocol, with MQTT 3.1, which is older than the library's `Version` knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    V31,
    V311,
    V5,
}

impl Level {
    /// The protocol level in CONNECT.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::V31 => 3,
            Self::V311 => 4,
            Self::V5 => 5,
        }
    }

    /// As people call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::V31 => "3.1",
            Self::V311 => "3.1.1",
            Self::V5 => "5",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    Gmqtt,
    Mosquitto,
    MqttJs,
    Paho,
    Rumqttc,
}

impl Program {
    pub(crate) const ALL: [Self; 5] = [
        Self::Gmqtt,
        Self::Mosquitto,
        Self::MqttJs,
        Self::Paho,
        Self::Rumqttc,
    ];

    /// As its makers write it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gmqtt => "gmqtt",
            Self::Mosquitto => "mosquitto",
            Self::MqttJs => "mqtt.js",
            Self::Paho => "paho-mqtt",
            Self::Rumqttc => "rumqttc",
        }
    }

    /// What it speaks.
    pub(crate) fn levels(self) -> &'static [Level] {
        match self {
            Self::Gmqtt | Self::Rumqttc => &[Level::V311, Level::V5],
            Self::Mosquitto | Self::MqttJs | Self::Paho => &[Level::V31, Level::V311, Level::V5],
        }
    }

    /// The next one in the ring of all.
    pub(crate) fn next(self) -> Self {
        match self {
            Self::Gmqtt => Self::Mosquitto,
            Self::Mosquitto => Self::MqttJs,
            Self::MqttJs => Self::Paho,
            Self::Paho => Self::Rumqttc,
            Self::Rumqttc => Self::Gmqtt,
        }
    }

    /// Or the reason for a skip.
    pub(crate) fn available(self) -> Result<(), String> {
        match self {
            Self::Gmqtt | Self::Paho => python::available().map(drop),
            Self::Mosquitto => mosquitto::clients().map(drop),
            Self::MqttJs => node::available().map(drop),
            Self::Rumqttc => Ok(()),
        }
    }
}

/// All five, or the reason for a skip.
pub(crate) fn all_available() -> Result<(), String> {
    Program::ALL.into_iter().try_for_each(Program::available)
}

/// A client as this suite lets it run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Who {
    pub(crate) program: Program,
    pub(crate) level: Level,
}

impl Who {
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        Program::ALL.into_iter().flat_map(Self::all_of)
    }

    pub(crate) fn all_of(program: Program) -> impl Iterator<Item = Self> {
        let levels = program.levels().iter();
        levels.map(move |&level| Self { program, level })
    }

    /// The next program in the ring, in the same version; where it does not speak MQTT 3.1, in 3.1.1.
    pub(crate) fn neighbour(self) -> Self {
        let program = self.program.next();
        let speaks = program.levels().contains(&self.level);
        let level = if speaks { self.level } else { Level::V311 };
        Self { program, level }
    }

    /// Whether messages can have properties, and subscriptions options.
    pub(crate) fn is_5(self) -> bool {
        self.level == Level::V5
    }

    /// A client id, within the 23 characters of MQTT 3.1, and a level of topics.
    pub(crate) fn id(self, role: &str) -> String {
        let program = self.program.name().replace('.', "");
        format!("{program}-{}-{role}", self.level.number())
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in MQTT {}", self.program.name(), self.level.name())
    }
}
