//! Retained messages: sent at a subscription with their flag, replaced, taken away.

use anyhow::{Result, ensure};

use crate::connection::Subscriber;
use crate::message::{Connect, Message, Subscription};
use crate::stage::Stage;
use crate::table::{Part, each_version, plain};
use crate::who::Who;

each_version!(
    are_sent_at_a_subscription_until_an_empty_payload_takes_them_away,
    plain,
    both_ways
);

each_version!(
    are_sent_as_the_subscription_of_mqtt_5_wants,
    plain,
    as_wanted
);

fn both_ways(stage: &Stage, who: Who) -> Result<()> {
    kept(stage, who, who.neighbour())?;
    kept(stage, who.neighbour(), who)
}

/// What one client keeps at the broker, another gets.
fn kept(stage: &Stage, from: Who, to: Who) -> Result<()> {
    let topic = format!("retained/{}/{}", from.id("from"), to.id("to"));
    let message = |text: &str| Message::new(&topic, text, 1).retained(true);
    let (last, changed, nothing) = (message("last"), message("changed"), message(""));
    let subscribe = || {
        let connect = Connect::new(&to.id("sub"));
        stage.subscribe(to, &connect, &[Subscription::new(&topic, 1)])
    };

    stage.publish(from, &[message("first"), last.clone()])?;
    let mut subscriber = subscribe()?;
    expect(&mut *subscriber, &[last])?;
    // To who is there already they come as any other message, also the one that takes away.
    stage.publish(from, &[changed.clone(), nothing.clone()])?;
    expect(
        &mut *subscriber,
        &[changed.retained(false), nothing.retained(false)],
    )?;
    stage.fence(&mut *subscriber, &topic)?;
    subscriber.leave()?;

    let mut late = subscribe()?;
    stage.fence(&mut *late, &topic)?;
    late.leave()
}

fn expect(subscriber: &mut dyn Subscriber, expected: &[Message]) -> Result<()> {
    let found = subscriber.take(expected.len())?;
    ensure!(found == expected, "{found:?} instead of {expected:?}");
    Ok(())
}

fn as_wanted(stage: &Stage, who: Who) -> Result<()> {
    if !who.is_5() {
        return Ok(());
    }
    as_published(stage, who)?;
    if who.program.can(Part::RetainHandling) {
        handling(stage, who)?;
    }
    Ok(())
}

/// With Retain As Published a live message keeps its flag.
fn as_published(stage: &Stage, who: Who) -> Result<()> {
    let topic = format!("retained/{}/published", who.id("to"));
    let subscription = Subscription {
        retain_as_published: true,
        ..Subscription::new(&topic, 1)
    };
    let connect = Connect::new(&who.id("sub"));
    let mut subscriber = stage.subscribe(who, &connect, &[subscription])?;
    let plain = Message::new(&topic, "plain", 1);
    let messages = [plain.clone().retained(true), plain];
    stage.publish(who.neighbour(), &messages)?;
    expect(&mut *subscriber, &messages)?;
    subscriber.leave()
}

/// Retain Handling 1: at a new subscription only; 2: never.
fn handling(stage: &Stage, who: Who) -> Result<()> {
    let topic = format!("retained/{}/handling", who.id("to"));
    let message = Message::new(&topic, "kept", 1).retained(true);
    stage.publish(who.neighbour(), std::slice::from_ref(&message))?;
    let subscription = |retain_handling| Subscription {
        retain_handling,
        ..Subscription::new(&topic, 1)
    };
    let connect = Connect::new(&who.id("sub"));

    let mut subscriber = stage.subscribe(who, &connect, &[subscription(1)])?;
    expect(&mut *subscriber, std::slice::from_ref(&message))?;
    for (again, comes) in [(1, false), (0, true), (2, false)] {
        subscriber.subscribe(&subscription(again))?;
        if comes {
            expect(&mut *subscriber, std::slice::from_ref(&message))?;
        }
        stage.fence(&mut *subscriber, &topic)?;
    }
    subscriber.leave()?;

    let mut subscriber = stage.subscribe(who, &connect, &[subscription(2)])?;
    stage.fence(&mut *subscriber, &topic)?;
    subscriber.leave()
}
