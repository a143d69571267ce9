//! The stream's rules one by one, where the exhaustive search has no word for them.

use super::*;

fn producer() -> Producer {
    Producer {
        id: 7,
        epoch: 0,
        start: 100,
        remote_next: 1000,
    }
}

/// A stream after a restart, with records up to 200, connected.
fn restored(acknowledged: u64) -> Stream {
    let state = StreamState {
        acknowledged,
        producer: Some(producer()),
        ..StreamState::default()
    };
    let mut stream = Stream::restore(state);
    stream.handle_available(200);
    stream.handle_connected();
    stream
}

/// Goes through RESOLVE; the leader's last sequence number is `last`, its log ends at `end`.
fn resolve(stream: &mut Stream, last: Option<i32>, end: i64, all_in_sync: bool) {
    assert_eq!(stream.next_action(), Action::EpochEnd);
    stream.handle_epoch_end(end);
    assert_eq!(stream.next_action(), Action::Producers);
    stream.handle_producers(last);
    assert_eq!(stream.next_action(), Action::EpochEnd);
    stream.handle_epoch_end(end);
    assert_eq!(stream.next_action(), Action::HighWatermark);
    stream.handle_high_watermark(end - 1, all_in_sync);
    assert_eq!(
        stream.next_action(),
        Action::HighWatermark,
        "not all is committed"
    );
    stream.handle_high_watermark(end, all_in_sync);
}

/// A stream that streams from 100 on, the leader knowing it.
fn streaming() -> Stream {
    let mut stream = restored(100);
    resolve(&mut stream, Some(9), 1010, true);
    stream.handle_sent(120);
    stream.handle_acknowledged(Some(1010));
    assert_eq!(stream.acknowledged(), 120);
    stream
}

#[test]
fn first_batch_waits_for_a_durable_producer_id() {
    let mut stream = Stream::restore(StreamState {
        acknowledged: 5,
        ..StreamState::default()
    });
    assert_eq!(stream.next_action(), Action::Connect);
    stream.handle_connected();
    assert_eq!(
        stream.next_action(),
        Action::Idle,
        "no record, no producer id"
    );
    stream.handle_available(9);
    assert_eq!(stream.next_action(), Action::InitProducerId);
    stream.handle_producer_id(7, 2);
    assert_eq!(stream.next_action(), Action::HighWatermark);
    stream.handle_high_watermark(40, false);
    assert_eq!(stream.next_action(), Action::Persist);
    let producer = Producer {
        id: 7,
        epoch: 2,
        start: 5,
        remote_next: 40,
    };
    assert_eq!(stream.state_to_persist().producer, Some(producer));
    stream.handle_persisted();
    assert_eq!(stream.next_action(), Action::Send { from: 5, limit: 9 });
}

#[test]
fn one_batch_is_in_flight_until_the_leader_knows_us_then_five() {
    let mut stream = restored(100);
    resolve(&mut stream, Some(-1), 1000, true);
    assert_eq!(
        stream.next_action(),
        Action::LetOldRequestsDie,
        "a leader without a sequence"
    );
    let mut stream = restored(100);
    resolve(&mut stream, Some(9), 1010, true);
    assert_eq!(
        stream.next_action(),
        Action::Send {
            from: 110,
            limit: 200
        }
    );
    stream.handle_sent(120);
    assert_eq!(stream.next_action(), Action::Answer);
    stream.handle_acknowledged(Some(1010));
    for to in [130, 140, 150, 160, 170] {
        assert!(matches!(stream.next_action(), Action::Send { .. }));
        stream.handle_sent(to);
    }
    assert_eq!(
        (stream.next_action(), stream.in_flight.len()),
        (Action::Answer, 5)
    );
    stream.set_aged(true);
    for _ in 0..5 {
        assert_eq!(stream.next_action(), Action::Answer, "aged: one at a time");
        stream.handle_acknowledged(None);
    }
    assert_eq!(
        stream.next_action(),
        Action::LetOldRequestsDie,
        "aged: and nothing old about"
    );
}

#[test]
fn leader_that_forgot_us_is_read_back_after_old_requests_have_died() {
    let mut stream = restored(100);
    resolve(&mut stream, None, 1050, true);
    assert_eq!(stream.next_action(), Action::LetOldRequestsDie);
    stream.handle_old_requests_dead();
    resolve(&mut stream, None, 1060, true);
    assert_eq!(
        stream.next_action(),
        Action::Scan {
            from: 1000,
            to: 1060
        }
    );
    stream.handle_scanned(1030, Some(4));
    assert_eq!(
        stream.next_action(),
        Action::Scan {
            from: 1030,
            to: 1060
        }
    );
    stream.handle_scanned(1060, None);
    assert_eq!(stream.acknowledged(), 105);
    assert_eq!(
        stream.next_action(),
        Action::Send {
            from: 105,
            limit: 200
        }
    );
    assert_eq!(stream.state().producer.unwrap().remote_next, 1060);
}

