//! The model of a Kafka broker for tests that are not asynchronous.

use std::sync::mpsc;
use std::thread;

use kafka::model::{ModelHandle, ModelOptions};

/// A model of a broker with topics of one partition.
pub(crate) fn model(topics: &[&str]) -> ModelHandle {
    let (sender, receiver) = mpsc::sync_channel(1);
    // The thread ends with the test process.
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let model = ModelHandle::start(ModelOptions::default()).await.unwrap();
            sender.send(model).unwrap();
            std::future::pending::<()>().await;
        });
    });
    let model = receiver.recv().unwrap();
    for topic in topics {
        model.create_topic(topic, 1).unwrap();
    }
    model
}
