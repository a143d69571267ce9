//! Tidegate's configuration: one TOML file, typed, with every mistake in it reported at once.
//!
//! [`Config::from_file`] and [`Config::from_toml`] return a [`Config`] that is valid in itself,
//! or [`Problems`]: file, line, column and key of everything that is wrong, what was found and
//! what is allowed. [`Config::default`] is what runs without a file. [`Config::explain`] prints
//! the configuration in force as a file; [`keys`] lists what a file may contain.
//!
//! # What this crate is not
//!
//! It reads no environment and no command line, opens nothing but the file that it is given, and
//! never asks the system (whether a port is free, a folder writable, a host name known, which board it
//! runs on): the same text and the same [`Machine`] have the same answer everywhere. Rules of MQTT that
//! it needs come in as [`Checks`].
//!
//! # Code map
//!
//! - `config`: the whole file, and the order in which its tables are read.
//! - `listener`, `storage`, `log`, `limits`, `bridge`: the tables, each with its types, its keys
//!   and the rules between them.
//! - `board`, `machine`: which defaults hold where, and how much memory may be taken.
//! - `value`: single values, one file per type.
//! - `syntax`, `section`, `found`, `schema`, `report`, `problem`, `near_name`, `written`: how
//!   tables are read without stopping at the first mistake.
//! - `explain`: printing.
//!
//! # Invariants
//!
//! - A key that this version does not read is refused, never ignored.
//! - Nothing panics on any text, and no list in a [`Config`] is unbounded.
//! - The types here are plain data, apart from what goes over the wire or onto flash.

mod board;
mod bridge;
mod checks;
mod config;
mod explain;
mod found;
mod limits;
mod listener;
mod log;
mod machine;
mod near_name;
mod problem;
mod report;
mod schema;
mod section;
mod share;
mod storage;
mod syntax;
mod value;
mod written;

pub use board::{Board, BoardDefaults, BoardProfile};
pub use bridge::{BridgeConfig, RouteConfig, RouteStart};
pub use checks::Checks;
pub use config::{Config, Unmapped};
pub use limits::LimitsConfig;
pub use listener::{AdminConfig, ListenerConfig, ListenerKind};
pub use log::{LogConfig, Retention};
pub use machine::{BudgetSource, Machine, MemoryBudget, TakenBoard};
pub use problem::{LoadError, Located, Position, Problem, Problems};
pub use schema::{Availability, Key, keys};
pub use share::{ShareConfig, SharePolicy};
pub use storage::StorageConfig;
pub use value::{
    ByteCount, BytesPerDay, Durability, GatewayId, HostPort, KafkaClientId, KafkaTopic, KeyPart,
    KeyTemplate, LogName, OnFull, Refusal, RouteName, ShareName, format_duration, parse_duration,
};
