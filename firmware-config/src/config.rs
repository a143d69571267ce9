//! The whole configuration, from a file, a text, or nothing.
//!
//! Invariants: a [`Config`] that was read is valid in itself, so nobody needs to check again what
//! is checked here; an empty file and no file are the same; the order of tables and keys in the
//! file means nothing, except that logs are asked in their order.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::DeTable;

use crate::bridge::{BRIDGE, BridgeConfig, Surroundings, read_bridge};
use crate::checks::Checks;
use crate::limits::{LIMITS, LimitsConfig, read_limits};
use crate::listener::{
    ADMIN, AdminConfig, Claims, LISTENER, ListenerConfig, read_admin, read_listeners,
};
use crate::log::{LOG, LogConfig, read_logs};
use crate::machine::{
    BOARD, MEMORY_BUDGET, Machine, MachineRead, MemoryBudget, TakenBoard, read_machine,
    without_file,
};
use crate::problem::{LoadError, Located, Position, Problem, Problems};
use crate::report::Report;
use crate::schema::{ChoiceKey, Schema, TextKey};
use crate::section::Section;
use crate::share::{SHARE, SHARE_POLICY, ShareConfig, SharePolicy, read_shares};
use crate::storage::{STORAGE, StorageConfig, StorageRead, read_storage};
use crate::syntax;
use crate::value::{GatewayId, LogName, Refusal, parse_duration};

/// The largest file that is read, in bytes. 64 logs and 64 routes with long filters take a tenth
/// of it.
const FILE_BYTES_MAX: usize = 256 << 10;

/// Everything that can be configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The folder with everything that is kept; relative to the working directory.
    pub data_dir: PathBuf,
    /// The name of this gateway upstream; there is one when there is a bridge.
    pub gateway_id: Option<GatewayId>,
    /// Where a QoS 1 message goes that no log's filter takes.
    pub unmapped: Unmapped,
    /// How often the `$SYS` topics are published; `None` for not at all.
    pub sys_interval: Option<Duration>,
    /// How messages are spread over shared subscribers, where `shares` does not say otherwise.
    pub share_policy: SharePolicy,
    /// The board whose defaults hold.
    pub board: TakenBoard,
    /// Memory that the process may take; `None` if the file says nothing and nothing is known.
    pub memory_budget: Option<MemoryBudget>,
    /// Where clients connect; at least one.
    pub listeners: Vec<ListenerConfig>,
    /// Where health, metrics and status are served.
    pub admin: AdminConfig,
    /// How the logs lie on flash.
    pub storage: StorageConfig,
    /// The logs in the order in which they are asked; one of them is named `default`.
    pub logs: Vec<LogConfig>,
    /// Groups of shared subscribers with a policy of their own.
    pub shares: Vec<ShareConfig>,
    /// What clients may take.
    pub limits: LimitsConfig,
    /// Where the logs are replicated to, if anywhere.
    pub bridge: Option<BridgeConfig>,
}

/// Where a QoS 1 message goes that no log's filter takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmapped {
    /// To the log `default`: it is stored before it is acknowledged.
    Default,
    /// To the subscribers of the moment only.
    LiveOnly,
}

static DATA_DIR: TextKey = TextKey {
    name: "data_dir",
    allowed: "the path of a folder, absolute or from the working directory",
    default: r#""./tidegate-data""#,
};
static GATEWAY_ID: TextKey = TextKey {
    name: "gateway_id",
    allowed: "1 to 64 of A-Z, a-z, 0-9, ., _ and -",
    default: "none; required with `[bridge]`",
};
static UNMAPPED: ChoiceKey<Unmapped> = ChoiceKey {
    name: "unmapped",
    choices: &[
        ("default", Unmapped::Default),
        ("live-only", Unmapped::LiveOnly),
    ],
    later: &[],
};
static SYS_INTERVAL: TextKey = TextKey {
    name: "sys_interval",
    allowed: r#"a duration from "1s" to "1d", or "0s" for none"#,
    default: r#""10s""#,
};
const SYS_INTERVAL_DEFAULT: Duration = Duration::from_secs(10);
const SYS_INTERVAL_SHORTEST: Duration = Duration::from_secs(1);
const SYS_INTERVAL_LONGEST: Duration = Duration::from_secs(86_400);

pub(crate) static SCHEMA: Schema = Schema {
    keys: &[
        &DATA_DIR,
        &GATEWAY_ID,
        &UNMAPPED,
        &SYS_INTERVAL,
        &SHARE_POLICY,
        &BOARD,
        &MEMORY_BUDGET,
    ],
    tables: &[&LISTENER, &ADMIN, &STORAGE, &LOG, &SHARE, &LIMITS, &BRIDGE],
    later: &[
        "acl", "auth", "bundle", "device", "kafka", "quota", "tenant",
    ],
};

impl Default for Config {
    /// What runs without a file on a machine of which nothing is known.
    fn default() -> Self {
        Self::without_file(&Machine::default())
    }
}

impl Config {
    /// What runs without a file: everything on this machine only, one log for all topics.
    #[must_use]
    pub fn without_file(machine: &Machine) -> Self {
        let (board, memory_budget) = without_file(machine);
        let defaults = board.board.profile().defaults;
        Self {
            data_dir: default_data_dir(),
            gateway_id: None,
            unmapped: Unmapped::Default,
            sys_interval: Some(SYS_INTERVAL_DEFAULT),
            share_policy: SharePolicy::default(),
            board,
            memory_budget,
            listeners: vec![ListenerConfig::of(&defaults)],
            admin: AdminConfig::default(),
            storage: StorageConfig::of(&defaults),
            logs: vec![LogConfig::new(LogName::default_log(), vec!["#".to_owned()])],
            shares: Vec::new(),
            limits: LimitsConfig::of(&defaults),
            bridge: None,
        }
    }
}

