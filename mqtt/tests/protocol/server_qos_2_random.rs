//! Random packets of a client and verbs of a broker about QoS 1 and 2, against a model that says
//! after each what is sent, what is told and how many places are free.

use mqtt::server::{
    Accept, DisconnectCause, InflightEntry, InflightState, Options, PublishOutcome,
};
use mqtt::{Connect, Packet, PacketType, ProtocolVersion, QoS, ReasonCode};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::client::{Client, acknowledgement, exactly_once, id, message, outgoing, publish_qos};
use crate::raw::*;
use crate::server_qos_2_model::{Model, RECEIVE_MAXIMUM, SUCCESS, State, WINDOW, sent_of};

const FAILURE: ReasonCode = ReasonCode::QuotaExceeded;

#[derive(Debug, Clone)]
enum Operation {
    // The client.
    Publish {
        number: u16,
        qos: QoS,
    },
    Say {
        packet: PacketType,
        number: u16,
        is_failure: bool,
    },
    // The broker.
    Complete {
        which: Index,
        is_failure: bool,
    },
    CompleteRelease {
        which: Index,
    },
    SendQos1,
    Reserve,
    PublishReserved {
        which: Index,
    },
    Cancel {
        which: Index,
    },
    Release {
        which: Index,
    },
    Resend {
        which: Index,
    },
    Forget {
        which: Index,
    },
}

fn operation() -> impl Strategy<Value = Operation> {
    let which = any::<Index>;
    let number = || 1..6_u16;
    let is_failure = || proptest::bool::weighted(0.2);
    let qos = select(vec![QoS::AtLeastOnce, QoS::ExactlyOnce, QoS::ExactlyOnce]);
    let (puback, pubcomp) = (PacketType::Puback, PacketType::Pubcomp);
    let said = select(vec![
        puback,
        PacketType::Pubrec,
        PacketType::Pubrel,
        pubcomp,
    ]);
    prop_oneof![
        6 => (number(), qos).prop_map(|(number, qos)| Operation::Publish { number, qos }),
        12 => (said, number(), is_failure())
            .prop_map(|(packet, number, is_failure)| Operation::Say { packet, number, is_failure }),
        6 => (which(), is_failure())
            .prop_map(|(which, is_failure)| Operation::Complete { which, is_failure }),
        6 => which().prop_map(|which| Operation::CompleteRelease { which }),
        2 => Just(Operation::SendQos1),
        4 => Just(Operation::Reserve),
        4 => which().prop_map(|which| Operation::PublishReserved { which }),
        1 => which().prop_map(|which| Operation::Cancel { which }),
        6 => which().prop_map(|which| Operation::Release { which }),
        4 => which().prop_map(|which| Operation::Resend { which }),
        1 => which().prop_map(|which| Operation::Forget { which }),
    ]
}

fn left_over() -> impl Strategy<Value = Vec<InflightEntry>> {
    let states = vec![
        InflightState::AwaitsPuback,
        InflightState::AwaitsPubrec,
        InflightState::OwesPubrel,
        InflightState::AwaitsPubcomp,
    ];
    vec(select(states), 0..5).prop_map(|states| {
        let numbered = (1..).zip(states);
        numbered
            .map(|(number, state)| InflightEntry {
                packet_id: id(number),
                state,
            })
            .collect()
    })
}

/// The connection beside its model.
struct Pair {
    client: Client,
    model: Model,
}

impl Pair {
    fn new(version: ProtocolVersion, inflight: Vec<InflightEntry>) -> Self {
        let options = Options {
            receive_maximum: RECEIVE_MAXIMUM,
            inflight_max: WINDOW,
            ..exactly_once()
        };
        let mut client = Client::new(version, options);
        let connect = Connect::new(version, string("c"));
        client.send(&Packet::Connect(Box::new(connect)));
        client.events();
        let model = Model::new(version, &inflight);
        let accept = Accept {
            inflight,
            ..Accept::default()
        };
        client.connection.accept(client.now, accept).unwrap();
        client.connack();
        Self { client, model }
    }

    fn run(&mut self, operation: Operation) {
        let is_held = self.model.is_held();
        match operation {
            Operation::Publish { .. } | Operation::Say { .. } if is_held => {}
            // What ends the connection is to be rare.
            Operation::Publish { number, .. } if number < 5 && self.model.is_exceeded(number) => {}
            Operation::Publish { number, qos } => {
                self.client.send(&publish_qos(number, qos));
                self.model.publish(number, qos);
            }
            Operation::Say {
                packet: PacketType::Pubrel,
                number,
                ..
            } => {
                self.client
                    .send(&acknowledgement(PacketType::Pubrel, number, SUCCESS));
                self.model.pubrel(number);
            }
            Operation::Say {
                packet,
                number,
                is_failure: false,
            } if self.model.is_wrong(packet, number) => {}
            Operation::Say {
                packet,
                number,
                is_failure,
            } => {
                let may_fail = packet == PacketType::Pubrec && self.model.version == V5;
                let is_failure = is_failure && may_fail;
                let code = if is_failure { FAILURE } else { SUCCESS };
                self.client.send(&acknowledgement(packet, number, code));
                self.model.say(packet, number, is_failure);
            }
            Operation::Complete { which, is_failure } => self.complete(which, is_failure),
            Operation::CompleteRelease { which } => self.complete_release(which),
            operation => self.deliver(operation),
        }
    }

    fn complete(&mut self, which: Index, is_failure: bool) {
        let opens = self.model.opens.iter().enumerate();
        let open = opens.filter(|(_, open)| open.code.is_none());
        let open: Vec<_> = open
            .map(|(index, open)| (index, open.ticket.unwrap()))
            .collect();
        if open.is_empty() {
            return;
        }
        let (index, ticket) = open[which.index(open.len())];
        let code = self.model.code(if is_failure { FAILURE } else { SUCCESS });
        self.client.complete(ticket, code);
        let again = self
            .client
            .connection
            .complete_publish(self.client.now, ticket, code);
        assert!(again.is_err(), "completed twice");
        self.model.complete(index, code);
    }

