//! Every seed: that it is read, that everything holds with it, and that it is what its name says.

use mqtt_fuzz::connection::operation::{self, Kind};
use mqtt_fuzz::notation::{bytes, format, parse};
use mqtt_fuzz::{Seen, Target, hold};

#[test]
fn everything_holds_with_every_seed_and_each_is_what_it_says() {
    for target in Target::ALL {
        for seed in target.seeds().unwrap() {
            let subject = format!("{}, seed \"{}\"", target.name(), seed.name);
            let mut seen = Seen::default();
            if let Err(message) = hold(target, &seed.input, &mut seen) {
                panic!("{subject}: {message}");
            }
            let expected = seed.expects.unwrap_or_else(|| "ends whole".to_owned());
            assert!(seen.has_note(&expected), "{subject}: not \"{expected}\"");
        }
    }
}

#[test]
fn text_form_of_every_seed_means_the_same() {
    for target in Target::ALL {
        for seed in target.seeds().unwrap() {
            let text = format!("= again\n{}", format(target, &seed.input));
            let again = parse(target, &text).unwrap();
            let inputs: Vec<_> = again.iter().map(|seed| &seed.input).collect();
            assert_eq!(inputs, [&seed.input], "{}:\n{text}", seed.name);
        }
    }
}

#[test]
fn names_of_seeds_are_their_own() {
    for target in Target::ALL {
        let seeds = target.seeds().unwrap();
        let mut names: Vec<_> = seeds.iter().map(|seed| seed.name.as_str()).collect();
        names.sort_unstable();
        let twice = names.windows(2).find(|pair| pair[0] == pair[1]);
        assert_eq!(twice, None, "{}", target.name());
    }
}

/// A new operation gets a seed.
#[test]
fn every_operation_is_in_a_seed() {
    let seeds = Target::Server.seeds().unwrap();
    let used: Vec<Kind> = seeds
        .iter()
        .flat_map(|seed| operation::split(&seed.input).1)
        .map(|operation| operation.kind)
        .collect();
    for kind in Kind::ALL {
        assert!(used.contains(kind), "no seed has `{}`", kind.name());
    }
}

#[test]
fn brackets_repetitions_and_texts_are_bytes() {
    let packet = bytes(r##"10 [ ("ab#") 2{ 0c "x" } ]"##).unwrap();
    assert_eq!(packet, b"\x10\x09\x00\x03ab#\x0cx\x0cx");
    assert_eq!(bytes("[ 200{ 00 } ]").unwrap()[..2], [0xc8, 0x01]);
}

#[test]
fn what_is_no_byte_is_refused_with_its_line() {
    for (wrong, why) in [
        ("0", "`0` is no pair of hexadecimal digits, text or bracket"),
        (
            "zz",
            "`zz` is no pair of hexadecimal digits, text or bracket",
        ),
        ("( 00", "`)` is missing"),
        ("00 )", "`) ` closes nothing"),
        ("[ 00 )", "`)` in the place of Some(']')"),
        ("\"a", "the text has no closing quote"),
    ] {
        let error = parse(Target::Decode, &format!("= a\n{wrong} ")).unwrap_err();
        let text = format!("{error:#}");
        let why = why.replace(") `", ")`");
        assert!(
            text.starts_with("line 2: ") && text.ends_with(&why),
            "{text}"
        );
    }
    for (wrong, why) in [
        ("turn", "line 1: `= name` comes first"),
        ("= a\nturm", "line 2: turm: no operation is named `turm`"),
        (
            "= a\nturn 0000",
            "line 2: turn 0000: an argument is one byte: 0000",
        ),
    ] {
        let error = parse(Target::Server, wrong).unwrap_err();
        assert_eq!(format!("{error:#}"), why);
    }
}
