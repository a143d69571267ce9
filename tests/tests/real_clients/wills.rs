//! Wills: published when a client is gone without a good-bye, and not otherwise.

use anyhow::{Context, Result, ensure};

use crate::connection::Subscriber;
use crate::message::{Connect, Message, Subscription, Will};
use crate::stage::Stage;
use crate::table::{Part, each_version, plain};
use crate::who::Who;

/// Longer than any test, in seconds.
const LONG: u32 = 1800;

each_version!(
    are_published_when_the_socket_is_cut_and_not_after_a_good_bye,
    plain,
    cut_or_left
);

each_version!(
    wait_for_their_delay_or_the_end_of_the_session,
    plain,
    delayed
);

/// Connects with a will, and subscribes to something, as mosquitto_sub must.
fn with_will(
    stage: &Stage,
    who: Who,
    connect: Connect,
    message: &Message,
    delay: Option<u32>,
) -> Result<Box<dyn Subscriber>> {
    let will = Will {
        message: message.clone(),
        delay,
    };
    let connect = Connect {
        will: Some(will),
        ..connect
    };
    stage.subscribe(who, &connect, &[Subscription::new("nothing", 1)])
}

fn watch(stage: &Stage, who: Who, filter: &str) -> Result<Box<dyn Subscriber>> {
    let connect = Connect::new(&who.id("watch"));
    stage.subscribe(who, &connect, &[Subscription::new(filter, 2)])
}

fn expect(watcher: &mut dyn Subscriber, expected: &Message) -> Result<()> {
    let found = watcher.take(1)?;
    ensure!(found == [expected.clone()], "{found:?}, not {expected:?}");
    Ok(())
}

fn cut_or_left(stage: &Stage, who: Who) -> Result<()> {
    let topic = format!("wills/{}", who.id("of"));
    let mut watcher = watch(stage, who.neighbour(), &topic)?;
    let will = |qos| Message::new(&topic, format!("QoS {qos}"), qos);
    let connect = || Connect::new(&who.id("mortal"));
    for qos in [0, 1, 2] {
        with_will(stage, who, connect(), &will(qos), None)?.cut()?;
        expect(&mut *watcher, &will(qos)).with_context(|| format!("QoS {qos}"))?;
    }
    let kept = will(1).retained(true);
    with_will(stage, who, connect(), &kept, None)?.cut()?;
    expect(&mut *watcher, &will(1))?;
    let mut late = stage.subscribe(who, &connect(), &[Subscription::new(&topic, 1)])?;
    expect(&mut *late, &kept)?;
    late.leave()?;

    with_will(stage, who, connect(), &will(1), None)?.leave()?;
    stage.wait_sessions(1)?;
    if who.is_5() && !who.program.can(Part::PlainGoodBye) {
        expect(&mut *watcher, &will(1)).context("the will was asked for")?;
    }
    stage.fence(&mut *watcher, &topic)?;
    watcher.leave()?;
    stage.wait_sessions(0)
}

/// In MQTT 5: a client that is back in time takes its will back, one that begins a new session does
/// not, and who stays away has it published.
fn delayed(stage: &Stage, who: Who) -> Result<()> {
    if !who.is_5() {
        return Ok(());
    }
    let topic = format!("wills/{}", who.id("of"));
    let mut watcher = watch(stage, who.neighbour(), &topic)?;
    let will = Message::new(&topic, "late", 1);
    let client_id = who.id("mortal");
    let kept = || Connect::kept(&client_id, who);
    let subscription = [Subscription::new("nothing", 1)];

    with_will(stage, who, kept(), &will, Some(LONG))?.cut()?;
    stage.wait_connections(1)?;
    stage.fence(&mut *watcher, &topic)?;
    stage.resume(who, &kept(), &subscription)?.leave()?;
    stage.wait_connections(1)?;
    stage.fence(&mut *watcher, &topic)?;

    with_will(stage, who, kept(), &will, Some(LONG))?.cut()?;
    stage.wait_connections(1)?;
    let anew = Connect::new(&client_id);
    stage.subscribe(who, &anew, &subscription)?.leave()?;
    expect(&mut *watcher, &will).context("the session ended")?;

    with_will(stage, who, kept(), &will, Some(1))?.cut()?;
    expect(&mut *watcher, &will).context("the delay is over")?;
    watcher.leave()
}
