//! The model against Apache Kafka: the same seeded sequence of requests goes to both, and every
//! answer is compared. `TIDEGATE_TEST_SEED` repeats one sequence; `TIDEGATE_TEST_KAFKA`, the
//! `host:port` of another broker with default settings, takes the place of the tests' own (3.9 and
//! 4.x were tried).
//!
//! The producer ids are made up: to a broker, an id that it has not seen is as good as one that it
//! gave out.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "allowed in tests; the lints do not see that functions shared by tests are tests"
)]

mod operation;
mod pair;

use operation::{Operation, Plan};
use pair::Pair;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tests::{kafka, skip};

const OPERATIONS: usize = 1500;

fn seeds() -> Vec<u64> {
    match std::env::var("TIDEGATE_TEST_SEED") {
        Ok(seed) => vec![seed.parse().expect("TIDEGATE_TEST_SEED is a number")],
        Err(_) => vec![1, 2, 3],
    }
}

#[tokio::test]
async fn model_answers_as_apache_kafka_does() {
    let own;
    let broker = match std::env::var("TIDEGATE_TEST_KAFKA") {
        Ok(broker) => broker,
        Err(_) => {
            let Some(_) = skip::unless(kafka::available()) else {
                return;
            };
            own = start_kafka();
            own.bootstrap().to_string()
        }
    };
    for seed in seeds() {
        for log_append_time in [false, true] {
            let differences = compare(&broker, seed, log_append_time).await;
            assert!(
                differences.is_empty(),
                "seed {seed}, log append time {log_append_time}: {} answers differ:\n{}",
                differences.len(),
                differences.join("\n")
            );
        }
    }
}

/// With Kafka's default for when producers are forgotten, which no other test can wait for.
fn start_kafka() -> kafka::Kafka {
    let check_ms = ("producer.id.expiration.check.interval.ms", "600000");
    let options = kafka::Options {
        properties: vec![(check_ms.0.into(), check_ms.1.into())],
        ..kafka::Options::default()
    };
    kafka::Kafka::start(options).unwrap()
}

async fn compare(broker: &str, seed: u64, log_append_time: bool) -> Vec<String> {
    let mut pair = Pair::start(broker, seed, log_append_time).await;
    let mut random = StdRng::seed_from_u64(seed);
    let mut plan = Plan::new(pair.now_ms());
    let mut differences = Vec::new();
    for step in 0..OPERATIONS {
        let operation = plan.next(&mut random);
        let [model, kafka] = pair.run(&operation).await;
        if let Operation::Produce(produce) = &operation {
            plan.learn(produce, &kafka);
        }
        if model != kafka {
            differences.push(format!(
                "{step}: {operation:?}\n  model {model}\n  kafka {kafka}"
            ));
            if differences.len() == 10 {
                break;
            }
        }
    }
    pair.finish(&mut differences).await;
    differences
}
