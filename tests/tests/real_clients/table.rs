//! Every client in every scenario: how tests are made of it, and what a client cannot do.

use anyhow::{Context, Result};
use tests::broker_process::Options;
use tests::cache::{NODE_LOCK, PYTHON_REQUIREMENTS};
use tests::skip;

use crate::stage::Stage;
use crate::who::{Program, Who};

/// The scenarios, as `docs/clients.md` names them.
pub(crate) const SCENARIOS: [&str; 8] = [
    "live", "retained", "will", "offline", "large", "shared", "request", "Kafka",
];

/// A part of a scenario that not every client can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Retain Handling 1 and 2 of MQTT 5, which take a second SUBSCRIBE on one connection.
    RetainHandling,
    /// What CONNACK says is told: Session Present, and Maximum Packet Size.
    Connack,
    /// DISCONNECT of MQTT 5 without reason code 0x04, which asks for the will.
    PlainGoodBye,
    /// Correlation data that is no text.
    BinaryCorrelation,
    /// The order of user properties with different names.
    UserPropertyOrder,
    /// The broker is let refuse what is larger than it told.
    TooLargeSent,
}

/// What a client leaves out of a scenario, and why.
#[derive(Debug)]
pub(crate) struct Gap {
    pub(crate) program: Program,
    pub(crate) scenario: &'static str,
    pub(crate) part: Part,
    pub(crate) reason: &'static str,
}

pub(crate) const GAPS: &[Gap] = &[
    Gap {
        program: Program::Mosquitto,
        scenario: "retained",
        part: Part::RetainHandling,
        reason: "mosquitto_sub has no option for Retain Handling and subscribes once",
    },
    Gap {
        program: Program::Mosquitto,
        scenario: "will",
        part: Part::PlainGoodBye,
        reason: "mosquitto_sub in MQTT 5 says good-bye with reason code 0x04, which asks for the will: it \
                 is expected then",
    },
    Gap {
        program: Program::Mosquitto,
        scenario: "offline",
        part: Part::Connack,
        reason: "mosquitto_sub does not print Session Present, and subscribes again when it is back",
    },
    Gap {
        program: Program::Mosquitto,
        scenario: "large",
        part: Part::TooLargeSent,
        reason: "mosquitto_pub in MQTT 5 does not send what is above the broker's Maximum Packet Size, \
                 and ends with status 0 without a word",
    },
    Gap {
        program: Program::Mosquitto,
        scenario: "request",
        part: Part::BinaryCorrelation,
        reason: "correlation data comes from the command line and is text",
    },
    Gap {
        program: Program::MqttJs,
        scenario: "request",
        part: Part::UserPropertyOrder,
        reason: "mqtt.js keeps user properties by name: the order of different names is lost",
    },
    Gap {
        program: Program::Rumqttc,
        scenario: "large",
        part: Part::TooLargeSent,
        reason: "rumqttc in MQTT 5 ends the connection instead of sending what is above the broker's \
                 Maximum Packet Size",
    },
];

impl Program {
    pub(crate) fn can(self, part: Part) -> bool {
        !GAPS
            .iter()
            .any(|gap| (gap.program, gap.part) == (self, part))
    }
}

/// Plays a scenario with a program and its neighbour in the ring, on a broker of its own.
pub(crate) fn play(
    program: Program,
    options: Options,
    scenario: impl FnOnce(&mut Stage, Program) -> Result<()>,
) {
    let available = program
        .available()
        .and_then(|()| program.next().available());
    if skip::unless(available).is_none() {
        return;
    }
    let mut stage = Stage::start(options).unwrap();
    if let Err(error) = scenario(&mut stage, program) {
        panic!("{error:#}\n{}", stage.broker.log_tail());
    }
}

/// Plays it in every version that the program speaks.
pub(crate) fn in_every_version(
    stage: &Stage,
    program: Program,
    scenario: impl Fn(&Stage, Who) -> Result<()>,
) -> Result<()> {
    for who in Who::all_of(program) {
        scenario(stage, who).with_context(|| who.to_string())?;
    }
    Ok(())
}

