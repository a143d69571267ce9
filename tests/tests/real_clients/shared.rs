//! Shared subscriptions: each message to one member, all of them to somebody.

use anyhow::{Result, ensure};
use tests::deadline::{PATIENCE, wait_for};

use crate::connection::Subscriber;
use crate::message::{Connect, Message, Subscription};
use crate::stage::Stage;
use crate::table::{each_version, plain};
use crate::who::Who;

/// Messages that are shared at a time.
const COUNT: usize = 60;

each_version!(
    messages_go_to_one_member_each_also_when_one_leaves,
    plain,
    shared
);

struct Member {
    subscriber: Box<dyn Subscriber>,
    /// A topic of its own, for fences.
    own: String,
}

/// Two members of one client and one of another.
fn shared(stage: &Stage, who: Who) -> Result<()> {
    let topic = format!("shared/{}", who.id("of"));
    let group = format!("$share/{}/{topic}", who.id("group"));
    let member = |who: Who, number: usize| -> Result<Member> {
        let connect = Connect::new(&who.id(&format!("m{number}")));
        let own = format!("own/{}", connect.client_id);
        let filters = [group.clone(), own.clone()];
        let filters = filters.map(|filter| Subscription::new(&filter, 1));
        let subscriber = stage.subscribe(who, &connect, &filters)?;
        Ok(Member { subscriber, own })
    };
    let mut members = vec![
        member(who, 1)?,
        member(who, 2)?,
        member(who.neighbour(), 3)?,
    ];
    let publisher = who.neighbour();
    share(stage, publisher, &topic, &mut members)?;
    let left = members.remove(0);
    left.subscriber.leave()?;
    share(stage, publisher, &topic, &mut members)?;
    for member in members {
        member.subscriber.leave()?;
    }
    Ok(())
}

fn share(stage: &Stage, publisher: Who, topic: &str, members: &mut [Member]) -> Result<()> {
    let messages = (0..COUNT).map(|number| Message::new(topic, format!("{number:03}"), 1));
    let messages: Vec<Message> = messages.collect();
    stage.publish(publisher, &messages)?;
    let mut shares = vec![Vec::new(); members.len()];
    wait_for("every message at some member", PATIENCE, || {
        for (share, member) in shares.iter_mut().zip(&mut *members) {
            share.extend(member.subscriber.arrived()?);
        }
        let arrived: usize = shares.iter().map(Vec::len).sum();
        Ok((arrived >= COUNT).then_some(()))
    })?;
    // Whatever else was on its way to a member comes before this, and fails it.
    for member in &mut *members {
        stage.fence(&mut *member.subscriber, &member.own)?;
    }
    let sizes: Vec<usize> = shares.iter().map(Vec::len).collect();
    ensure!(!sizes.contains(&0), "shares of {sizes:?}");
    let mut all: Vec<Message> = shares.into_iter().flatten().collect();
    all.sort_by(|one, other| one.payload.cmp(&other.payload));
    let texts: Vec<String> = all.iter().map(Message::text).collect();
    ensure!(all == messages, "shares of {sizes:?}: {}", texts.join(" "));
    Ok(())
}
