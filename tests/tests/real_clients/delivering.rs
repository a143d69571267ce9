//! What every client publishes, every other gets while it is there.

use anyhow::Result;
use tests::broker_process::Options;
use tests::skip;

use crate::message::{Connect, Message, Subscription};
use crate::stage::Stage;
use crate::who::{Who, all_available};

fn by_topic(mut messages: Vec<Message>) -> Vec<Message> {
    messages.sort_by(|one, other| one.topic.cmp(&other.topic));
    messages
}

fn of(who: Who, qos: u8) -> Message {
    let topic = format!("live/{}/{qos}", who.id("pub"));
    Message::new(&topic, format!("from {who}"), qos)
}

#[test]
fn messages_of_every_client_reach_subscribers_of_every_other_live() {
    let Some(()) = skip::unless(all_available()) else {
        return;
    };
    let stage = Stage::start(Options::default()).unwrap();
    for qos in 0..=2 {
        check_live(&stage, qos).unwrap();
    }
}

/// Everybody subscribes with this QoS, and everybody publishes in each.
fn check_live(stage: &Stage, qos: u8) -> Result<()> {
    let subscription = [Subscription::new("live/#", qos)];
    let mut subscribers = Vec::new();
    for who in Who::all() {
        let connect = Connect::new(&who.id("sub"));
        subscribers.push((who, stage.subscribe(who, &connect, &subscription)?));
    }
    let mut published = Vec::new();
    for who in Who::all() {
        let messages = [0, 1, 2].map(|qos| of(who, qos));
        stage.publish(who, &messages)?;
        published.extend(messages);
    }
    let granted = |message: Message| Message {
        qos: message.qos.min(qos),
        ..message
    };
    let expected = by_topic(published.into_iter().map(granted).collect());
    for (who, mut subscriber) in subscribers {
        let found = by_topic(subscriber.take(expected.len())?);
        assert_eq!(found, expected, "{who}, QoS {qos}");
        subscriber.leave()?;
    }
    stage.wait_sessions(0)
}