#[test]
fn record_of_which_only_some_replicas_are_sure_is_not_acknowledged() {
    let mut stream = restored(100);
    stream.available = 110;
    resolve(&mut stream, Some(9), 1010, false);
    assert_eq!(stream.acknowledged(), 100);
    assert_eq!(
        stream.next_action(),
        Action::HighWatermark,
        "asked until all are in sync"
    );
    stream.handle_high_watermark(1010, false);
    assert_eq!(stream.acknowledged(), 100);
    stream.handle_high_watermark(1010, true);
    assert_eq!(
        (stream.acknowledged(), stream.next_action()),
        (110, Action::Idle)
    );

    let mut stream = restored(100);
    resolve(&mut stream, Some(9), 1010, false);
    stream.handle_sent(120);
    stream.handle_acknowledged(Some(1010));
    assert_eq!(
        stream.acknowledged(),
        120,
        "an answer for what follows stands for it too"
    );
}

#[test]
fn more_upstream_than_was_ever_here_halts() {
    let mut stream = restored(100);
    resolve(&mut stream, Some(100), 1101, true);
    assert_eq!(stream.next_action(), Action::Halt(Halt::Foreign));
    stream.handle_disconnected();
    stream.handle_connected();
    assert_eq!(
        stream.next_action(),
        Action::Halt(Halt::Foreign),
        "for good"
    );
}

#[test]
fn what_the_cluster_lost_is_sent_again() {
    let mut stream = restored(150);
    stream.state.replicated = 50;
    resolve(&mut stream, Some(29), 1030, true);
    assert_eq!(
        (stream.acknowledged(), stream.state().replicated),
        (130, 30)
    );
    assert_eq!(
        stream.next_action(),
        Action::Send {
            from: 130,
            limit: 200
        }
    );
}

#[test]
fn refused_batch_is_not_passed_by_those_behind_it() {
    let mut stream = streaming();
    for to in [130, 140, 150] {
        stream.handle_sent(to);
    }
    stream.handle_refused(Refusal::Definite);
    assert_eq!(stream.next_action(), Action::Answer);
    stream.handle_refused(Refusal::OutOfOrder);
    stream.handle_refused(Refusal::OutOfOrder);
    assert_eq!(stream.next_action(), Action::Pause);
    stream.handle_pause_over();
    resolve(&mut stream, Some(19), 1030, true);
    assert_eq!(
        stream.next_action(),
        Action::Send {
            from: 120,
            limit: 200
        }
    );
}

#[test]
fn acknowledgement_behind_a_refusal_halts() {
    let mut stream = streaming();
    stream.handle_old_requests_dead();
    stream.handle_sent(130);
    stream.handle_sent(140);
    stream.handle_refused(Refusal::Definite);
    stream.handle_acknowledged(Some(1030));
    assert_eq!(stream.next_action(), Action::Halt(Halt::Disorder));
    assert_eq!(stream.acknowledged(), 120);
}

#[test]
fn acknowledgement_behind_a_refusal_is_resolved_while_an_older_copy_may_have_filled_in() {
    let mut stream = streaming();
    stream.handle_sent(130);
    stream.handle_sent(140);
    // Too late for what is in flight: the copy may have arrived before it died.
    stream.handle_old_requests_dead();
    stream.handle_refused(Refusal::Definite);
    stream.handle_acknowledged(Some(1030));
    assert_eq!(stream.acknowledged(), 120);
    resolve(&mut stream, Some(39), 1040, true);
    assert_eq!(stream.acknowledged(), 140);
    assert!(matches!(
        stream.next_action(),
        Action::Send { from: 140, .. }
    ));
}

#[test]
fn nothing_is_sent_under_a_producer_id_that_is_to_be_given_up() {
    let mut stream = streaming();
    stream.handle_old_requests_dead();
    stream.handle_sent(130);
    stream.handle_refused(Refusal::ProducerInvalid);
    resolve(&mut stream, Some(29), 1030, false);
    assert_eq!(stream.acknowledged(), 120, "not all replicas are in sync");
    assert_eq!(stream.next_action(), Action::HighWatermark);
    stream.handle_high_watermark(1030, true);
    assert_eq!(stream.acknowledged(), 130);
    assert_eq!(stream.next_action(), Action::InitProducerId);
}

#[test]
fn doubtful_refusal_is_settled_by_the_answer_behind_it() {
    let mut stream = streaming();
    stream.handle_sent(130);
    stream.handle_sent(140);
    stream.handle_refused(Refusal::Doubtful);
    stream.handle_acknowledged(Some(1030));
    assert_eq!(stream.acknowledged(), 140);
    assert_eq!(stream.next_action(), Action::Connect);
}