    fn complete_release(&mut self, which: Index) {
        let releases = self.model.releases.iter().enumerate();
        let open = releases.filter(|(_, release)| !release.is_done);
        let open = open.filter_map(|(index, release)| Some((index, release.ticket?)));
        let open: Vec<_> = open.collect();
        if open.is_empty() {
            return;
        }
        let (index, ticket) = open[which.index(open.len())];
        let (connection, now) = (&mut self.client.connection, self.client.now);
        connection.complete_release(now, ticket, SUCCESS).unwrap();
        assert!(connection.complete_release(now, ticket, SUCCESS).is_err());
        self.model.complete_release(index);
    }

    fn deliver(&mut self, operation: Operation) {
        let (model, now) = (&mut self.model, self.client.now);
        let connection = &mut self.client.connection;
        let message = message(1);
        let outgoing = outgoing(&message);
        let publish = PacketType::Publish;
        match operation {
            Operation::SendQos1 if model.free_places() > 0 => {
                connection.publish(now, outgoing);
                let number = model.take(State::Qos1);
                model.sent.push((publish, number, SUCCESS, false));
            }
            Operation::Reserve => {
                let is_free = model.free_places() > 0;
                let expected = is_free.then(|| id(model.take(State::Reserved)));
                assert_eq!(connection.reserve(), expected);
            }
            Operation::PublishReserved { which } => {
                if let Some(number) = model.pick(which, &[State::Reserved]) {
                    connection.publish_reserved(now, id(number), outgoing);
                    model.set(number, State::Qos2);
                    model.sent.push((publish, number, SUCCESS, false));
                }
            }
            Operation::Cancel { which } => {
                if let Some(number) = model.pick(which, &[State::Reserved]) {
                    assert!(connection.cancel(now, id(number)));
                    model.end(number);
                }
            }
            Operation::Release { which } => {
                let owed = [State::Received, State::Unreleased];
                if let Some(number) = model.pick(which, &owed) {
                    assert!(connection.release(now, id(number)));
                    model.release(number);
                }
            }
            Operation::Resend { which } => self.resend(which),
            Operation::Forget { which } => {
                let unsent = [State::UnsentQos1, State::UnsentQos2];
                if let Some(number) = model.pick(which, &unsent) {
                    assert!(connection.forget(now, id(number)));
                    if model.deliveries.contains(&(number, State::UnsentQos1)) {
                        model.end(number);
                    } else {
                        model.set(number, State::Released);
                        model
                            .sent
                            .push((PacketType::Pubrel, number, SUCCESS, false));
                    }
                }
            }
            _ => {}
        }
    }

    fn resend(&mut self, which: Index) {
        let model = &mut self.model;
        let unsent = [State::UnsentQos1, State::UnsentQos2];
        let Some(number) = model.pick(which, &unsent) else {
            return;
        };
        let sent = model
            .deliveries
            .iter()
            .filter(|(_, state)| !unsent.contains(state));
        let has_place = sent.count() < usize::from(WINDOW.get());
        let message = message(1);
        let connection = &mut self.client.connection;
        let outcome = connection.resend(self.client.now, id(number), outgoing(&message));
        assert_eq!(outcome != PublishOutcome::NoRoom, has_place);
        if has_place {
            let is_qos_1 = model.deliveries.contains(&(number, State::UnsentQos1));
            model.set(number, if is_qos_1 { State::Qos1 } else { State::Qos2 });
            model
                .sent
                .push((PacketType::Publish, number, SUCCESS, true));
        }
    }

    /// Compares; `false` when the connection has ended as it should.
    fn check(&mut self) -> bool {
        let (client, model) = (&mut self.client, &mut self.model);
        if model.is_misbehaviour {
            assert!(matches!(client.cause(), DisconnectCause::Misbehaved(_)));
            return false;
        }
        assert!(!client.connection.is_closed(), "{:?}", client.events());
        let told: Vec<_> = client
            .events()
            .into_iter()
            .map(|event| model.tell(event))
            .collect();
        assert_eq!(told, std::mem::take(&mut model.told));
        let sent: Vec<_> = client.received().iter().map(sent_of).collect();
        assert_eq!(sent, std::mem::take(&mut model.sent));
        let connection = &client.connection;
        assert_eq!(connection.wants_read(), !model.is_held());
        assert_eq!(connection.free_places(), model.free_places());
        assert_eq!(connection.inflight(), model.deliveries.len());
        true
    }
}

/// Ends with all that is left of the deliveries.
fn check(version: ProtocolVersion, left: Vec<InflightEntry>, operations: Vec<Operation>) {
    let mut pair = Pair::new(version, left);
    for operation in operations {
        pair.run(operation);
        if !pair.check() {
            break;
        }
    }
    pair.client.connection.handle_end_of_stream();
    let left = pair.client.connection.take_inflight();
    let left: Vec<_> = left.iter().map(|entry| entry.packet_id.get()).collect();
    let expected = pair.model.deliveries.iter().map(|delivery| delivery.0);
    assert_eq!(left, expected.collect::<Vec<_>>());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_024))]

    #[test]
    fn exchanges_go_as_in_the_model_in_3_1_1(
        left in left_over(),
        operations in vec(operation(), 0..100),
    ) {
        check(V311, left, operations);
    }

    #[test]
    fn exchanges_go_as_in_the_model_in_mqtt_5(
        left in left_over(),
        operations in vec(operation(), 0..100),
    ) {
        check(V5, left, operations);
    }
}
