//! Records whose content follows from their number, so that nobody has to remember it.

use storage::Message;

/// The message of record `number` with a payload of `bytes`, none if it clears a retained message.
pub(crate) fn message(topic: &str, number: u64, bytes: usize, clears: bool) -> Message {
    let bytes = if clears { 0 } else { bytes };
    let length = u32::try_from(bytes).unwrap_or(u32::MAX);
    let check = [number.to_be_bytes().as_slice(), &length.to_be_bytes()].concat();
    Message {
        topic: topic.to_owned().into(),
        client_id: "device".into(),
        payload: payload(number, bytes).into(),
        correlation_data: Some(check.into()),
        qos: 1,
        ..Message::default()
    }
}

/// The number of the record that a message was, if every byte of it is right.
pub(crate) fn number(message: &Message) -> Option<u64> {
    let check = message.correlation_data.as_ref()?;
    let (number, length) = check.split_first_chunk::<8>()?;
    let number = u64::from_be_bytes(*number);
    let length = u32::from_be_bytes(length.try_into().ok()?);
    let same = message.payload == payload(number, usize::try_from(length).ok()?);
    same.then_some(number)
}

/// Bytes that no compression and no other record would give.
pub(crate) fn payload(number: u64, bytes: usize) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut payload = Vec::with_capacity(bytes + 8);
    while payload.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        payload.extend_from_slice(&state.to_le_bytes());
    }
    payload.truncate(bytes);
    payload
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_comes_back_unless_a_byte_is_wrong() {
        for (bytes, clears) in [(0, false), (1, false), (777, false), (777, true)] {
            let message = message("a/b", 42, bytes, clears);
            assert_eq!(number(&message), Some(42));
            assert_eq!(message.payload.is_empty(), clears || bytes == 0);
        }
        let mut message = message("a/b", 42, 777, false);
        let mut payload = message.payload.to_vec();
        payload[500] ^= 1;
        message.payload = payload.into();
        assert_eq!(number(&message), None);
    }
}