#[test]
fn reshaped_batch_goes_from_the_same_offset() {
    let mut stream = streaming();
    stream.handle_sent(180);
    stream.handle_refused(Refusal::Reshape);
    resolve(&mut stream, Some(19), 1020, true);
    assert_eq!(
        stream.next_action(),
        Action::Send {
            from: 120,
            limit: 200
        }
    );
}

#[test]
fn producer_id_is_given_up_after_a_second_strike_and_when_nothing_old_is_about() {
    let mut stream = restored(100);
    for strike in 0..2 {
        resolve(&mut stream, Some(9), 1010, true);
        assert_eq!(
            stream.next_action(),
            Action::Send {
                from: 110,
                limit: 200
            },
            "strike {strike}"
        );
        stream.handle_sent(120);
        stream.handle_refused(Refusal::OutOfOrder);
    }
    assert_eq!(stream.next_action(), Action::LetOldRequestsDie);
    stream.handle_old_requests_dead();
    resolve(&mut stream, Some(9), 1010, true);
    assert_eq!(stream.next_action(), Action::InitProducerId);
    stream.handle_producer_id(8, 0);
    stream.handle_high_watermark(1010, true);
    stream.handle_persisted();
    let producer = Producer {
        id: 8,
        epoch: 0,
        start: 110,
        remote_next: 1010,
    };
    assert_eq!(stream.state().producer, Some(producer));
}

#[test]
fn fenced_producer_id_is_given_up() {
    let mut stream = streaming();
    stream.handle_old_requests_dead();
    stream.handle_sent(130);
    stream.handle_refused(Refusal::ProducerInvalid);
    resolve(&mut stream, Some(19), 1020, true);
    assert_eq!(stream.next_action(), Action::InitProducerId);
}

#[test]
fn producer_id_ends_before_its_numbers_wrap() {
    let end = 100 + ORDINALS_MAX;
    let mut stream = restored(end - 10);
    stream.handle_old_requests_dead();
    stream.handle_available(end + 50);
    resolve(
        &mut stream,
        Some(i32::try_from(ORDINALS_MAX).unwrap() - 11),
        5000,
        true,
    );
    assert_eq!(
        stream.next_action(),
        Action::Send {
            from: end - 10,
            limit: end
        }
    );
    stream.handle_sent(end);
    stream.handle_acknowledged(Some(5000));
    assert_eq!(stream.next_action(), Action::InitProducerId);
}

#[test]
fn barrier_is_passed_when_everything_before_it_is_safe() {
    let mut stream = streaming();
    stream.handle_sent(130);
    stream.handle_barrier(140, 180, 40);
    assert_eq!(
        stream.next_action(),
        Action::Send {
            from: 130,
            limit: 140
        }
    );
    stream.handle_sent(140);
    assert_eq!(stream.next_action(), Action::Answer);
    stream.handle_acknowledged(None);
    stream.handle_acknowledged(None);
    assert_eq!(stream.next_action(), Action::LetOldRequestsDie);
    stream.handle_old_requests_dead();
    resolve_if_asked(&mut stream);
    assert_eq!(stream.next_action(), Action::Persist);
    let state = stream.state_to_persist();
    assert_eq!(
        (state.acknowledged, state.producer, state.lost),
        (180, None, 40)
    );
    stream.handle_persisted();
    assert_eq!(
        (stream.acknowledged(), stream.next_action()),
        (180, Action::InitProducerId)
    );
}

fn resolve_if_asked(stream: &mut Stream) {
    if stream.next_action() == Action::EpochEnd {
        resolve(stream, Some(39), 1040, true);
    }
}

#[test]
fn new_topic_begins_with_what_is_not_acknowledged() {
    let mut stream = streaming();
    stream.handle_sent(130);
    stream.handle_topic_replaced(2);
    stream.handle_connected();
    assert_eq!(
        stream.next_action(),
        Action::LetOldRequestsDie,
        "by name they may reach the new one"
    );
    stream.handle_old_requests_dead();
    assert_eq!(stream.next_action(), Action::InitProducerId);
    assert_eq!(
        (stream.acknowledged(), stream.state().mapping_version),
        (120, 2)
    );
}

#[test]
fn refused_question_is_asked_again_after_a_pause() {
    let mut stream = restored(100);
    stream.handle_epoch_end(1000);
    stream.handle_request_refused();
    assert_eq!(stream.next_action(), Action::Pause);
    stream.handle_pause_over();
    assert_eq!(stream.next_action(), Action::EpochEnd);
}

#[test]
fn what_is_in_doubt_is_counted() {
    let mut stream = streaming();
    stream.handle_sent(130);
    stream.handle_disconnected();
    assert_eq!(stream.records_in_doubt(), 10);
    stream.handle_connected();
    resolve(&mut stream, Some(24), 1025, true);
    assert_eq!((stream.records_in_doubt(), stream.acknowledged()), (0, 125));
}
