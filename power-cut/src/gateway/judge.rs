//! What must hold of the log and of what the subscribers got.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, anyhow};
use storage::{Message, Offset, Read, Store};

use super::player::{Player, Sent};
use super::who::{GROUP, NUMBERS_EACH, TOPICS, matches, number_of};
use crate::check::Examined;

/// What one read takes at once.
const READ_BYTES: usize = 1 << 20;

/// Numbers of the messages of each partition, in their order.
pub(crate) type Records = Vec<Vec<u64>>;

/// Everything that is in the log.
pub(crate) fn read(store: &Store, bytes_max: usize) -> Result<Records> {
    let mut all = Vec::new();
    for place in store.logs().iter().flat_map(storage::Log::partitions) {
        let mut found = Vec::new();
        let mut reader = store.partition_reader(place, Offset(0));
        loop {
            let batches = match reader.read(READ_BYTES)? {
                Read::UpToDate => break,
                Read::Gap { from, to, .. } => return Err(anyhow!("gap from {from} to {to}")),
                Read::Batches(batches) => batches,
            };
            for record in batches.iter().flat_map(|stored| stored.batch.records()) {
                let message = Message::from_record(&record?)?;
                let number = number_of(&message.payload, bytes_max);
                found.push(number.with_context(|| format!("{message:?}: wrong content"))?);
            }
        }
        all.push(found);
    }
    Ok(all)
}

fn sent_of(players: &[Player], number: u64) -> Option<Sent> {
    let client = usize::try_from(number / NUMBERS_EACH).ok()?;
    players.get(client)?.sent.get(&number).copied()
}

/// Those that share a subscription, and have no other.
pub(crate) fn members<'a>(
    players: impl Iterator<Item = &'a Player>,
) -> impl Iterator<Item = &'a Player> {
    players.filter(|player| player.who.filters.contains(&GROUP))
}

/// How often each message is in the log.
fn counts(records: &Records) -> BTreeMap<u64, usize> {
    let mut counts = BTreeMap::new();
    for number in records.iter().flatten() {
        *counts.entry(*number).or_default() += 1;
    }
    counts
}

/// What was acknowledged or delivered is there, and nothing that nobody sent.
pub(crate) fn after_cut(players: &[Player], records: &Records, examined: &mut Examined) {
    let counts = counts(records);
    look_at_log(players, records, &counts, examined);
    let sent = players.iter().flat_map(|player| &player.sent);
    let acknowledged = sent.filter(|(_, sent)| sent.acknowledged.is_some());
    if let Some((number, sent)) = acknowledged
        .into_iter()
        .find(|(n, _)| !counts.contains_key(n))
    {
        let what = format!("{number}, {sent:?}");
        examined.find("acknowledged message lost", what);
    }
    let delivered = players.iter().flat_map(|player| &player.delivered);
    if let Some(lost) = delivered
        .into_iter()
        .find(|d| !counts.contains_key(&d.number))
    {
        examined.find("delivered message lost", format!("{lost:?}"));
    }
}

/// Messages of QoS 2 are there once at most, and all in the order in which their clients sent them.
fn look_at_log(
    players: &[Player],
    records: &Records,
    counts: &BTreeMap<u64, usize>,
    examined: &mut Examined,
) {
    for (number, count) in counts {
        match sent_of(players, *number) {
            None => examined.find("message out of nowhere", format!("{number} in the log")),
            Some(sent) if sent.qos == 2 && *count > 1 => {
                let what = format!("{number} is {count} times in the log");
                examined.find("QoS 2 in: message twice", what);
            }
            Some(_) => {}
        }
    }
    for partition in records {
        // By client and QoS: a client sends again what is not acknowledged, of either QoS, in its order.
        let came = partition.iter().filter_map(|number| {
            let sent = sent_of(players, *number)?;
            Some(((number / NUMBERS_EACH, sent.qos, 0), *number))
        });
        if let Some(number) = first_out_of_order(came) {
            examined.find("log out of order", format!("{number} in {partition:?}"));
        }
    }
}

/// The first that comes for the first time, and after a later one of the same kind.
fn first_out_of_order(came: impl Iterator<Item = ((u64, u8, usize), u64)>) -> Option<u64> {
    let mut newest: BTreeMap<(u64, u8, usize), u64> = BTreeMap::new();
    let mut known = BTreeSet::new();
    for (kind, number) in came {
        if !known.insert(number) {
            continue;
        }
        let newest = newest.entry(kind).or_insert(number);
        if number < *newest {
            return Some(number);
        }
        *newest = number;
    }
    None
}

