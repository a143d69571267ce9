//! Times on the command line: RFC 3339, or milliseconds since 1970.

const MS_PER_DAY: i64 = 86_400_000;

/// The time in milliseconds since 1970.
pub(crate) fn parse_time(text: &str) -> Result<i64, &'static str> {
    text.parse().ok().or_else(|| rfc_3339(text)).ok_or(
        "allowed: 2026-11-22T12:00:00Z, 2026-11-22T12:00:00.5+01:00, or milliseconds since 1970",
    )
}

/// The time as RFC 3339 has it, in UTC.
pub(super) fn format_time(ms: i64) -> String {
    let (mut days, in_day) = (ms.div_euclid(MS_PER_DAY), ms.rem_euclid(MS_PER_DAY));
    let mut year = 1970;
    // Before 1970 nothing was recorded; a clock that says so is shown in milliseconds.
    if !(0..=2_932_896).contains(&days) {
        return ms.to_string();
    }
    while days >= 365 + i64::from(is_leap(year)) {
        days -= 365 + i64::from(is_leap(year));
        year += 1;
    }
    let mut month = 1;
    for length in month_days(year) {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (day, seconds, ms) = (days + 1, in_day / 1000, in_day % 1000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

fn month_days(year: i64) -> [i64; 12] {
    let february = 28 + i64::from(is_leap(year));
    [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
}

fn rfc_3339(text: &str) -> Option<i64> {
    let (date, rest) = text.split_once(['T', 't', ' '])?;
    let [year, month, day] = numbers(date, '-')?;
    let month_days = month_days(year);
    let before = month_days.get(..usize::try_from(month.checked_sub(1)?).ok()?)?;
    let days_of_month = month_days.get(before.len())?;
    if date.len() != 10 || !(1..=*days_of_month).contains(&day) || !(1970..=9999).contains(&year) {
        return None;
    }
    let years: i64 = (1970..year)
        .map(|year| 365 + i64::from(is_leap(year)))
        .sum();
    let days = years + before.iter().sum::<i64>() + day - 1;

    let zone_at = rest.find(['Z', 'z', '+', '-'])?;
    let (time, zone) = rest.split_at(zone_at);
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let [hour, minute, second] = numbers(time, ':')?;
    if time.len() != 8 || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let digits = fraction.get(..fraction.len().min(3))?;
    let is_digits = !fraction.is_empty() && fraction.bytes().all(|byte| byte.is_ascii_digit());
    let ms: i64 = is_digits.then(|| format!("{digits:0<3}").parse().ok())??;
    let time_ms = ((hour * 60 + minute) * 60 + second) * 1000 + ms;
    Some(days * MS_PER_DAY + time_ms - zone_minutes(zone)? * 60_000)
}

/// How far the zone is ahead.
fn zone_minutes(zone: &str) -> Option<i64> {
    let (sign, zone) = match zone.split_at_checked(1)? {
        ("Z" | "z", "") => return Some(0),
        ("+", zone) => (1, zone),
        ("-", zone) => (-1, zone),
        _ => return None,
    };
    let [hours, minutes] = numbers(zone, ':')?;
    (zone.len() == 5 && hours <= 23 && minutes <= 59).then_some(sign * (hours * 60 + minutes))
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn numbers<const N: usize>(text: &str, separator: char) -> Option<[i64; N]> {
    let number = |part: &str| {
        let is_digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        is_digits.then(|| part.parse::<i64>().ok())?
    };
    let found: Option<Vec<i64>> = text.split(separator).map(number).collect();
    found?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_rfc_3339_has_them() {
        for (text, ms) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2026-11-22T12:00:00Z", 1_795_348_800_000),
            ("2026-11-22T13:00:00.25+01:00", 1_795_348_800_250),
            ("2024-02-29 23:59:59.999-00:30", 1_709_252_999_999),
            ("1795348800000", 1_795_348_800_000),
            ("-5", -5),
        ] {
            assert_eq!(parse_time(text), Ok(ms), "{text}");
        }
        for ms in [0, 951_782_400_000, 1_709_251_199_999, 1_795_348_800_250] {
            assert_eq!(parse_time(&format_time(ms)), Ok(ms));
        }
        assert_eq!(format_time(1_795_348_800_250), "2026-11-22T12:00:00.250Z");
        assert_eq!(format_time(-1), "-1");
        for wrong in [
            "",
            "yesterday",
            "2026-11-22",
            "2026-13-01T00:00:00Z",
            "2023-02-29T00:00:00Z",
            "2026-1-01T00:00:00Z",
            "2026-11-22T24:00:00Z",
            "2026-11-22T12:00:00",
            "2026-11-22T12:00:00+0100",
            "2026-11-22T12:00:00.Z",
            "é026-11-22T12:00:00Z",
        ] {
            assert!(parse_time(wrong).is_err(), "{wrong}");
        }
    }
}
