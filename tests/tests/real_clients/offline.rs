//! Sessions that are kept while their clients are away: everything, in order, and of QoS 2 once.

use anyhow::{Context, Result, ensure};

use crate::message::{Connect, Message, Subscription};
use crate::stage::Stage;
use crate::table::{each_program, plain};
use crate::who::{Program, Who};

/// Messages while a client is away.
const COUNT: usize = 200;

each_program!(messages_come_when_the_client_is_back, plain, away_and_back);

each_program!(
    messages_come_after_the_broker_was_killed,
    plain,
    away_and_back_after_a_crash
);

/// A session without its client.
struct Away {
    who: Who,
    connect: Connect,
    subscription: Subscription,
    expected: Vec<Message>,
}

fn away_and_back(stage: &mut Stage, program: Program) -> Result<()> {
    away(stage, program, false)
}

fn away_and_back_after_a_crash(stage: &mut Stage, program: Program) -> Result<()> {
    away(stage, program, true)
}

/// All versions and QoS at once, so that the broker need be killed but once.
fn away(stage: &mut Stage, program: Program, is_killed: bool) -> Result<()> {
    let mut all = Vec::new();
    for who in Who::all_of(program) {
        for qos in [1, 2] {
            all.push(leave(stage, who, qos).with_context(|| format!("{who}, QoS {qos}"))?);
        }
    }
    if is_killed {
        stage.broker.restart()?;
    }
    for away in all {
        let about = format!("{}, QoS {}", away.who, away.subscription.qos);
        come_back(stage, &away).context(about)?;
    }
    Ok(())
}

fn leave(stage: &Stage, who: Who, qos: u8) -> Result<Away> {
    let connect = Connect::kept(&who.id(&format!("q{qos}")), who);
    let topic = format!("offline/{}", connect.client_id);
    let subscription = Subscription::new(&topic, qos);
    stage
        .subscribe(who, &connect, std::slice::from_ref(&subscription))?
        .leave()?;
    let messages = (0..COUNT).map(|number| Message::new(&topic, number.to_string(), qos));
    let expected: Vec<Message> = messages.collect();
    stage.publish(who.neighbour(), &expected)?;
    Ok(Away {
        who,
        connect,
        subscription,
        expected,
    })
}

fn come_back(stage: &Stage, away: &Away) -> Result<()> {
    let subscriptions = std::slice::from_ref(&away.subscription);
    let mut subscriber = stage.resume(away.who, &away.connect, subscriptions)?;
    let found = subscriber.take(COUNT)?;
    let differs = found.iter().zip(&away.expected).find(|(a, b)| a != b);
    ensure!(differs.is_none(), "came and expected: {differs:?}");
    stage.fence(&mut *subscriber, &away.subscription.filter)?;
    subscriber.leave()
}
