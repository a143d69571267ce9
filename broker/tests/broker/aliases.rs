//! Topic aliases: a client's last as long as its connection, and the broker sets none that were not
//! allowed.

use std::collections::HashMap;

use mqtt::ProtocolVersion::V5;
use mqtt::{Publish, ReasonCode, TopicAlias};

use crate::support::{Setup, TestBroker, TestClient, go, publish, staying};

fn aliased(packet_id: u16, topic: Option<&str>, alias: u16) -> Publish {
    Publish {
        topic: topic.map(|topic| topic.parse().unwrap()),
        topic_alias: TopicAlias::new(alias),
        ..publish(packet_id, "unused", "x")
    }
}

#[test]
fn alias_of_an_earlier_connection_means_nothing() {
    let broker = TestBroker::start(Setup::default());
    let mut client = TestClient::connect(broker.address(), staying(V5, "client"));
    client.publish(aliased(1, Some("a"), 1));
    assert_eq!(client.receive_puback(), (1, ReasonCode::Success));
    go(&broker, client);
    let (mut client, connack) = TestClient::try_connect(broker.address(), staying(V5, "client"));
    assert!(connack.session_present);
    client.publish(aliased(2, None, 1));
    assert_eq!(client.receive_end(), Some(ReasonCode::ProtocolError));
    assert_eq!(broker.records("all").len(), 1);
}

#[test]
fn every_alias_that_connack_allows_is_taken() {
    let broker = TestBroker::start(Setup::default());
    let connect = crate::support::connect(V5, "client");
    let (mut client, connack) = TestClient::try_connect(broker.address(), connect);
    let maximum = connack.properties.topic_alias_maximum.unwrap();
    for alias in 1..=maximum {
        client.publish(aliased(alias, Some(&format!("a/{alias}")), alias));
        assert_eq!(client.receive_puback(), (alias, ReasonCode::Success));
    }
    for alias in (1..=maximum).rev() {
        client.publish(aliased(alias, None, alias));
        assert_eq!(client.receive_puback(), (alias, ReasonCode::Success));
    }
    let topics = broker.records("all").into_iter().map(|(topic, _)| topic);
    let there = (1..=maximum).chain((1..=maximum).rev());
    let expected = there.map(|alias| format!("a/{alias}"));
    assert_eq!(Vec::from_iter(topics), Vec::from_iter(expected));
}

#[test]
fn client_gets_no_alias_beyond_its_maximum_and_none_without_one() {
    let broker = TestBroker::start(Setup::default());
    for maximum in [None, Some(0), Some(2), Some(9)] {
        let mut connect = crate::support::connect(V5, "client");
        connect.properties.topic_alias_maximum = maximum;
        let mut client = TestClient::connect(broker.address(), connect);
        client.subscribe("#");
        let mut publisher = broker.client(V5, "publisher");
        let (mut names, mut nameless) = (HashMap::new(), 0);
        for number in 0..20 {
            let topic = format!("topic/{}", number * number % 5);
            publisher.publish(aliased(1, Some(&topic), 1 + number % 5));
            assert_eq!(publisher.receive_puback().0, 1);
            let received = client.receive_publish();
            let alias = received.topic_alias.map_or(0, TopicAlias::get);
            assert!(alias <= maximum.unwrap_or(0), "{maximum:?}: {alias}");
            nameless += u32::from(received.topic.is_none());
            let name = match received.topic {
                Some(name) => {
                    names.insert(alias, name.clone());
                    name
                }
                None => names[&alias].clone(),
            };
            assert_eq!(name.as_str(), topic, "{maximum:?}");
        }
        assert_eq!(nameless > 0, maximum.unwrap_or(0) > 0, "{maximum:?}");
    }
}
