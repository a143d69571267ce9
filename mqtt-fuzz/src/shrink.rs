//! A failing input made short: what can be left out is left out, piece by piece.

use crate::Target;
use crate::connection::operation::{self, Operation};

/// Most attempts; each runs the target once.
const ATTEMPTS_MAX: usize = 3_000;

/// The shortest input that was found and fails.
pub(crate) fn shrink(
    target: Target,
    input: Vec<u8>,
    mut fails: impl FnMut(&[u8]) -> bool,
) -> Vec<u8> {
    let mut attempts = ATTEMPTS_MAX;
    let mut fails = |input: &[u8]| {
        attempts = attempts.saturating_sub(1);
        attempts > 0 && fails(input)
    };
    let mut shortest = input;
    if target == Target::Server {
        let (options, operations) = operation::split(&shortest);
        let kept = without_pieces(operations, |kept| {
            fails(&operation::join(options, kept.iter().copied()))
        });
        shortest = operation::join(options, plain_arguments(options, kept, &mut fails));
    } else if let Some((first, stream)) = shortest.split_first() {
        let with_first = |stream: &[u8]| [&[*first], stream].concat();
        let kept = without_pieces(stream.to_vec(), |kept| fails(&with_first(kept)));
        shortest = with_first(&kept);
    }
    // Once more with the message of the shortest.
    fails(&shortest);
    shortest
}

/// Leaves out halves, quarters and so on, as long as it fails without them.
fn without_pieces<T: Clone>(mut all: Vec<T>, mut fails: impl FnMut(&[T]) -> bool) -> Vec<T> {
    let mut piece = all.len().div_ceil(2);
    while piece > 0 {
        let mut at = 0;
        let before = all.len();
        while at < all.len() {
            let mut shorter = all.clone();
            shorter.drain(at..(at + piece).min(all.len()));
            match fails(&shorter) {
                true => all = shorter,
                false => at += piece,
            }
        }
        // Again with single ones until none can go.
        if piece > 1 || all.len() == before {
            piece /= 2;
        }
    }
    all
}

/// Arguments that do not matter become 0.
fn plain_arguments<'i>(
    options: u8,
    mut operations: Vec<Operation<'i>>,
    fails: &mut impl FnMut(&[u8]) -> bool,
) -> Vec<Operation<'i>> {
    for index in 0..operations.len() {
        let mut plainer = operations.clone();
        if let Some(one) = plainer.get_mut(index).filter(|one| one.argument != 0) {
            one.argument = 0;
            if fails(&operation::join(options, plainer.iter().copied())) {
                operations = plainer;
            }
        }
    }
    operations
}
