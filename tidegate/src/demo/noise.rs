//! Numbers that look random and are the same again for the same seed: what a device says is a pure
//! function of seed, device and number, so that the balance can compare bytes without keeping them.

/// A number for `parts` under `seed`. The mixing is SplitMix64's.
pub(super) fn noise(seed: u64, parts: &[u64]) -> u64 {
    parts
        .iter()
        .fold(mix(seed), |state, part| mix(state ^ mix(*part)))
}

fn mix(state: u64) -> u64 {
    let mut mixed = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::noise;

    #[test]
    fn number_depends_on_every_part_and_their_order() {
        let numbers = [
            noise(1, &[2, 3]),
            noise(2, &[2, 3]),
            noise(1, &[3, 2]),
            noise(1, &[2]),
            noise(1, &[2, 4]),
        ];
        for (index, number) in numbers.iter().enumerate() {
            assert!(!numbers[..index].contains(number));
        }
        assert_eq!(noise(1, &[2, 3]), numbers[0]);
    }
}
