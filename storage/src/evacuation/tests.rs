//! The rule of evacuation, case by case.

use super::*;

const MIB: u64 = 1 << 20;
const HOUR: Duration = Duration::from_secs(3600);

/// A segment of these bytes and live bytes in MiB/10 that stays for so many hours.
fn candidate(id: u64, (disk, live, hours): (u64, u64, u32)) -> Candidate {
    Candidate {
        name: SegmentName::written(SegmentId(id)),
        disk_bytes: disk * MIB / 10,
        live_bytes: live * MIB / 10,
        stay: HOUR * hours,
        may_move: true,
    }
}

/// The first and the last segment of the run; the newest segment stays.
fn planned(segments: &[(u64, u64, u32)]) -> Option<(u64, u64)> {
    let mut candidates: Vec<_> = (0..)
        .zip(segments)
        .map(|(id, s)| candidate(id, *s))
        .collect();
    candidates.last_mut()?.may_move = false;
    let run = plan(&candidates, Fixed::default(), 16 * MIB)?;
    Some((run.target.first.0, run.target.last.0))
}

#[test]
fn nearly_dead_neighbours_are_copied_into_one_while_the_log_takes_too_much() {
    let segments = [
        (150, 150, 9),
        (150, 20, 9),
        (150, 20, 9),
        (150, 20, 9),
        (150, 150, 9),
        (150, 0, 9),
    ];
    assert_eq!(planned(&segments), Some((1, 3)));
}

#[test]
fn what_frees_nothing_stays() {
    let smallest = [(10, 1, 9), (150, 50, 9)];
    assert_eq!(planned(&smallest), None, "smallest segment there is");
    let mostly_live = [(150, 120, 9), (150, 120, 9), (150, 0, 9)];
    assert_eq!(planned(&mostly_live), None, "mostly live");
    assert_eq!(planned(&[(150, 1, 9)]), None, "the newest one");
    let dead = [(150, 0, 9), (150, 0, 9), (150, 10, 9)];
    assert_eq!(planned(&dead), None, "retention has it");
}

#[test]
fn copy_is_no_larger_than_a_segment() {
    let segments = [(160, 70, 9), (160, 70, 9), (160, 70, 9), (160, 70, 9)];
    assert_eq!(planned(&segments), Some((0, 1)));
}

#[test]
fn source_that_frees_less_for_a_byte_than_the_others_is_left() {
    let segments = [(150, 20, 9), (35, 15, 9), (150, 0, 9)];
    assert_eq!(planned(&segments), Some((0, 0)));
}

#[test]
fn small_copies_are_put_together() {
    let segments = [(10, 1, 9), (10, 1, 9), (10, 1, 9), (10, 1, 9)];
    assert_eq!(planned(&segments), Some((0, 2)));
}

#[test]
fn nothing_is_copied_while_the_log_takes_its_share() {
    let mut segments = vec![(150, 150, 9); 4];
    segments.push((150, 10, 9));
    segments.push((150, 150, 9));
    assert_eq!(planned(&segments), None);
    segments.push((150, 10, 9));
    segments.push((150, 150, 9));
    assert!(planned(&segments).is_some());
}

/// What cannot be moved counts, too: the newest segment of a small log may be most of it.
#[test]
fn share_is_that_of_the_whole_log() {
    let candidates = [candidate(1, (150, 50, 9))];
    let all_live = |bytes| Fixed {
        disk_bytes: bytes,
        live_bytes: bytes,
    };
    assert_eq!(plan(&candidates, all_live(100 * MIB), 16 * MIB), None);
    assert!(plan(&candidates, all_live(MIB), 16 * MIB).is_some());
}

#[test]
fn what_is_given_up_soon_is_not_copied_before_what_stays() {
    let apart = |one, other| {
        let segments = [(150, 50, one), (150, 150, 9), (150, 50, other), (150, 0, 9)];
        planned(&segments)
    };
    assert_eq!(apart(1, 300), Some((2, 2)));
    assert_eq!(apart(300, 1), Some((0, 0)));
}

#[test]
fn stay_ends_when_a_quarter_of_what_is_live_is_gone() {
    let parts = [(70, Some(HOUR)), (20, Some(HOUR * 24)), (10, None)];
    assert_eq!(stay(parts), HOUR);
    assert_eq!(stay(parts.into_iter().skip(1)), HOUR * 24);
    assert_eq!(stay([(1, Some(HOUR)), (9, Some(HOUR * 24))]), HOUR * 24);
    assert_eq!(stay([(10, None)]), STAY_MAX);
    assert_eq!(stay([(10, Some(Duration::ZERO))]), STAY_MIN);
}

#[test]
fn copies_end() {
    let mut state = 7_u64;
    let mut random = |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) % below
    };
    let mut runs = 0;
    for _ in 0..200 {
        let count = random(30) + 1;
        let mut segments: Vec<_> = (0..count)
            .map(|id| {
                let bytes = random(160) * MIB / 10;
                Candidate {
                    name: SegmentName::written(SegmentId(id)),
                    disk_bytes: disk_bytes(bytes),
                    live_bytes: random(101) * bytes / 100,
                    stay: HOUR * u32::try_from(random(400)).unwrap(),
                    may_move: id + 1 != count,
                }
            })
            .collect();
        let (mut copied, mut freed) = (0, 0);
        for round in 0.. {
            assert!(round < 1000, "it goes on and on");
            let Some(run) = plan(&segments, Fixed::default(), 16 * MIB) else {
                break;
            };
            runs += 1;
            let at = segments
                .iter()
                .position(|c| c.name == run.sources[0])
                .unwrap();
            let sources = segments.drain(at..at + run.sources.len());
            let disk: u64 = sources.map(|c| c.disk_bytes).sum();
            copied += run.live_bytes;
            freed += disk - disk_bytes(run.live_bytes);
            let copy = Candidate {
                name: run.target,
                disk_bytes: disk_bytes(run.live_bytes),
                live_bytes: run.live_bytes,
                stay: HOUR,
                may_move: true,
            };
            segments.insert(at, copy);
        }
        assert!(copied * 3 <= freed * 7, "{copied} for {freed}");
    }
    assert!(runs > 200, "{runs}");
}