/// When everybody has come to the end.
pub(crate) fn at_the_end(players: &[Player], records: &Records, examined: &mut Examined) {
    let counts = counts(records);
    look_at_log(players, records, &counts, examined);
    for (number, sent) in players.iter().flat_map(|player| &player.sent) {
        if !counts.contains_key(number) {
            examined.find("published message lost", format!("{number}, {sent:?}"));
        }
    }
    for player in players
        .iter()
        .filter(|player| !player.who.filters.is_empty())
    {
        look_at_subscriber(players, player, &counts, examined);
    }
    look_at_group(players, examined);
}

/// Each message goes to one member.
fn look_at_group(players: &[Player], examined: &mut Examined) {
    for (number, sent) in players.iter().flat_map(|player| &player.sent) {
        let delivered = members(players.iter()).flat_map(|player| &player.delivered);
        let count = delivered.filter(|d| d.number == *number).count();
        let is_due = members(players.iter()).any(|player| was_granted(player, sent));
        let what = || format!("group: {number}, {sent:?}, {count} times");
        match count {
            0 if is_due => examined.find("message not delivered", what()),
            0 | 1 => {}
            _ => examined.find("QoS 2 out: message twice", what()),
        }
    }
}

fn look_at_subscriber(
    players: &[Player],
    player: &Player,
    counts: &BTreeMap<u64, usize>,
    examined: &mut Examined,
) {
    let name = player.kept.client_id();
    let mut delivered: BTreeMap<u64, usize> = BTreeMap::new();
    for message in &player.delivered {
        *delivered.entry(message.number).or_default() += 1;
        let sent = sent_of(players, message.number);
        let is_it = |sent: &Sent| {
            let qos = sent.qos.min(player.who.qos);
            sent.topic == message.topic && qos == message.qos && may_have(players, player, sent)
        };
        if !sent.as_ref().is_some_and(is_it) || !counts.contains_key(&message.number) {
            let what = format!("{name}: {message:?}, sent was {sent:?}");
            examined.find("message out of nowhere", what);
        }
    }
    for (number, sent) in players.iter().flat_map(|player| &player.sent) {
        let count = delivered.get(number).copied().unwrap_or(0);
        let what = || format!("{name}: {number}, {sent:?}, {count} times");
        if count == 0 && must_have(player, sent) {
            examined.find("message not delivered", what());
        }
        if count > 1 && sent.qos.min(player.who.qos) == 2 {
            examined.find("QoS 2 out: message twice", what());
        }
    }
    // What its publisher sent again is in the log again, behind what followed it; a subscription can
    // begin between the two.
    let once = player.delivered.iter();
    let once = once.filter(|message| counts.get(&message.number) == Some(&1));
    let came = once.map(|message| {
        let kind = (message.number / NUMBERS_EACH, message.qos, message.topic);
        (kind, message.number)
    });
    if let Some(number) = first_out_of_order(came) {
        let topic = sent_of(players, number).and_then(|sent| TOPICS.get(sent.topic));
        let what = format!("{name}: {number} of {topic:?}");
        examined.find("delivered out of order", what);
    }
}

/// It had SUBACK before the message was sent, and shares it with nobody.
fn must_have(player: &Player, sent: &Sent) -> bool {
    !player.who.filters.contains(&GROUP) && was_granted(player, sent)
}

/// It had SUBACK before the message was sent, and has not taken that subscription back since.
fn was_granted(player: &Player, sent: &Sent) -> bool {
    player.asked.iter().any(|asked| {
        let was_granted = asked.granted.is_some_and(|granted| granted < sent.at);
        matches(asked.filter, sent.topic) && was_granted && asked.unasked.is_none()
    })
}

/// It, or another member of the group, had asked for it before the message was acknowledged, and had not
/// been told that this was taken back before the message was sent.
fn may_have(players: &[Player], player: &Player, sent: &Sent) -> bool {
    let had_asked = |player: &Player| {
        player.asked.iter().any(|asked| {
            let was_over = sent.acknowledged.is_some_and(|at| at < asked.first);
            let is_over = asked.ended.is_some_and(|ended| ended < sent.at);
            matches(asked.filter, sent.topic) && !was_over && !is_over
        })
    };
    match player.who.filters.contains(&GROUP) {
        true => members(players.iter()).any(had_asked),
        false => had_asked(player),
    }
}

