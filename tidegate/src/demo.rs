//! `tidegate demo`: the promises, shown. A gateway, a fleet of simulated devices and a cluster; the
//! uplink is cut, the gateway is killed, and in the end everything is counted.
//!
//! The gateway is this program as a child process, as it would run under systemd; the devices are
//! real MQTT clients; the cluster is the model of a Kafka broker in this process, or a real one. What
//! the demonstration knows it knows from the devices and from the cluster, not from the gateway.
//!
//! Invariants:
//! - It ends within [`OVERTIME`] after the time that was asked for.
//! - Whatever ends it, the gateway ends too, and a folder that nobody asked for is gone, unless
//!   something went wrong: then the folder stays, and the error names it.

mod acts;
mod balance;
mod device;
mod display;
mod fleet;
mod folder;
mod gateway;
mod message;
mod mqtt_connection;
mod noise;
mod observer;
mod outbox;
mod panel;
mod relay;
mod stage;
mod summary;
mod upstream;

use std::future::Future;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;
use tokio::time::{Instant, timeout_at};

use crate::cli::demo::DemoOptions;
use crate::exit::Failure;
use balance::Report;
use display::{Display, thousands};
use folder::Folder;
use stage::Stage;
use summary::Summary;
use upstream::Upstream;

/// What may be added to the time that was asked for.
const OVERTIME: Duration = Duration::from_secs(30);
/// Every message is remembered until it has been counted.
const MESSAGES_MAX: u64 = 5_000_000;
/// Seeds stay short, so that they can be typed.
const SEED_MAX: u64 = 1_000_000;

/// Runs the demonstration; fails if the balance is off.
pub(crate) fn run(options: &DemoOptions) -> Result<(), Failure> {
    if let (Some(parent), Some(config)) = (options.gateway_of, &options.gateway_config) {
        return Ok(gateway::become_gateway(parent, config)?);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    let result = LocalSet::new().block_on(&runtime, until_signal(options));
    // A look-up of a name may hang in a thread of its own; nobody waits for it any more.
    runtime.shutdown_background();
    Ok(result?)
}

/// The demonstration, unless a signal comes first.
async fn until_signal(options: &DemoOptions) -> anyhow::Result<()> {
    let ended = end_signal()?;
    tokio::select! {
        // A signal counts, whatever else is ready.
        biased;
        name = ended => bail!("{name}: ended before its time"),
        result = demonstrate(options) => result,
    }
}

fn end_signal() -> anyhow::Result<impl Future<Output = &'static str>> {
    let mut hangup = signal(SignalKind::hangup()).context("listen for SIGHUP")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    Ok(async move {
        tokio::select! {
            _ = hangup.recv() => "SIGHUP",
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
        }
    })
}

async fn demonstrate(options: &DemoOptions) -> anyhow::Result<()> {
    let messages =
        u64::from(options.devices) * u64::from(options.rate) * u64::from(options.seconds);
    if messages > MESSAGES_MAX {
        bail!(
            "--devices, --rate and --seconds come to {} messages; at most {} are counted",
            thousands(messages),
            thousands(MESSAGES_MAX)
        );
    }
    let started = Instant::now();
    let time = Duration::from_secs(u64::from(options.seconds)) + OVERTIME;
    let deadline = started + time;
    let seed = options.seed.unwrap_or_else(|| random() % SEED_MAX);
    let upstream = match &options.kafka {
        None => Upstream::model().await?,
        Some(address) => Upstream::cluster(address, random())
            .await
            .with_context(|| format!("prepare the Kafka cluster at {address}"))?,
    };
    let display = Display::new(options.json);
    display.say(&headline(options, seed, &upstream));
    let mut folder = Folder::create(options.keep.as_deref())?;
    let played = timeout_at(
        deadline,
        play(
            options,
            seed,
            upstream,
            &folder,
            &display,
            (started, deadline),
        ),
    );
    let in_time = played.await;
    let result = in_time.unwrap_or_else(|_| Err(anyhow!("not done after {} s", time.as_secs())));
    display.clear();
    let result = result.and_then(|summary| {
        display.say(&summary.table());
        if options.json {
            summary.print()?;
        }
        summary.check()
    });
    if result.is_err() {
        folder.keep();
    }
    let kept = format!(
        "the gateway's configuration, data and log are in {}",
        folder.path().display()
    );
    match result {
        Ok(()) => {
            if folder.is_kept() {
                display.say(&format!("\nKept: {kept}."));
            }
            Ok(())
        }
        Err(error) => Err(error.context(format!("the demonstration failed ({kept})"))),
    }
}

/// All acts, and what they come to.
async fn play(
    options: &DemoOptions,
    seed: u64,
    upstream: Upstream,
    folder: &Folder,
    display: &Rc<Display>,
    time: (Instant, Instant),
) -> anyhow::Result<Summary> {
    let mut stage = Stage::set(options, seed, upstream, folder, display, time).await?;
    let faults = acts::play(&mut stage, options.tamper).await?;
    let report = settle(&mut stage).await?;
    Ok(Summary::new(options, seed, &stage, faults, report))
}

async fn settle(stage: &mut Stage) -> anyhow::Result<Report> {
    stage.display.begin(
        "Act 6: the uplink is restored",
        "Devices publish nothing new; what waits is replicated, then everything is counted.",
    );
    let settled = stage.settle().await?;
    stage.check_tampered()?;
    stage.balance(settled).await
}

fn headline(options: &DemoOptions, seed: u64, upstream: &Upstream) -> String {
    let DemoOptions {
        devices,
        rate,
        seconds,
        ..
    } = options;
    let what = if upstream.is_model() {
        "a model of a Kafka broker, inside this process"
    } else {
        "the Kafka cluster that was named"
    };
    let topics = upstream.topics().each_ref().map(|topic| &*topic.name);
    format!(
        "{devices} devices publish {rate} messages a second each for about {seconds} s (--seed \
         {seed}).\nUpstream is {what}, at {}; topics {}.",
        upstream.address(),
        topics.join(" and ")
    )
}

/// A number that nobody has had before: the keys of the standard library's hashers are random.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