/// `each_program!(behaviour, options, scenario)`: a test `behaviour::<program>` for each program.
/// `options` makes those of the broker, `scenario` takes the stage and the program.
macro_rules! each_program {
    ($behaviour:ident, $options:ident, $scenario:ident) => {
        $crate::table::each_program!($behaviour, $options, super::$scenario,
            gmqtt Gmqtt, mosquitto Mosquitto, mqtt_js MqttJs, paho Paho, rumqttc Rumqttc);
    };
    ($behaviour:ident, $options:ident, $scenario:expr, $($name:ident $program:ident),*) => {
        mod $behaviour {
            $(
                #[test]
                fn $name() {
                    let program = $crate::who::Program::$program;
                    $crate::table::play(program, super::$options(), $scenario);
                }
            )*
        }
    };
}

/// The same for a scenario that takes the stage and one version of a program, for all of them.
macro_rules! each_version {
    ($behaviour:ident, $options:ident, $scenario:ident) => {
        $crate::table::each_program!(
            $behaviour,
            $options,
            |stage, program| $crate::table::in_every_version(stage, program, super::$scenario),
            gmqtt Gmqtt, mosquitto Mosquitto, mqtt_js MqttJs, paho Paho, rumqttc Rumqttc
        );
    };
}

pub(crate) use {each_program, each_version};

/// Options of a broker that needs none.
pub(crate) fn plain() -> Options {
    Options::default()
}

/// The table of `docs/clients.md`, and its remarks.
fn page() -> String {
    let mut page = format!("| Client | MQTT | {} |\n", SCENARIOS.join(" | "));
    page.push_str(&format!("|---|---|{}\n", "---|".repeat(SCENARIOS.len())));
    for program in Program::ALL {
        let levels = program.levels().iter().map(|level| level.name());
        let levels: Vec<&str> = levels.collect();
        let cells = SCENARIOS.map(|scenario| cell(program, scenario));
        let (name, levels) = (program.name(), levels.join(", "));
        page.push_str(&format!("| {name} | {levels} | {} |\n", cells.join(" | ")));
    }
    page.push('\n');
    for (number, gap) in (1..).zip(GAPS) {
        page.push_str(&format!("{number}. {}.\n", gap.reason));
    }
    page
}

/// With the numbers of the remarks.
fn cell(program: Program, scenario: &str) -> String {
    let gaps = (1..).zip(GAPS);
    let own = gaps.filter(|(_, gap)| (gap.program, gap.scenario) == (program, scenario));
    let numbers: Vec<String> = own.map(|(number, _)| format!("{number}")).collect();
    if numbers.is_empty() {
        String::from("yes")
    } else {
        format!("yes ({})", numbers.join(", "))
    }
}

#[test]
fn page_for_users_says_what_is_played_and_what_is_left_out() {
    let page = page();
    let written = include_str!("../../../docs/clients.md");
    assert!(
        written.contains(&page),
        "docs/clients.md is to say:\n\n{page}"
    );
    for program in Program::ALL {
        let version = version(program);
        let line = format!("- {} {version}", program.name());
        assert!(
            written.contains(&line),
            "docs/clients.md is to say:\n{line}"
        );
    }
}

/// What is installed, from the files that pin it.
fn version(program: Program) -> String {
    let after = |text: &str, before: &str| {
        let (_, rest) = text.split_once(before).unwrap();
        let is_part = |c: &char| c.is_ascii_digit() || *c == '.';
        rest.chars().take_while(is_part).collect()
    };
    let workspace = include_str!("../../../Cargo.toml");
    match program {
        Program::Gmqtt | Program::Paho => {
            after(PYTHON_REQUIREMENTS, &format!("{}==", program.name()))
        }
        // Debian's.
        Program::Mosquitto => String::from("2.0"),
        Program::MqttJs => after(NODE_LOCK, "\"mqtt\": \""),
        Program::Rumqttc => after(workspace, "rumqttc = { version = \""),
    }
}
