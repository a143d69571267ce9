//! Pipelining: order, bounds, what dropping does.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use kafka::{CallError, Connection, ConnectionOptions, Lost};

use crate::batch::batch_at;
use crate::setup::{TOPIC, appended, begun, ended, model};

const TIMEOUT: Duration = Duration::from_secs(30);

/// Batches with no timestamp, so that the model's clock does not matter.
fn batch(sequence: i32) -> bytes::Bytes {
    batch_at(7, 0, sequence, 1, -1)
}

#[tokio::test]
async fn requests_are_carried_out_in_the_order_in_which_they_were_begun() {
    let (model, connection) = model().await;
    let mut pending = Vec::new();
    for sequence in 0..10 {
        pending.push(begun(&connection, batch(sequence), TIMEOUT).await);
    }
    // Awaited the other way round.
    for (sequence, pending) in pending.into_iter().enumerate().rev() {
        let response = pending.await.unwrap();
        let produced = response
            .partition(TOPIC, 0)
            .unwrap()
            .result
            .clone()
            .unwrap();
        assert_eq!(produced.base_offset, sequence as i64);
    }
    assert_eq!(model.counters().batches_appended, 10);
}

#[tokio::test]
async fn request_waits_for_its_place_when_too_many_are_in_flight() {
    let (model, _) = model().await;
    let options = ConnectionOptions {
        inflight_max: 2,
        ..ConnectionOptions::default()
    };
    let connection = Connection::connect(&model.address(), options)
        .await
        .unwrap();
    model.stall();
    let first = begun(&connection, batch(0), TIMEOUT).await;
    let second = begun(&connection, batch(1), TIMEOUT).await;
    let mut third = pin!(begun(&connection, batch(2), TIMEOUT));
    let mut context = Context::from_waker(Waker::noop());
    assert!(
        third.as_mut().poll(&mut context).is_pending(),
        "no place is free"
    );
    model.resume();
    first.await.unwrap();
    let third = third.await;
    second.await.unwrap();
    third.await.unwrap();
    assert_eq!(model.records(TOPIC, 0).len(), 3);
}

#[tokio::test]
async fn dropped_pending_leaves_the_order_as_it_was() {
    let (_model, connection) = model().await;
    drop(begun(&connection, batch(0), TIMEOUT).await);
    assert_eq!(
        appended(&connection, batch(1)).await,
        1,
        "the first one was appended as well"
    );
}

#[tokio::test]
async fn dropping_the_connection_ends_what_is_in_flight() {
    let (model, connection) = model().await;
    model.stall();
    let pending = begun(&connection, batch(0), TIMEOUT).await;
    drop(connection);
    let error = pending.await.unwrap_err();
    assert!(error.is_in_doubt());
    assert!(
        matches!(
            error,
            CallError::Lost {
                source: Lost::Dropped,
                ..
            }
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn requests_fail_at_once_when_the_connection_has_ended() {
    let (model, connection) = model().await;
    model.stop().await;
    let lost = ended(&connection).await;
    assert!(
        matches!(lost, Lost::Io { .. } | Lost::ClosedByBroker),
        "{lost:?}"
    );
    assert!(connection.lost().is_some());
    let error = connection.init_producer_id().await.unwrap_err();
    assert!(
        matches!(error, CallError::Lost { sent: false, .. }),
        "{error:?}"
    );
    assert!(!error.is_in_doubt());
    let text = error.to_string();
    assert!(
        text.contains("InitProducerId") && text.contains(&model.address()),
        "{text}"
    );
}

#[tokio::test]
async fn pending_is_ready_only_with_its_answer() {
    let (model, connection) = model().await;
    model.stall();
    let mut pending = begun(&connection, batch(0), TIMEOUT).await;
    let mut context = Context::from_waker(Waker::noop());
    assert!(matches!(
        pin!(&mut pending).poll(&mut context),
        Poll::Pending
    ));
    model.resume();
    pending.await.unwrap();
}
