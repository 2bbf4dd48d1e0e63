//! Durations and sizes as people write them: a whole number and a unit, nothing between them.

use std::time::Duration;

/// Why a text is no duration or size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnitError {
    /// It does not begin with a digit, or the number is not whole.
    #[error("expected a whole number and one of the units {units}")]
    NoNumber {
        /// The known units.
        units: &'static str,
    },
    /// The number stands alone.
    #[error("a bare number has no unit; add one of {units}")]
    NoUnit {
        /// The known units.
        units: &'static str,
    },
    /// What follows the number is no known unit.
    #[error("unknown unit; known: {units}")]
    UnknownUnit {
        /// The known units.
        units: &'static str,
    },
    /// The value does not fit.
    #[error("too large")]
    TooLarge,
}

/// `500ms`, `5s`, `10m`, `1h`.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let units = "ms, s, m, h";
    let milliseconds = parse(text, units, |unit| match unit {
        "ms" => Some(1),
        "s" => Some(1000),
        "m" => Some(60 * 1000),
        "h" => Some(60 * 60 * 1000),
        _ => None,
    })?;
    Ok(Duration::from_millis(milliseconds))
}

/// Bytes of `512B`, `16KiB`, `48MiB`, `1GiB`. The units are powers of 1024 and are spelled so.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    parse(text, "B, KiB, MiB, GiB", |unit| match unit {
        "B" => Some(1),
        "KiB" => Some(1024),
        "MiB" => Some(1024 * 1024),
        "GiB" => Some(1024 * 1024 * 1024),
        _ => None,
    })
}

fn parse(
    text: &str,
    units: &'static str,
    factor: impl Fn(&str) -> Option<u64>,
) -> Result<u64, UnitError> {
    let digits_end = text
        .find(|character: char| !character.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits_end);
    if number.is_empty() {
        return Err(UnitError::NoNumber { units });
    }
    if unit.is_empty() {
        return Err(UnitError::NoUnit { units });
    }
    let factor = factor(unit).ok_or(UnitError::UnknownUnit { units })?;
    let number: u64 = number.parse().map_err(|_| UnitError::TooLarge)?;
    number.checked_mul(factor).ok_or(UnitError::TooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, milliseconds) in [
            ("500ms", 500),
            ("5s", 5000),
            ("10m", 600_000),
            ("1h", 3_600_000),
            ("0s", 0),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(milliseconds)),
                "{text}"
            );
        }
        let units = "ms, s, m, h";
        for text in ["", "s", "-5s", "+5s", " 5s", ".5s"] {
            assert_eq!(
                parse_duration(text),
                Err(UnitError::NoNumber { units }),
                "{text}"
            );
        }
        assert_eq!(parse_duration("5"), Err(UnitError::NoUnit { units }));
        for text in ["5 s", "5sec", "5S", "1.5s", "1h30m", "5d"] {
            assert_eq!(
                parse_duration(text),
                Err(UnitError::UnknownUnit { units }),
                "{text}"
            );
        }
        for text in ["18446744073709551616ms", "18446744073709551615s"] {
            assert_eq!(parse_duration(text), Err(UnitError::TooLarge), "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("512B", 512),
            ("16KiB", 16_384),
            ("48MiB", 50_331_648),
            ("1GiB", 1 << 30),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        let units = "B, KiB, MiB, GiB";
        assert_eq!(parse_size("48"), Err(UnitError::NoUnit { units }));
        for text in ["48MB", "48mib", "48 MiB", "48M"] {
            assert_eq!(
                parse_size(text),
                Err(UnitError::UnknownUnit { units }),
                "{text}"
            );
        }
        assert_eq!(
            parse_size("18446744073709551615GiB"),
            Err(UnitError::TooLarge)
        );
    }
}
