//! Durations, sizes and file modes as people write them. Pure.

use std::time::Duration;

/// `10s`, `500ms`, `1.5m`, `2h`, or a number of seconds.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let factor = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number.parse::<f64>().ok()? * factor).ok()
}

/// `512MiB`, `2GiB`, `500MB`, or a number of bytes.
pub(super) fn size(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let factor = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// Octal permission bits: `0766`, `766`, `0o766`.
pub(super) fn mode(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let mode = u32::from_str_radix(digits, 8).ok()?;
    (mode <= 0o777).then_some(mode)
}

/// A number without sign or exponent, and the unit behind it.
fn split(text: &str) -> Option<(&str, &str)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (!number.is_empty()).then_some((number, unit.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_their_unit() {
        let ms = Duration::from_millis;
        for (text, want) in [
            ("10s", Some(ms(10_000))),
            ("500ms", Some(ms(500))),
            ("1.5m", Some(ms(90_000))),
            ("2 h", Some(ms(7_200_000))),
            ("3", Some(ms(3_000))),
            ("0", Some(ms(0))),
            ("", None),
            ("s", None),
            ("-1s", None),
            ("1e3", None),
            ("1..5s", None),
            ("10 parsecs", None),
            ("99999999999999999999999999h", None),
        ] {
            assert_eq!(duration(text), want, "{text}");
        }
    }

    #[test]
    fn sizes_are_read_with_their_unit() {
        for (text, want) in [
            ("512MiB", Some(512 << 20)),
            ("1 gib", Some(1 << 30)),
            ("500MB", Some(500_000_000)),
            ("4096", Some(4096)),
            ("1.5GiB", None),
            ("18446744073709551615KiB", None),
            ("12 apples", None),
        ] {
            assert_eq!(size(text), want, "{text}");
        }
    }

    #[test]
    fn modes_are_octal_however_they_are_written() {
        for (text, want) in [
            ("0766", Some(0o766)),
            ("766", Some(0o766)),
            ("0o600", Some(0o600)),
            ("789", None),
            ("1777", None),
            ("+66", None),
            ("rw", None),
        ] {
            assert_eq!(mode(text), want, "{text}");
        }
    }
}
