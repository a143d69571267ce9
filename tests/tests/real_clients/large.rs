//! Large messages, byte for byte, and those that are too large for the broker or for a client.

use anyhow::{Result, ensure};
use tests::broker_process::Options;

use crate::connection::Published;
use crate::message::{Connect, Message, Subscription};
use crate::stage::Stage;
use crate::table::{Part, each_version};
use crate::who::Who;

const LARGE_BYTES: usize = 1 << 20;

/// What the broker takes: `LARGE_BYTES` and the rest of the packet.
const PACKET_BYTES_MAX: usize = 1030 << 10;

/// What a client takes that says so.
const CLIENT_BYTES_MAX: u32 = 10_000;

/// The reason code "packet too large".
const PACKET_TOO_LARGE: u8 = 0x95;

each_version!(messages_arrive_byte_for_byte, options, both_ways);

each_version!(
    messages_above_the_limit_of_the_broker_are_refused,
    options,
    too_large
);

each_version!(
    messages_above_the_limit_of_the_client_are_not_sent_to_it,
    options,
    too_large_for_client
);

fn options() -> Options {
    let kib = PACKET_BYTES_MAX >> 10;
    Options {
        tables: format!(
            "[limits]\npacket_bytes_max = \"{kib}KiB\"\nmailbox_bytes_max = \"4MiB\"\n"
        ),
        ..Options::default()
    }
}

/// Every value of a byte, and no period that a piece of a packet could have.
fn payload(bytes: usize) -> Vec<u8> {
    let value = |number: usize| number.wrapping_mul(number).wrapping_mul(31) >> 7;
    let low = |number| u8::try_from(value(number) & 0xff).unwrap();
    (0..bytes).map(low).collect()
}

fn both_ways(stage: &Stage, who: Who) -> Result<()> {
    sent(stage, who, who.neighbour(), 2)?;
    sent(stage, who.neighbour(), who, 1)
}

fn sent(stage: &Stage, from: Who, to: Who, qos: u8) -> Result<()> {
    let topic = format!("large/{}/{}", from.id("from"), to.id("to"));
    let connect = Connect::new(&to.id("sub"));
    let mut subscriber = stage.subscribe(to, &connect, &[Subscription::new(&topic, qos)])?;
    let message = Message::new(&topic, payload(LARGE_BYTES), qos);
    stage.publish(from, std::slice::from_ref(&message))?;
    let found = subscriber.take(1)?;
    // The bytes themselves would be too many for a message.
    let (length, same) = (found[0].payload.len(), found[0] == message);
    ensure!(same, "{from} to {to}: other {length} bytes arrived");
    subscriber.leave()
}

fn too_large(stage: &Stage, who: Who) -> Result<()> {
    let topic = format!("large/{}", who.id("from"));
    let filter = [Subscription::new(&topic, 1)];
    let to = who.neighbour();
    let mut subscriber = stage.subscribe(to, &Connect::new(&to.id("sub")), &filter)?;
    let message = Message::new(&topic, payload(PACKET_BYTES_MAX), 1);
    let published = stage.try_publish(who, &[message])?;
    let is_as_expected = match (who.is_5(), who.program.can(Part::TooLargeSent)) {
        (true, true) => published == Published::Closed(Some(PACKET_TOO_LARGE)),
        (true, false) => matches!(published, Published::Refused(_)),
        (false, _) => published == Published::Closed(None),
    };
    ensure!(is_as_expected, "{who}: {published:?}");
    stage.fence(&mut *subscriber, &topic)?;
    subscriber.leave()
}

fn too_large_for_client(stage: &Stage, who: Who) -> Result<()> {
    if !who.is_5() {
        return Ok(());
    }
    let topic = format!("large/{}", who.id("to"));
    let connect = Connect {
        maximum_packet_size: Some(CLIENT_BYTES_MAX),
        ..Connect::new(&who.id("sub"))
    };
    let mut subscriber = stage.subscribe(who, &connect, &[Subscription::new(&topic, 1)])?;
    if who.program.can(Part::Connack) {
        let told = subscriber.connack().maximum_packet_size;
        let limit = u32::try_from(PACKET_BYTES_MAX)?;
        ensure!(told == Some(limit), "{who} was told {told:?}");
    }
    let length = usize::try_from(CLIENT_BYTES_MAX)?;
    let message = Message::new(&topic, payload(length), 1);
    stage.publish(who.neighbour(), &[message])?;
    stage.fence(&mut *subscriber, &topic)?;
    subscriber.leave()
}
