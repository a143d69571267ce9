//! What counts for the main cursor, what for replays, and what is remembered of deliveries of QoS 2.

use mqtt::server::InflightEntry;
use storage::{LogId, LogPartition, Offset, PartitionId};

use super::*;
use crate::budget::Budget;
use crate::replays::ReplayAt;

fn waiting() -> Waiting {
    Waiting::alone(10_000)
}

fn item(payload_bytes: usize, commit: u64) -> Item {
    let message = Message {
        topic: "a".parse().unwrap(),
        payload: vec![0; payload_bytes].into(),
        qos: QoS::AtLeastOnce,
        retain: false,
        properties: mqtt::MessageProperties::default(),
    };
    Item {
        message: Arc::new(message),
        expires_at: None,
        qos: QoS::AtLeastOnce,
        retain: false,
        identifiers: Box::new([]),
        place: Some(place(commit)),
        again: None,
        replay: None,
        group: None,
    }
}

fn place(commit: u64) -> Place {
    Place {
        commit: CommitNumber(commit),
        partition: LogPartition {
            log: LogId(1),
            partition: PartitionId(0),
        },
        offset: Offset(commit),
    }
}

fn in_flight(packet_id: u16, state: InflightState, commit: u64) -> InFlight {
    InFlight {
        packet_id: PacketId::new(packet_id).unwrap(),
        state,
        place: Some(place(commit)),
        replay: None,
        group: None,
    }
}

/// A message of QoS 1 is in flight, those of QoS 2 behind it are over, and the broker crashes
/// twice: the second time it is only known that nothing is done behind the first message.
#[test]
fn deliveries_of_qos_2_that_were_over_before_a_restart_are_known_after_another_crash() {
    let sent = vec![in_flight(1, InflightState::AwaitsPuback, 5)];
    let outbound = Outbound::restored(
        place(9),
        sent,
        Place::beginning_of(CommitNumber(0)),
        waiting(),
    );
    let position = outbound.position(CommitNumber(20));
    assert_eq!(position, place(5));
    assert!(!outbound.needs_no_bindings(position));
    assert_eq!(outbound.bindings().0, place(9));
    let crashed = Outbound::restored(position, Vec::new(), outbound.bindings().0, waiting());
    let mut crashed = crashed;
    crashed.attach(CommitNumber(20));
    crashed.begin_scan();
    assert!(crashed.wants(place(5), QoS::AtLeastOnce));
    assert!(!crashed.wants(place(6), QoS::ExactlyOnce));
    assert!(crashed.wants(place(9), QoS::ExactlyOnce));
}

/// The subscription that gave QoS 2 is gone, another one with QoS 1 matches.
#[test]
fn delivery_of_qos_2_that_ended_does_not_begin_again_with_qos_1() {
    let bound = vec![in_flight(1, InflightState::AwaitsPubcomp, 7)];
    let mut outbound = Outbound::restored(place(5), bound, place(8), waiting());
    outbound.attach(CommitNumber(20));
    assert!(outbound.acknowledged(PacketId::MIN));
    outbound.begin_scan();
    assert!(outbound.wants(place(6), QoS::AtLeastOnce));
    assert!(!outbound.wants(place(7), QoS::AtLeastOnce));
    outbound.end_scan(place(8));
    assert_eq!(*outbound.over, []);
}

fn item_of(commit: u64, qos: QoS, replay: Option<ReplayNumber>) -> Item {
    Item {
        message: Arc::new(Message {
            topic: "a".parse().unwrap(),
            payload: bytes::Bytes::new(),
            qos,
            retain: false,
            properties: mqtt::MessageProperties::default(),
        }),
        expires_at: None,
        qos,
        retain: false,
        identifiers: Box::new([]),
        place: Some(place(commit)),
        again: None,
        replay,
        group: None,
    }
}

