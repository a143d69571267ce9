//! Where a replay begins, as a client writes it: in the user property `replay-from`, or in the level
//! behind `$replay/` of a filter.
//!
//! | text | what |
//! |---|---|
//! | `-90s`, `-15m`, `-1h`, `-7d` | so long ago |
//! | `2026-11-23T12:00:00Z` | an RFC 3339 time |
//! | `commit:4711` | a commit of the log |
//! | `last:100` | the newest messages that match |
//!
//! None of these has a slash. A time with an offset east of Greenwich has a `+`, which no level of
//! a filter may contain: there it is written in UTC or, with the same meaning, west of it.

use std::str::FromStr;
use std::time::Duration;

use storage::CommitNumber;

/// How many messages `last:` may ask for.
pub(crate) const LAST_MAX: u32 = 100_000;

/// See the module's documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReplayFrom {
    /// So long before now.
    Ago(Duration),
    /// Milliseconds since 1970.
    Time {
        /// The time.
        at_ms: i64,
    },
    /// This commit.
    Commit(CommitNumber),
    /// So many messages; 1 to [`LAST_MAX`].
    Last(u32),
}

/// It is none of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReplayFromError {
    #[error(
        "replay from an unknown place: allowed are -90s, -15m, -1h, -7d, an RFC 3339 time such as \
         2026-11-23T12:00:00Z, commit:4711 and last:100"
    )]
    Form,
    #[error("replay of too many or no messages: allowed are last:1 to last:{LAST_MAX}")]
    Last,
}

impl FromStr for ReplayFrom {
    type Err = ReplayFromError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(ago) = text.strip_prefix('-') {
            return ago_of(ago).map(Self::Ago).ok_or(ReplayFromError::Form);
        }
        if let Some(number) = text.strip_prefix("commit:") {
            let number = number_of(number).ok_or(ReplayFromError::Form)?;
            return Ok(Self::Commit(CommitNumber(number)));
        }
        if let Some(count) = text.strip_prefix("last:") {
            let count = count.parse().ok().filter(|_| number_of(count).is_some());
            let count = count.filter(|count| (1..=LAST_MAX).contains(count));
            return count.map(Self::Last).ok_or(ReplayFromError::Last);
        }
        let at_ms = rfc3339_ms(text.as_bytes()).ok_or(ReplayFromError::Form)?;
        Ok(Self::Time { at_ms })
    }
}

/// Digits alone: no sign.
fn number_of(text: &str) -> Option<u64> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

fn ago_of(text: &str) -> Option<Duration> {
    let seconds = match text.chars().last()? {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return None,
    };
    let count = number_of(text.get(..text.len() - 1)?)?;
    Some(Duration::from_secs(count.saturating_mul(seconds)))
}

/// Milliseconds since 1970 of `2026-11-23T12:00:00.5+01:00`.
fn rfc3339_ms(text: &[u8]) -> Option<i64> {
    let mut rest = text;
    let year = digits(&mut rest, 4)?;
    byte(&mut rest, b"-")?;
    let month = digits(&mut rest, 2).filter(|month| (1..=12).contains(month))?;
    byte(&mut rest, b"-")?;
    let day = digits(&mut rest, 2).filter(|day| (1..=days_of(year, month)).contains(day))?;
    byte(&mut rest, b"Tt ")?;
    let hour = digits(&mut rest, 2).filter(|hour| *hour < 24)?;
    byte(&mut rest, b":")?;
    let minute = digits(&mut rest, 2).filter(|minute| *minute < 60)?;
    byte(&mut rest, b":")?;
    // A leap second is the first of the next minute.
    let second = digits(&mut rest, 2).filter(|second| *second <= 60)?;
    let fraction_ms = match rest.first() {
        Some(b'.') => fraction_ms(&mut rest)?,
        _ => 0,
    };
    let offset_minutes = offset_minutes(&mut rest)?;
    let minutes = (days_since_1970(year, month, day) * 24 + hour) * 60 + minute - offset_minutes;
    rest.is_empty()
        .then_some((minutes * 60 + second) * 1_000 + fraction_ms)
}

fn byte(rest: &mut &[u8], allowed: &[u8]) -> Option<u8> {
    let (first, after) = rest.split_first()?;
    *rest = after;
    allowed.contains(first).then_some(*first)
}

fn digits(rest: &mut &[u8], count: usize) -> Option<i64> {
    let (digits, after) = rest.split_at_checked(count)?;
    *rest = after;
    digits.iter().try_fold(0, |number, digit| {
        let is_digit = digit.is_ascii_digit();
        is_digit.then(|| number * 10 + i64::from(digit - b'0'))
    })
}

