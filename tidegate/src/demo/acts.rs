//! The acts: what happens to the gateway and its uplink, in which order, told in a sentence each.
//!
//! An act ends when what it shows has happened, and not before its share of the time is over.

use std::time::Duration;

use serde::Serialize;

use super::noise::noise;
use super::stage::Stage;
use crate::cli::demo::Tamper;

/// At which share of the time each act ends; the rest is for the devices to finish and for the
/// backlog to drain.
const NORMAL_ENDS: f64 = 0.15;
const CUT_KILL_AT: f64 = 0.3;
const CUT_ENDS: f64 = 0.45;
const FLAPPING_ENDS: f64 = 0.9;

/// Times that the link goes down while it flaps, at least.
const FLAPS_MIN: u32 = 3;
/// How long it is up and down in between: shortest, longest.
const UP_MS: (u64, u64) = (200, 1200);
const DOWN_MS: (u64, u64) = (50, 500);

/// How much was done to the gateway.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Faults {
    /// SIGKILL.
    pub(super) kills: u32,
    pub(super) uplink_cuts: u32,
    pub(super) answers_lost: u64,
}

/// Plays everything up to the last act.
pub(super) async fn play(stage: &mut Stage, tamper: Option<Tamper>) -> anyhow::Result<Faults> {
    let mut faults = Faults::default();
    normal(stage).await?;
    if let Some(tamper) = tamper {
        stage.upstream.tamper(tamper);
    }
    cut(stage, &mut faults).await?;
    killed(stage, &mut faults).await?;
    flapping(stage, &mut faults).await?;
    Ok(faults)
}

async fn normal(stage: &mut Stage) -> anyhow::Result<()> {
    stage.display.begin(
        "Act 1: all is well",
        "Devices publish; the gateway stores every message before it acknowledges it, and replicates it.",
    );
    stage
        .wait_for("the first replicated record", |sample| {
            sample.replicated > 0
        })
        .await?;
    stage.pause_until(stage.at(NORMAL_ENDS)).await
}

async fn cut(stage: &mut Stage, faults: &mut Faults) -> anyhow::Result<()> {
    stage.display.begin(
        "Act 2: the uplink is cut",
        "Devices notice nothing; what they publish is acknowledged and waits on flash.",
    );
    stage.cut_uplink();
    faults.uplink_cuts += 1;
    stage
        .wait_for("a record that waits", |sample| sample.waiting > 0)
        .await?;
    stage.pause_until(stage.at(CUT_KILL_AT)).await?;

    let pid = kill(stage, faults)?;
    stage.display.begin(
        "Act 3: the gateway is killed while the uplink is cut",
        &format!("SIGKILL to process {pid}; it is started again on the same folder."),
    );
    restart(stage).await?;
    stage.pause_until(stage.at(CUT_ENDS)).await
}

async fn killed(stage: &mut Stage, faults: &mut Faults) -> anyhow::Result<()> {
    let waiting = stage.waiting();
    stage.display.begin(
        "Act 4: the uplink is back, and the gateway is killed while it sends",
        &format!(
            "{waiting} records wait; the cluster stores some, and their acknowledgement never arrives."
        ),
    );
    let before = stage.relay.lost();
    stage.relay.lose_answer();
    stage.restore_uplink("up");
    stage.wait_answers_lost(before + 1).await?;
    let pid = kill(stage, faults)?;
    faults.answers_lost += 1;
    stage.display.say(&format!(
        "  SIGKILL to process {pid}; the next one has to find out what the cluster has."
    ));
    restart(stage).await?;
    stage
        .wait_for("a record that is replicated again", |sample| {
            sample.is_drained() && sample.replicated > 0
        })
        .await?;
    Ok(())
}

async fn flapping(stage: &mut Stage, faults: &mut Faults) -> anyhow::Result<()> {
    stage.display.begin(
        "Act 5: the link flaps",
        "It goes down and up again, and loses acknowledgements of what the cluster has stored.",
    );
    stage.uplink.set("flapping");
    let (mut flaps, ends) = (0, stage.at(FLAPPING_ENDS));
    while flaps < FLAPS_MIN || tokio::time::Instant::now() < ends {
        let before = stage.relay.lost();
        stage.relay.lose_answer();
        stage.wait_answers_lost(before + 1).await?;
        let down = duration(stage.seed, DOWN_MS, &[1, u64::from(flaps)]);
        stage.relay.cut();
        stage.pause(down).await?;
        stage.relay.restore();
        let up = duration(stage.seed, UP_MS, &[2, u64::from(flaps)]);
        stage.pause(up).await?;
        if flaps.is_multiple_of(2) {
            stage.relay.reset();
        }
        faults.uplink_cuts += 1;
        faults.answers_lost += 1;
        flaps += 1;
    }
    stage.restore_uplink("up");
    Ok(())
}

fn kill(stage: &mut Stage, faults: &mut Faults) -> anyhow::Result<u32> {
    let pid = stage.gateway.live().borrow().as_ref().map(|live| live.pid);
    stage.gateway.kill()?;
    faults.kills += 1;
    Ok(pid.unwrap_or_default())
}

/// Starts the gateway again, and waits until a device is back.
async fn restart(stage: &mut Stage) -> anyhow::Result<()> {
    let live = stage.gateway.start().await?;
    stage
        .wait_for("devices that connect again", |sample| sample.sessions > 0)
        .await?;
    stage.display.say(&format!(
        "  The gateway is back as process {}, and devices connect again.",
        live.pid
    ));
    Ok(())
}

fn duration(seed: u64, (shortest, longest): (u64, u64), parts: &[u64]) -> Duration {
    Duration::from_millis(shortest + noise(seed, parts) % (longest - shortest))
}