/// What a replay has sent, bound and read says nothing of the main cursor, nor of its messages.
#[test]
fn deliveries_of_replays_do_not_count_for_the_main_cursor() {
    let mut outbound = Outbound::new(CommitNumber(9), waiting());
    let beginning = ReplayAt::Place(place(1));
    let options = mqtt::SubscriptionOptions::default();
    let at = (beginning, place(9));
    outbound
        .replays
        .begin("a".parse().unwrap(), options, None, at);
    outbound.sent(PacketId::MIN, &item_of(1, QoS::AtLeastOnce, Some(0)));
    let second = PacketId::new(2).unwrap();
    outbound.bind(second, item_of(2, QoS::ExactlyOnce, Some(0)), None);
    assert!(
        outbound
            .replays
            .offer(0, item_of(3, QoS::AtLeastOnce, None), place(3))
    );
    let live = Place::beginning_of(CommitNumber(10));
    assert_eq!(outbound.position(CommitNumber(9)), live);
    let before = Place::beginning_of(CommitNumber(0));
    assert_eq!(outbound.bindings().0, before);
    let positions = outbound.replays.positions(&outbound.replayed_qos1());
    assert_eq!(positions[0].at, beginning);
    // A crash takes the main cursor back: what it reads then is its own.
    outbound.read_up_to(CommitNumber(0), CommitNumber(9));
    outbound.next = place(1);
    outbound.begin_scan();
    assert!(outbound.wants(place(1), QoS::AtLeastOnce));
    assert!(outbound.wants(place(2), QoS::ExactlyOnce));
    assert!(outbound.acknowledged(second));
    assert_eq!(*outbound.over, []);
    outbound.fall_behind(place(5));
    assert_eq!(outbound.mailbox_messages(), 2);
    let left = [InflightEntry {
        packet_id: PacketId::MIN,
        state: InflightState::AwaitsPuback,
    }];
    outbound.detach(CommitNumber(9), &left);
    assert_eq!(outbound.in_flight[0].replay, Some(0));
    let behind = ReplayAt::Place(place(3));
    assert_eq!(outbound.replays.get(0).unwrap().at, behind);
}

#[test]
fn mailbox_and_replays_are_served_in_turn() {
    let mut outbound = Outbound::new(CommitNumber(0), waiting());
    let options = mqtt::SubscriptionOptions::default();
    let at = (ReplayAt::Place(place(1)), place(9));
    outbound
        .replays
        .begin("a".parse().unwrap(), options, None, at);
    for commit in 1..5 {
        let item = item_of(commit, QoS::AtLeastOnce, None);
        assert!(outbound.replays.offer(0, item.clone(), place(commit)));
        assert_eq!(outbound.offer_live(item), Offered::Taken);
    }
    let mut of_replay = Vec::new();
    while let Some(item) = outbound.pop() {
        of_replay.push(item.replay.is_some());
    }
    let in_turn = [false, true, false, true, false, true, false, true];
    assert_eq!(of_replay, in_turn);
}

/// Both are found at one place.
#[test]
fn what_a_replay_and_the_main_cursor_sent_is_sent_again_by_both() {
    let sent = [(7, None), (3, Some(0))].map(|(id, replay)| InFlight {
        replay,
        ..in_flight(id, InflightState::AwaitsPuback, 4)
    });
    let before = Place::beginning_of(CommitNumber(0));
    let mut outbound = Outbound::restored(place(5), sent.to_vec(), before, waiting());
    outbound.attach(CommitNumber(9));
    assert!(!outbound.may_replay());
    let left = outbound
        .left()
        .into_iter()
        .map(|entry| entry.packet_id.get());
    assert_eq!(left.collect::<Vec<_>>(), [3, 7]);
    outbound.begin_scan();
    for id in [3, 7] {
        assert!(outbound.wants_again(place(4)));
        outbound.offer_read(item_of(4, QoS::AtLeastOnce, None), place(4));
        let again = outbound.resends.back().and_then(|item| item.again);
        assert_eq!(again, PacketId::new(id));
    }
    assert!(!outbound.wants_again(place(4)));
    assert_eq!(outbound.end_scan(place(9)), []);
}

#[test]
fn what_a_group_has_handed_out_is_nothing_to_the_own_place() {
    let group = Some(GroupId(1));
    let mut outbound = Outbound::new(CommitNumber(0), waiting());
    for (id, qos) in [(3, QoS::AtLeastOnce), (5, QoS::ExactlyOnce)] {
        let item = item_of(4, qos, None);
        outbound.sent(PacketId::new(id).unwrap(), &Item { group, ..item });
    }
    let behind = Place::beginning_of(CommitNumber(9));
    assert_eq!(outbound.position(CommitNumber(8)), behind);
    outbound.attach(CommitNumber(9));
    outbound.again.clear();
    outbound.begin_scan();
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        assert!(outbound.wants(place(4), qos));
    }
    // Of QoS 1 it goes back, of QoS 2 it stays.
    let left = |id, state| InflightEntry {
        packet_id: PacketId::new(id).unwrap(),
        state,
    };
    let mut all = vec![
        left(3, InflightState::AwaitsPuback),
        left(5, InflightState::AwaitsPubrec),
    ];
    let given_back = outbound.give_back(&mut all);
    assert_eq!(given_back, [(GroupId(1), place(4))]);
    assert_eq!(all, [left(5, InflightState::AwaitsPubrec)]);
    outbound.acknowledged(PacketId::new(5).unwrap());
    assert_eq!(*outbound.over, []);
}