#[cfg(test)]
mod tests {
    use super::super::player::{Asked, Delivered};
    use super::super::who::ALL;
    use super::*;

    /// All clients; the first has published these messages of QoS 2, each acknowledged at once, and the
    /// subscriber of everything had subscribed before.
    fn players(numbers: &[u64]) -> Vec<Player> {
        let all = ALL.iter().enumerate();
        let mut players: Vec<_> = all.map(|(n, who)| Player::new(n, who, 300)).collect();
        for number in numbers {
            let at = 10 + 2 * usize::try_from(*number).unwrap();
            let sent = Sent {
                topic: 1,
                qos: 2,
                at,
                acknowledged: Some(at + 1),
            };
            players[0].sent.insert(*number, sent);
        }
        players[SUBSCRIBER].asked.push(Asked::granted(0, 5));
        players
    }

    /// It has the filter `#` and QoS 2.
    const SUBSCRIBER: usize = 3;

    fn deliver(players: &mut [Player], numbers: &[u64]) {
        let (topic, qos) = (1, 2);
        let delivered = numbers.iter().map(|number| Delivered {
            number: *number,
            topic,
            qos,
        });
        players[SUBSCRIBER].delivered.extend(delivered);
    }

    fn kinds(numbers: &[u64], log: &[u64], delivered: &[u64]) -> Vec<&'static str> {
        let mut players = players(numbers);
        deliver(&mut players, delivered);
        let mut examined = Examined::default();
        at_the_end(&players, &vec![log.to_vec()], &mut examined);
        examined.findings.iter().map(|found| found.kind).collect()
    }

    #[test]
    fn what_is_lost_twice_out_of_order_or_from_nowhere_is_found() {
        assert_eq!(kinds(&[0, 1], &[0, 1], &[0, 1]), [""; 0]);
        assert_eq!(
            kinds(&[0, 1], &[0], &[0, 1]),
            ["published message lost", "message out of nowhere"]
        );
        assert_eq!(
            kinds(&[0, 1], &[0, 1, 1], &[0, 1]),
            ["QoS 2 in: message twice"]
        );
        assert_eq!(kinds(&[0, 1], &[1, 0], &[0, 1]), ["log out of order"]);
        assert_eq!(kinds(&[0], &[0, 1], &[0]), ["message out of nowhere"]);
        assert_eq!(kinds(&[0, 1], &[0, 1], &[0]), ["message not delivered"]);
        assert_eq!(
            kinds(&[0, 1], &[0, 1], &[0, 1, 1]),
            ["QoS 2 out: message twice"]
        );
        assert_eq!(kinds(&[0, 1], &[0, 1], &[1, 0]), ["delivered out of order"]);
    }

    #[test]
    fn subscription_may_begin_between_a_message_and_its_resend() {
        let mut players = players(&[0, 1]);
        for sent in players[0].sent.values_mut() {
            (sent.qos, sent.acknowledged) = (1, None);
        }
        players[SUBSCRIBER].asked = vec![Asked::granted(0, 100)];
        deliver(&mut players, &[1, 0, 1]);
        for message in &mut players[SUBSCRIBER].delivered {
            message.qos = 1;
        }
        let mut examined = Examined::default();
        at_the_end(&players, &vec![vec![0, 1, 0, 1]], &mut examined);
        assert_eq!(examined.findings, []);
    }

    #[test]
    fn what_was_acknowledged_or_delivered_is_missed_after_the_cut() {
        let mut players = players(&[0, 1]);
        let mut examined = Examined::default();
        after_cut(&players, &vec![vec![0, 1]], &mut examined);
        assert_eq!(examined.findings, []);
        players[0].sent.get_mut(&1).unwrap().acknowledged = None;
        after_cut(&players, &vec![vec![0]], &mut examined);
        assert_eq!(examined.findings, []);
        deliver(&mut players, &[1]);
        after_cut(&players, &vec![vec![]], &mut examined);
        let kinds: Vec<_> = examined.findings.iter().map(|found| found.kind).collect();
        assert_eq!(
            kinds,
            ["acknowledged message lost", "delivered message lost"]
        );
    }
}
