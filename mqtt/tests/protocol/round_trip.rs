//! What holds for every packet: it comes back as it was, however it is cut; and no bytes whatever
//! make the decoder panic.

use bytes::BytesMut;
use mqtt::codec::{DecodeError, Limits, decode};
use mqtt::{Packet, ProtocolVersion};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::raw::{V5, V311, encoded};
use crate::strategies::{packet, topic_filter, topic_name};

/// All packets of a stream, and the error at which it ended.
fn decode_stream(
    version: ProtocolVersion,
    chunks: impl IntoIterator<Item: AsRef<[u8]>>,
) -> (Vec<Packet>, Option<DecodeError>) {
    let mut packets = Vec::new();
    let mut src = BytesMut::new();
    for chunk in chunks {
        src.extend_from_slice(chunk.as_ref());
        loop {
            match decode(&mut src, Some(version), &Limits::default()) {
                Ok(Some(packet)) => packets.push(packet),
                Ok(None) => break,
                Err(error) => return (packets, Some(error)),
            }
        }
    }
    (packets, None)
}

fn stream(version: ProtocolVersion, packets: &[Packet]) -> Vec<u8> {
    packets
        .iter()
        .flat_map(|packet| encoded(version, packet))
        .collect()
}

proptest! {
    #[test]
    fn a_packet_of_3_1_1_comes_back_as_it_was(packet in packet(V311)) {
        let bytes = encoded(V311, &packet);
        prop_assert_eq!(decode_stream(V311, [bytes]), (vec![packet], None));
    }

    #[test]
    fn a_packet_of_mqtt_5_comes_back_as_it_was(packet in packet(V5)) {
        let bytes = encoded(V5, &packet);
        prop_assert_eq!(decode_stream(V5, [bytes]), (vec![packet], None));
    }

    #[test]
    fn packets_come_back_when_they_arrive_byte_by_byte(
        v311 in vec(packet(V311), 1..4),
        v5 in vec(packet(V5), 1..4),
    ) {
        for (version, packets) in [(V311, v311), (V5, v5)] {
            let bytes = stream(version, &packets);
            prop_assert_eq!(decode_stream(version, bytes.chunks(1)), (packets, None));
        }
    }

    #[test]
    fn a_damaged_stream_means_the_same_in_any_chunks(
        packets in vec(packet(V5), 1..4),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        chunk in 1..20_usize,
    ) {
        let mut bytes = stream(V5, &packets);
        for (index, value) in damage {
            let index = index.index(bytes.len());
            bytes[index] = value;
        }
        prop_assert_eq!(decode_stream(V5, bytes.chunks(chunk)), decode_stream(V5, [&bytes]));
    }

    #[test]
    fn arbitrary_bytes_are_decoded_without_panic(bytes in vec(any::<u8>(), 0..200)) {
        for version in [V311, V5] {
            decode_stream(version, [&bytes]);
        }
    }

    #[test]
    fn arbitrary_bodies_are_decoded_without_panic(
        first in any::<u8>(),
        body in vec(any::<u8>(), 0..120),
    ) {
        let length = u8::try_from(body.len()).unwrap();
        for version in [V311, V5] {
            decode_stream(version, [&[&[first, length], &body[..]].concat()]);
        }
    }

    #[test]
    fn what_was_decoded_encodes_to_what_decodes_to_the_same(
        first in any::<u8>(),
        body in vec(any::<u8>(), 0..60),
    ) {
        let length = u8::try_from(body.len()).unwrap();
        for version in [V311, V5] {
            let (packets, _) = decode_stream(version, [&[&[first, length], &body[..]].concat()]);
            let again = stream(version, &packets);
            prop_assert_eq!(decode_stream(version, [&again]), (packets, None));
        }
    }

    #[test]
    fn a_filter_matches_as_its_levels_do(filter in topic_filter(), name in topic_name()) {
        prop_assert_eq!(filter.matches(&name), matches_by_levels(filter.filter(), name.as_str()));
    }

    #[test]
    fn a_name_is_matched_by_the_filters_made_from_it(
        name in topic_name(),
        wild in vec(any::<bool>(), 16),
        cut in any::<prop::sample::Index>(),
    ) {
        prop_assume!(!name.is_reserved());
        let levels: Vec<&str> = name.as_str().split('/').collect();
        let wild = levels.iter().zip(wild).map(|(level, wild)| if wild { "+" } else { level });
        let mut filter: Vec<&str> = wild.collect();
        prop_assert!(filter.join("/").parse::<mqtt::TopicFilter>().unwrap().matches(&name));
        filter.truncate(cut.index(filter.len() + 1));
        filter.push("#");
        prop_assert!(filter.join("/").parse::<mqtt::TopicFilter>().unwrap().matches(&name));
    }
}

/// The rules of 4.7 once more, written recursively and slowly.
fn matches_by_levels(filter: &str, name: &str) -> bool {
    fn levels_match(filter: &[&str], name: &[&str]) -> bool {
        match (filter, name) {
            (["#"], _) | ([], []) => true,
            (["+", filter @ ..], [_, name @ ..]) => levels_match(filter, name),
            ([level, filter @ ..], [first, name @ ..]) => {
                level == first && levels_match(filter, name)
            }
            _ => false,
        }
    }
    let filter: Vec<&str> = filter.split('/').collect();
    let name: Vec<&str> = name.split('/').collect();
    let starts_wild = matches!(filter[0], "+" | "#");
    levels_match(&filter, &name) && !(starts_wild && name[0].starts_with('$'))
}
