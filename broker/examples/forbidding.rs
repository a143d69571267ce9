//! A broker with permissions of its own: nobody may subscribe to the filter that the command line
//! names. It keeps nothing (there is no store), says where it listens, and ends with its input.
//!
//!     cargo run --package broker --example forbidding -- test/nosubscribe

use std::error::Error;
use std::io::Read as _;
use std::rc::Rc;

use broker::{
    AllowAll, Authentication, Authorizer, Broker, BrokerOptions, Client, ConnectAttempt,
    Durability, KeyTemplate, ListenerOptions, LogRouting, StoredLog, Unmapped,
};
use mqtt::{QoS, TopicFilter, TopicName};
use storage::LogId;

#[derive(Debug)]
struct Forbids(TopicFilter);

impl Authorizer for Forbids {
    fn authenticate(&self, attempt: &ConnectAttempt<'_>) -> Authentication {
        AllowAll.authenticate(attempt)
    }

    fn may_publish(&self, client: Client<'_>, topic: &TopicName, qos: QoS, retain: bool) -> bool {
        AllowAll.may_publish(client, topic, qos, retain)
    }

    fn may_subscribe(&self, _: Client<'_>, filter: &TopicFilter) -> bool {
        *filter != self.0
    }

    fn may_replay(&self, client: Client<'_>, filter: &TopicFilter) -> bool {
        AllowAll.may_replay(client, filter)
    }

    fn may_receive(&self, client: Client<'_>, topic: &TopicName) -> bool {
        AllowAll.may_receive(client, topic)
    }
}

#[expect(
    clippy::print_stdout,
    reason = "whoever starts it asks where it listens"
)]
fn main() -> Result<(), Box<dyn Error>> {
    let filter = std::env::args().nth(1).ok_or("name a topic filter")?;
    let authorizer = Rc::new(Forbids(filter.parse()?));
    let routing = LogRouting {
        routes: Vec::new(),
        default_log: StoredLog {
            log: LogId(0),
            key: KeyTemplate::new(Vec::new()),
            durability: Durability::Commit,
        },
        unmapped: Unmapped::LiveOnly,
    };
    let listener = ListenerOptions::new("127.0.0.1:0".parse()?);
    let options = BrokerOptions::new(vec![listener], routing);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let broker = Broker::start(options, None, authorizer)?;
        for address in broker.addresses() {
            println!("{address}");
        }
        let end_of_input =
            tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
        broker.run(async { drop(end_of_input.await) }).await?;
        Ok(())
    })
}
