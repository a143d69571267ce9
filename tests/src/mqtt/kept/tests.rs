//! A server that does it right is followed; each thing that one can do wrong is told.

use super::{Event, Kept, Loss};
use crate::mqtt::packet::{Packet, Properties, Publish, Version, lengths};

fn connack(session_present: bool) -> Packet {
    Packet::Connack {
        code: 0,
        session_present,
        properties: Properties::default(),
    }
}

fn message(packet_id: u16, payload: &str, qos: u8, dup: bool) -> Packet {
    Packet::Publish(Publish {
        packet_id: Some(packet_id),
        exactly_once: qos == 2,
        dup,
        ..Publish::new("a", payload)
    })
}

/// A client that was let in.
fn there() -> Kept {
    let mut kept = Kept::new(Version::V5, "c", 3, 10);
    kept.connect(false);
    kept.handle(connack(false)).unwrap();
    kept.output().clear();
    kept
}

/// What is to be sent, as packets.
fn sent(kept: &mut Kept) -> Vec<Packet> {
    let bytes = std::mem::take(kept.output());
    let (mut rest, mut packets) = (bytes.as_slice(), Vec::new());
    while let Some((header, body)) = lengths(rest).unwrap() {
        let packet = Packet::decode(rest[0], &rest[header..header + body], Version::V5);
        packets.push(packet.unwrap());
        rest = &rest[header + body..];
    }
    packets
}

/// The connection is lost, and there is another one.
fn again(kept: &mut Kept, loss: Loss) -> Vec<Packet> {
    kept.lost(loss);
    kept.connect(false);
    kept.output().clear();
    kept.handle(connack(true)).unwrap();
    sent(kept)
}

fn error(kept: &mut Kept, packet: Packet) -> String {
    format!("{:#}", kept.handle(packet).unwrap_err())
}

fn is_message(event: Option<Event>, repeated: bool) -> bool {
    matches!(event, Some(Event::Message { is_repeated, .. }) if is_repeated == repeated)
}

#[test]
fn message_of_qos_2_is_answered_to_the_end_and_comes_once() {
    let mut kept = there();
    assert!(is_message(
        kept.handle(message(5, "x", 2, false)).unwrap(),
        false
    ));
    let pubrec = Packet::Pubrec {
        packet_id: 5,
        code: 0,
    };
    assert_eq!(sent(&mut kept), std::slice::from_ref(&pubrec));
    assert_eq!(again(&mut kept, Loss::OfServer), []);
    assert_eq!(kept.handle(message(5, "x", 2, true)).unwrap(), None);
    assert_eq!(sent(&mut kept), [pubrec]);
    let pubrel = Packet::Pubrel {
        packet_id: 5,
        code: 0,
    };
    assert!(kept.check_finished().is_err());
    assert_eq!(kept.handle(pubrel.clone()).unwrap(), None);
    let pubcomp = Packet::Pubcomp {
        packet_id: 5,
        code: 0,
    };
    assert_eq!(sent(&mut kept), std::slice::from_ref(&pubcomp));
    kept.check_finished().unwrap();
    // The server may not have got it.
    again(&mut kept, Loss::OfConnection);
    kept.handle(pubrel.clone()).unwrap();
    assert_eq!(sent(&mut kept), [pubcomp]);
    assert!(error(&mut kept, pubrel).contains("twice"));
    let end = error(&mut kept, message(5, "x", 2, true));
    assert!(end.contains("DUP"), "{end}");
    again(&mut kept, Loss::OfConnection);
    let end = error(&mut kept, message(5, "x", 2, true));
    assert!(end.contains("after its PUBREL"), "{end}");
}

#[test]
fn own_messages_are_sent_again_with_dup_in_order_and_released_ones_with_pubrel() {
    let mut kept = there();
    for (tag, qos) in [(10, 1), (11, 2), (12, 2), (13, 1)] {
        kept.publish("t", b"p", qos, tag).unwrap();
    }
    kept.handle(Packet::Pubrec {
        packet_id: 2,
        code: 0,
    })
    .unwrap();
    let resent = again(&mut kept, Loss::OfServer);
    let summary = resent.iter().map(|packet| match packet {
        Packet::Publish(publish) => (publish.packet_id.unwrap(), publish.qos(), publish.dup),
        Packet::Pubrel { packet_id, .. } => (*packet_id, 9, false),
        other => panic!("{other:?}"),
    });
    assert_eq!(
        summary.collect::<Vec<_>>(),
        [(1, 1, true), (2, 9, false), (3, 2, true), (4, 1, true)]
    );
    let puback = |packet_id| Packet::Puback { packet_id, code: 0 };
    assert!(error(&mut kept, puback(4)).contains("in the place of Some(1)"));
    assert_eq!(
        kept.handle(puback(1)).unwrap(),
        Some(Event::Published { tag: 10 })
    );
    let pubcomp = |packet_id| Packet::Pubcomp { packet_id, code: 0 };
    assert!(error(&mut kept, pubcomp(3)).contains("in the place of Some(2)"));
    assert_eq!(
        kept.handle(pubcomp(2)).unwrap(),
        Some(Event::Published { tag: 11 })
    );
    assert_eq!(kept.on_their_way().collect::<Vec<_>>(), [12, 13]);
}