/// What follows a point: at least one digit; those behind the third are too fine.
fn fraction_ms(rest: &mut &[u8]) -> Option<i64> {
    byte(rest, b".")?;
    let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (fraction, after) = rest.split_at_checked(count)?;
    *rest = after;
    let millis = fraction.iter().chain(b"00").take(3);
    let ms = millis.fold(0, |number, digit| number * 10 + i64::from(digit - b'0'));
    (count > 0).then_some(ms)
}

fn offset_minutes(rest: &mut &[u8]) -> Option<i64> {
    let sign = match byte(rest, b"Zz+-")? {
        b'+' => 1,
        b'-' => -1,
        _ => return Some(0),
    };
    let hours = digits(rest, 2).filter(|hours| *hours < 24)?;
    byte(rest, b":")?;
    let minutes = digits(rest, 2).filter(|minutes| *minutes < 60)?;
    Some(sign * (hours * 60 + minutes))
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Years 0 to 9999.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    /// From the first day of the year 0 on.
    const DAYS_TO_1970: i64 = 719_528;
    let leap_years = match year {
        0 => 0,
        // The year 0 is one of them.
        year => 1 + (year - 1) / 4 - (year - 1) / 100 + (year - 1) / 400,
    };
    let of_months: i64 = (1..month).map(|month| days_of(year, month)).sum();
    year * 365 + leap_years + of_months + day - 1 - DAYS_TO_1970
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn from(text: &str) -> Result<ReplayFrom, ReplayFromError> {
        text.parse()
    }

    fn at(at_ms: i64) -> Result<ReplayFrom, ReplayFromError> {
        Ok(ReplayFrom::Time { at_ms })
    }

    #[test]
    fn every_form_is_understood() {
        let ago = |seconds| Ok(ReplayFrom::Ago(Duration::from_secs(seconds)));
        assert_eq!(from("-90s"), ago(90));
        assert_eq!(from("-15m"), ago(900));
        assert_eq!(from("-1h"), ago(3_600));
        assert_eq!(from("-7d"), ago(604_800));
        assert_eq!(from("-18446744073709551615d"), ago(u64::MAX));
        assert_eq!(from("commit:0"), Ok(ReplayFrom::Commit(CommitNumber(0))));
        assert_eq!(from("last:1"), Ok(ReplayFrom::Last(1)));
        assert_eq!(from("last:100000"), Ok(ReplayFrom::Last(LAST_MAX)));
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        assert_eq!(from("1970-01-01T00:00:00Z"), at(0));
        assert_eq!(from("1969-12-31T23:59:59.999Z"), at(-1));
        assert_eq!(from("2000-02-29T12:00:00z"), at(951_825_600_000));
        assert_eq!(from("2026-11-23t11:57:07.1234Z"), at(1_795_435_027_123));
        assert_eq!(from("2026-11-23 12:57:07+01:00"), at(1_795_435_027_000));
        assert_eq!(from("2026-11-23T06:27:07-05:30"), at(1_795_435_027_000));
        assert_eq!(from("2016-12-31T23:59:60Z"), from("2017-01-01T00:00:00Z"));
        assert_eq!(from("0000-01-01T00:00:00Z"), at(-62_167_219_200_000));
        assert_eq!(from("9999-12-31T23:59:59Z"), at(253_402_300_799_000));
    }

    #[test]
    fn what_is_none_of_them_is_refused_with_what_is_allowed() {
        for text in [
            "",
            "-",
            "-1",
            "-1w",
            "-h",
            "--1h",
            "-+1h",
            "1h",
            "-1 h",
            "-1\u{20ac}",
            "commit:",
            "commit:-1",
            "commit:+1",
            "2026-11-23",
            "2026-11-23T12:00:00",
            "2026-11-23T12:00Z",
            "2026-11-31T12:00:00Z",
            "2025-02-29T12:00:00Z",
            "1900-02-29T12:00:00Z",
            "2026-13-01T12:00:00Z",
            "2026-11-23T24:00:00Z",
            "2026-11-23T12:00:61Z",
            "2026-11-23T12:00:00.Z",
            "2026-11-23T12:00:00Z ",
            "2026-11-23T12:00:00+1:00",
            "99999999999999999999",
            "-99999999999999999999d",
        ] {
            assert_eq!(from(text), Err(ReplayFromError::Form), "{text}");
        }
        for text in [
            "last:",
            "last:0",
            "last:100001",
            "last:-1",
            "last:+1",
            "last:x",
        ] {
            assert_eq!(from(text), Err(ReplayFromError::Last), "{text}");
        }
        assert_eq!(
            from("last:0").unwrap_err().to_string(),
            "replay of too many or no messages: allowed are last:1 to last:100000"
        );
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in any::<String>(), tail in ".{0,12}") {
            let _ = from(&text);
            for start in ["-", "commit:", "last:", "2026-11-23T12:00:00", "2026-11-23T12:00:00."] {
                let _ = from(&format!("{start}{tail}"));
            }
        }
    }
}
