//! Request and response: with the properties of MQTT 5, and by topics that both know before it.

use anyhow::{Result, ensure};

use crate::connection::Subscriber;
use crate::message::{Connect, Message, Properties, Subscription};
use crate::mosquitto_client::MosquittoRr;
use crate::stage::Stage;
use crate::table::{Part, each_version, plain};
use crate::who::{Program, Who};

each_version!(
    requests_and_answers_carry_what_was_given_to_them,
    plain,
    both_ways
);

fn both_ways(stage: &Stage, who: Who) -> Result<()> {
    ask(stage, who, who.neighbour())?;
    ask(stage, who.neighbour(), who)
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    pairs.iter().map(own).collect()
}

/// What the request says of itself in MQTT 5.
fn properties(requester: Who, responder: Who, answers: &str) -> Properties {
    if !(requester.is_5() && responder.is_5()) {
        return Properties::default();
    }
    let can = |part| requester.program.can(part) && responder.program.can(part);
    let is_binary = can(Part::BinaryCorrelation);
    let correlation_data: &[u8] = if is_binary {
        b"\0\xff7"
    } else {
        "frage-7ü".as_bytes()
    };
    // One name twice either way; in the first its values are apart.
    let user = if can(Part::UserPropertyOrder) {
        [("unit", "C"), ("room", "3"), ("unit", "K")]
    } else {
        [("unit", "C"), ("unit", "K"), ("room", "3")]
    };
    Properties {
        content_type: Some(String::from("text/plain")),
        response_topic: Some(answers.to_owned()),
        correlation_data: Some(correlation_data.to_vec()),
        payload_format: Some(1),
        message_expiry: None,
        user: pairs(&user),
    }
}

fn ask(stage: &Stage, requester: Who, responder: Who) -> Result<()> {
    let questions = format!("ask/{}/{}", requester.id("a"), responder.id("b"));
    let answers = format!("answer/{}/{}", requester.id("a"), responder.id("b"));
    let connect = Connect::new(&responder.id("sub"));
    let mut answering =
        stage.subscribe(responder, &connect, &[Subscription::new(&questions, 1)])?;
    let request = Message {
        properties: properties(requester, responder, &answers),
        ..Message::new(&questions, "how warm?", 1)
    };
    let asking = Asking::start(stage, requester, &request, &answers)?;

    let received = answering.take(1)?.remove(0);
    ensure!(received == request, "{received:?} instead of {request:?}");
    let answer = Message {
        properties: Properties {
            content_type: received.properties.content_type.clone(),
            correlation_data: received.properties.correlation_data.clone(),
            user: received.properties.user.clone(),
            ..Properties::default()
        },
        ..Message::new(&answers, "21", 1)
    };
    // Where to: as the request says, or as everybody knows.
    if let Some(topic) = &received.properties.response_topic {
        ensure!(*topic == answers, "the response topic is {topic}");
    }
    answering
        .publish(std::slice::from_ref(&answer))?
        .ensure_all()?;
    let received = asking.answer()?;
    ensure!(received == answer, "{received:?} instead of {answer:?}");
    answering.leave()
}

/// A client that waits for its answer.
enum Asking {
    Mosquitto(MosquittoRr),
    Other(Box<dyn Subscriber>),
}

impl Asking {
    fn start(stage: &Stage, who: Who, request: &Message, answers: &str) -> Result<Self> {
        let connect = Connect::new(&who.id("ask"));
        if who.program == Program::Mosquitto {
            let started = MosquittoRr::start(who, stage.port(), &connect, request, answers);
            return started.map(Self::Mosquitto);
        }
        let mut asking = stage.subscribe(who, &connect, &[Subscription::new(answers, 1)])?;
        asking
            .publish(std::slice::from_ref(request))?
            .ensure_all()?;
        Ok(Self::Other(asking))
    }

    fn answer(self) -> Result<Message> {
        match self {
            Self::Mosquitto(asking) => asking.answer(),
            Self::Other(mut asking) => {
                let answer = asking.take(1)?.remove(0);
                asking.leave()?;
                Ok(answer)
            }
        }
    }
}