#[test]
fn session_present_is_held_against_what_the_client_knows() {
    let mut kept = Kept::new(Version::V311, "c", 3, 10);
    kept.connect(false);
    assert!(error(&mut kept, connack(true)).contains("Session Present is true"));
    let mut kept = there();
    kept.lost(Loss::OfConnection);
    kept.connect(false);
    assert!(error(&mut kept, connack(false)).contains("Session Present is false"));
    // Nothing was acknowledged: a server that is killed may have forgotten it.
    let mut kept = there();
    kept.lost(Loss::OfServer);
    kept.connect(false);
    kept.handle(connack(false)).unwrap();
    kept.lost(Loss::OfConnection);
    kept.connect(true);
    assert!(error(&mut kept, connack(true)).contains("clean start: true"));
}

#[test]
fn unanswered_messages_must_come_again_as_they_were_before_new_ones() {
    for qos in [1, 2] {
        let broken = |packet: Packet| {
            let mut kept = there();
            kept.answer_at_once(false);
            for (id, payload) in [(1, "x"), (2, "y")] {
                kept.handle(message(id, payload, qos, false)).unwrap();
            }
            again(&mut kept, Loss::OfConnection);
            error(&mut kept, packet)
        };
        let told = broken(message(3, "z", qos, false));
        assert!(told.contains("comes before"), "{told}");
        let told = broken(message(2, "y", qos, true));
        assert!(told.contains("comes again before Some(1)"), "{told}");
        let told = broken(message(1, "x", qos, false));
        assert!(told.contains("DUP: false, same content: true"), "{told}");
        let told = broken(message(1, "other", qos, true));
        assert!(told.contains("same content: false"), "{told}");
    }
}

#[test]
fn resends_of_what_was_never_seen_come_between_what_was_and_what_is_new() {
    let mut kept = there();
    kept.answer_at_once(false);
    kept.handle(message(1, "x", 1, false)).unwrap();
    again(&mut kept, Loss::OfConnection);
    assert!(is_message(
        kept.handle(message(1, "x", 1, true)).unwrap(),
        true
    ));
    assert!(is_message(
        kept.handle(message(2, "y", 1, true)).unwrap(),
        false
    ));
    assert_eq!(kept.answer(1), 1);
    kept.handle(message(3, "z", 1, false)).unwrap();
    let told = error(&mut kept, message(4, "u", 1, true));
    assert!(told.contains("for the first time, and with DUP"), "{told}");
}

#[test]
fn identifier_in_use_and_more_than_receive_maximum_are_told() {
    let mut kept = there();
    kept.answer_at_once(false);
    for id in 1..=3 {
        kept.handle(message(id, "x", 1, false)).unwrap();
    }
    let told = error(&mut kept, message(4, "x", 1, false));
    assert!(
        told.contains("4 messages, and Receive Maximum is 3"),
        "{told}"
    );
    let mut kept = there();
    kept.answer_at_once(false);
    kept.handle(message(1, "x", 1, false)).unwrap();
    let told = error(&mut kept, message(1, "y", 1, false));
    assert!(told.contains("used again while in use"), "{told}");
    // Answered: it may be used again at once, and without DUP.
    let mut kept = there();
    kept.handle(message(1, "x", 1, false)).unwrap();
    kept.handle(message(1, "y", 1, false)).unwrap();
    let pubrel = Packet::Pubrel {
        packet_id: 1,
        code: 0,
    };
    assert!(error(&mut kept, pubrel).contains("for nothing"));
}

#[test]
fn low_identifier_comes_again_when_its_message_is_over() {
    let mut kept = there();
    kept.use_low_ids();
    let ids = |packets: &[Packet]| -> Vec<_> {
        let id = |packet: &Packet| match packet {
            Packet::Publish(publish) => publish.packet_id,
            _ => None,
        };
        packets.iter().filter_map(id).collect()
    };
    for tag in [70, 71] {
        kept.publish("a", b"x", 2, tag).unwrap();
    }
    assert_eq!(ids(&sent(&mut kept)), [1, 2]);
    let (packet_id, code) = (1, 0);
    kept.handle(Packet::Pubrec { packet_id, code }).unwrap();
    assert_eq!(kept.taken().collect::<Vec<_>>(), [70]);
    kept.publish("a", b"x", 2, 72).unwrap();
    kept.handle(Packet::Pubcomp { packet_id, code }).unwrap();
    assert_eq!(kept.taken().count(), 0);
    kept.publish("a", b"x", 2, 73).unwrap();
    assert_eq!(ids(&sent(&mut kept)), [3, 1]);
}

#[test]
fn server_that_ends_may_say_so_and_nothing_else() {
    let mut kept = there();
    let ends = Packet::Disconnect { code: 0x8b };
    assert_eq!(kept.handle(ends).unwrap(), None);
    let error = error(&mut kept, Packet::Disconnect { code: 0x82 });
    assert!(error.contains("Disconnect"), "{error}");
}
