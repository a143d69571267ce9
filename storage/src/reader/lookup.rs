//! Opening the segment that the index names, though it may be evacuated or removed meanwhile.
//!
//! Invariant: nobody reads what the index no longer names, and nobody is told that there is nothing
//! because a segment went while it was being opened.

use crate::segment_name::SegmentName;

/// What was found, beside what came of opening it.
pub(super) type Opened<T, D, E> = (SegmentName, T, Result<D, E>);

/// Opens what `find` says; `None` if it finds nothing. If `open` finds no such segment any more, the
/// index is asked again: it has something else there now, or nothing.
pub(super) fn open_found<T, D, E>(
    mut find: impl FnMut() -> Option<(SegmentName, T)>,
    mut open: impl FnMut(SegmentName, &T) -> Result<Option<D>, E>,
) -> Option<Opened<T, D, E>> {
    loop {
        let (name, what) = find()?;
        if let Some(opened) = open(name, &what).transpose() {
            return Some((name, what, opened));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::SegmentId;

    const OLD: SegmentName = SegmentName {
        first: SegmentId(2),
        last: SegmentId(2),
        generation: 0,
    };
    const COPY: SegmentName = SegmentName {
        first: SegmentId(1),
        last: SegmentId(3),
        generation: 1,
    };

    /// The index says one after the other; what is open of these is `there`.
    fn opened(index: &[SegmentName], there: SegmentName) -> Option<(SegmentName, u8)> {
        let mut index = index.iter();
        let mut found = 0;
        let find = || {
            found += 1;
            index.next().map(|name| (*name, found))
        };
        let open = |name, _: &u8| Ok::<_, ()>((name == there).then_some(()));
        open_found(find, open).map(|(name, found, opened)| {
            assert_eq!(opened, Ok(()));
            (name, found)
        })
    }

    #[test]
    fn index_is_asked_again_when_a_segment_was_evacuated_meanwhile() {
        assert_eq!(opened(&[OLD], OLD), Some((OLD, 1)));
        assert_eq!(opened(&[OLD, COPY], COPY), Some((COPY, 2)));
        assert_eq!(opened(&[OLD, OLD, COPY], COPY), Some((COPY, 3)));
        // Retention took it.
        assert_eq!(opened(&[OLD], COPY), None);
        assert_eq!(opened(&[], COPY), None);
    }

    #[test]
    fn segment_that_cannot_be_opened_is_told_with_its_name() {
        let failed = open_found(
            || Some((OLD, ())),
            |_, _: &()| Err::<Option<()>, _>("no files"),
        );
        assert_eq!(failed, Some((OLD, (), Err("no files"))));
    }
}