fn default_data_dir() -> PathBuf {
    PathBuf::from("./tidegate-data")
}

impl Config {
    /// Reads a file. `machine` is what it is for.
    ///
    /// # Errors
    /// When the file cannot be read, or with everything that is wrong in it.
    pub fn from_file(path: &Path, checks: &Checks, machine: &Machine) -> Result<Self, LoadError> {
        let name = path.display().to_string();
        let bytes = read_file(path).map_err(|source| LoadError::Read {
            path: path.to_owned(),
            source,
        })?;
        match std::str::from_utf8(&bytes) {
            Ok(text) => Ok(Self::from_toml(text, &name, checks, machine)?),
            Err(_) if bytes.len() > FILE_BYTES_MAX => Err(too_large(&name).into()),
            Err(error) => Err(not_text(&name, &bytes, error.valid_up_to()).into()),
        }
    }

    /// Reads a text; `name` is what its problems call it, `machine` what it is for.
    ///
    /// # Errors
    /// With everything that is wrong in it.
    pub fn from_toml(
        text: &str,
        name: &str,
        checks: &Checks,
        machine: &Machine,
    ) -> Result<Self, Problems> {
        if text.len() > FILE_BYTES_MAX {
            return Err(too_large(name));
        }
        let report = Report::new(name, text);
        let text = syntax::without_errors(text, &report);
        let config = match DeTable::parse(&text) {
            Ok(table) => read(
                &Section::root(&report, table.get_ref(), &SCHEMA),
                checks,
                machine,
                &report,
            ),
            Err(error) => {
                report.syntax_error(0, error.message().to_owned());
                None
            }
        };
        report.verdict(config)
    }
}

/// Reads no more than is needed to see that a file is too large.
fn read_file(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(FILE_BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn too_large(name: &str) -> Problems {
    let message = format!(
        "the file is too large; allowed: {} KiB",
        FILE_BYTES_MAX >> 10
    );
    let position = Position { line: 1, column: 1 };
    Problems::new(
        name,
        vec![Problem {
            position,
            key: String::new(),
            message,
        }],
    )
}

fn not_text(name: &str, bytes: &[u8], valid_up_to: usize) -> Problems {
    let (valid, other) = bytes.split_at(valid_up_to.min(bytes.len()));
    let valid = String::from_utf8_lossy(valid);
    let position = Report::new(name, &valid).position(valid.len());
    let byte = other.first().copied().unwrap_or_default();
    let message = format!("found the byte 0x{byte:02x}, which is no UTF-8; allowed: UTF-8 text");
    Problems::new(
        name,
        vec![Problem {
            position,
            key: String::new(),
            message,
        }],
    )
}

/// Reads all tables. The order is that of the rules: what is compared with comes first.
fn read(
    file: &Section<'_>,
    checks: &Checks,
    machine: &Machine,
    report: &Report<'_>,
) -> Option<Config> {
    let MachineRead {
        board,
        budget,
        defaults,
    } = read_machine(file, machine);
    let data_dir = file.text(&DATA_DIR, parse_data_dir);
    let data_dir = data_dir.or(|| Located::nowhere(default_data_dir()));
    let gateway_id = file.text(&GATEWAY_ID, str::parse::<GatewayId>).optional();
    let gateway_id = gateway_id.map(|id| id.map(|id| id.value));
    let unmapped = file.choice(&UNMAPPED);
    let sys_interval = file.text(&SYS_INTERVAL, parse_sys_interval);
    let sys_interval = sys_interval.or(|| Located::nowhere(Some(SYS_INTERVAL_DEFAULT)));
    let share_policy = file.choice(&SHARE_POLICY);
    let mut claims = Claims::default();
    let listeners = read_listeners(file, &mut claims, &defaults);
    let admin = read_admin(file, &mut claims);
    claims.check(report);
    let StorageRead {
        storage,
        segment_bytes,
    } = read_storage(file, &defaults);
    let limits = read_limits(file, segment_bytes, &defaults);
    let logs = read_logs(file, checks, segment_bytes);
    let shares = read_shares(file);
    let surroundings = Surroundings {
        gateway_id: gateway_id.clone(),
        gateway_id_key: &GATEWAY_ID,
        logs: logs.known,
    };
    let bridge = read_bridge(file, &surroundings);
    Some(Config {
        data_dir: data_dir?.value,
        gateway_id: gateway_id?,
        unmapped: unmapped?,
        sys_interval: sys_interval?.value,
        share_policy: share_policy?,
        board: board?,
        memory_budget: budget?,
        listeners: listeners?,
        admin: admin?,
        storage: storage?,
        logs: logs.logs?,
        shares: shares?,
        limits: limits?,
        bridge: bridge?,
    })
}

fn parse_sys_interval(text: &str) -> Result<Option<Duration>, Refusal> {
    match parse_duration(text)? {
        Duration::ZERO => Ok(None),
        interval if interval < SYS_INTERVAL_SHORTEST => Err(Refusal::new("is too short")),
        interval if interval > SYS_INTERVAL_LONGEST => Err(Refusal::new("is more than a day")),
        interval => Ok(Some(interval)),
    }
}

fn parse_data_dir(text: &str) -> Result<PathBuf, Refusal> {
    if text.is_empty() {
        return Err(Refusal::new("is empty"));
    }
    if text.contains('\0') {
        return Err(Refusal::new("contains a zero byte"));
    }
    Ok(PathBuf::from(text))
}