/// Otherwise the same part of the log would be read again and again, until the client takes
/// something.
#[test]
fn nothing_is_read_while_a_large_message_waits_for_room() {
    let mut outbound = Outbound::new(CommitNumber(0), waiting());
    outbound.attach(CommitNumber(9));
    assert_eq!(outbound.reads_from(), Some(CommitNumber(1)));
    outbound.begin_scan();
    outbound.offer_read(item(1_000, 1), place(1));
    outbound.offer_read(item(9_000, 2), place(2));
    assert_eq!(outbound.reads_from(), None);
    outbound.pop().unwrap();
    assert_eq!(outbound.reads_from(), Some(CommitNumber(2)));
}

/// What is let go is read again, and nothing of it is missing or comes twice.
#[test]
fn mailbox_that_is_let_go_keeps_its_first_message_and_is_read_again_from_the_second() {
    let mut outbound = Outbound::new(CommitNumber(0), waiting());
    for commit in 1..=5 {
        assert_eq!(outbound.offer_live(item(10, commit)), Offered::Taken);
    }
    assert!(outbound.let_go());
    assert!(outbound.is_behind());
    assert_eq!(outbound.mailbox_bytes(), item(10, 1).size_bytes());
    assert_eq!(outbound.reads_from(), None, "its client takes nothing");
    assert!(!outbound.let_go(), "there is nothing more");
    assert_eq!(outbound.pop().unwrap().place, Some(place(1)));
    assert_eq!(outbound.reads_from(), Some(CommitNumber(2)));
    outbound.begin_scan();
    for commit in 1..=5 {
        if outbound.wants(place(commit), QoS::AtLeastOnce) {
            outbound.offer_read(item(10, commit), place(commit));
        }
    }
    let places: Vec<_> = std::iter::from_fn(|| outbound.pop()?.place).collect();
    assert_eq!(places, [2, 3, 4, 5].map(place));
}

/// It can be read from nowhere.
#[test]
fn message_in_no_log_is_not_let_go() {
    let mut outbound = Outbound::new(CommitNumber(0), waiting());
    let in_no_log = Item {
        place: None,
        ..item(10, 1)
    };
    for _ in 0..3 {
        assert_eq!(outbound.offer_live(in_no_log.clone()), Offered::Taken);
    }
    assert!(!outbound.let_go());
    outbound.offer_live(item(10, 1));
    assert!(outbound.let_go());
    assert_eq!(outbound.mailbox_messages(), 3);
    assert!(outbound.is_behind());
}

#[test]
fn what_a_replay_has_read_is_let_go_but_for_its_first_message() {
    let all = Budget::new(1_600_000);
    let mut replays = Replays::new(&Waiting::new(&all, 1 << 20));
    let at = (ReplayAt::Place(place(1)), place(9));
    let options = mqtt::SubscriptionOptions::default();
    replays.begin("a".parse().unwrap(), options, None, at);
    for commit in 1..=3 {
        assert!(replays.offer(0, item(5_000, commit), place(commit)));
    }
    assert!(!replays.let_go_of_excess(), "there is room for all");
    let mut others = all.share();
    others.set(1_600_000);
    assert!(replays.let_go_of_excess());
    assert_eq!(replays.waiting_messages(), 1);
    assert!(!replays.has_room(), "its client takes nothing");
    assert_eq!(replays.pop(false).unwrap().place, Some(place(1)));
    assert!(replays.has_room());
    assert_eq!(replays.get(0).unwrap().at, ReplayAt::Place(place(2)));
}

/// Nothing leaves the mailbox before what is sent again.
#[test]
fn what_is_to_be_sent_again_is_read_also_when_the_mailbox_is_full() {
    let beginning = Place::beginning_of(CommitNumber(0));
    let sent = [1, 2].map(|id| in_flight(id, InflightState::AwaitsPuback, id.into()));
    let mut outbound = Outbound::restored(place(1), sent.to_vec(), beginning, waiting());
    assert_eq!(outbound.attach(CommitNumber(9)), []);
    let in_no_log = Item {
        place: None,
        ..item(9_500, 1)
    };
    assert_eq!(outbound.offer_live(in_no_log), Offered::Taken);
    for commit in [1, 2] {
        assert_eq!(outbound.reads_from(), Some(CommitNumber(commit)));
        outbound.begin_scan();
        for commit in [1, 2] {
            if outbound.wants_again(place(commit)) {
                outbound.offer_read(item(1_000, commit), place(commit));
            }
        }
        let again = outbound.pop().unwrap();
        assert_eq!(
            (again.place, again.again.is_some()),
            (Some(place(commit)), true)
        );
    }
    assert!(outbound.may_replay(), "all is sent again");
}
