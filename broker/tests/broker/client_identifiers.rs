//! Client identifiers: which are accepted, whose session they stand for, and those that the broker
//! assigns.

use mqtt::ProtocolVersion::V5;
use mqtt::{Connect, ReasonCode};

use crate::support::{BOTH, Setup, TestBroker, TestClient, connect, go, staying, string};

const LETTERS_AND_DIGITS: &str = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

#[test]
fn identifiers_of_1_to_23_letters_and_digits_are_accepted() {
    let broker = TestBroker::start(Setup::default());
    let mut letters = LETTERS_AND_DIGITS.chars().cycle();
    for version in BOTH {
        for length in 1..=23 {
            let client_id: String = letters.by_ref().take(length).collect();
            broker.client(version, &client_id).expect_nothing();
        }
    }
}

#[test]
fn session_belongs_to_its_identifier_to_the_letter() {
    let broker = TestBroker::start(Setup::default());
    for version in BOTH {
        let mut client = TestClient::connect(broker.address(), staying(version, "client"));
        client.subscribe("a");
        go(&broker, client);
        broker
            .client(version, "publisher")
            .publish_acknowledged("a", "x");
        for other in ["Client", "client ", "clien", "\u{feff}client"] {
            let (mut client, connack) =
                TestClient::try_connect(broker.address(), staying(version, other));
            assert!(!connack.session_present, "{other:?}");
            client.expect_nothing();
            // It ends with this connection.
            let (_, connack) = TestClient::try_connect(broker.address(), connect(version, other));
            assert!(!connack.session_present);
        }
        let (mut client, connack) =
            TestClient::try_connect(broker.address(), staying(version, "client"));
        assert!(connack.session_present);
        assert_eq!(client.receive_payloads(1), ["x"]);
        drop(client);
        broker.client(version, "client").expect_nothing();
    }
}

#[test]
fn assigned_identifier_is_as_good_as_one_of_the_client_s_own() {
    let broker = TestBroker::start(Setup::default());
    let nameless = staying(V5, "");
    let (mut client, connack) = TestClient::try_connect(broker.address(), nameless.clone());
    assert_eq!(connack.reason_code, ReasonCode::Success);
    assert!(!connack.session_present);
    let assigned = connack.properties.assigned_client_identifier.unwrap();
    client.subscribe("a");
    go(&broker, client);
    let (_, connack) = TestClient::try_connect(broker.address(), nameless.clone());
    let another = connack.properties.assigned_client_identifier.unwrap();
    assert_ne!(another, assigned);
    broker
        .client(V5, "publisher")
        .publish_acknowledged("a", "x");
    let named = Connect {
        client_id: string(assigned.as_str()),
        ..nameless
    };
    let (mut client, connack) = TestClient::try_connect(broker.address(), named);
    assert!(connack.session_present);
    assert_eq!(connack.properties.assigned_client_identifier, None);
    assert_eq!(client.receive_payloads(1), ["x"]);
}

/// Whoever was assigned one can guess the next one, and take it.
#[test]
fn identifier_that_somebody_has_is_not_assigned() {
    let broker = TestBroker::start(Setup::default());
    let (_, connack) = TestClient::try_connect(broker.address(), connect(V5, ""));
    let assigned = connack.properties.assigned_client_identifier.unwrap();
    let (head, number) = assigned.as_str().rsplit_once('-').unwrap();
    let number: u64 = number.parse().unwrap();
    let mut guessed: Vec<TestClient> = (1..4)
        .map(|step| number.wrapping_add(step))
        .map(|next| broker.client(V5, &format!("{head}-{next}")))
        .collect();
    let _nameless = broker.client(V5, "");
    for client in &mut guessed {
        client.expect_nothing();
    }
}
