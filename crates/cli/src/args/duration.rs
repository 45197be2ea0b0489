//! Durations on the command line and in the configuration file: 500ms, 30s, 1h30m, 7d.

use std::time::Duration;

const TEN_YEARS: Duration = Duration::from_secs(3_660 * 86_400);

/// Parses a duration. The error does not repeat the text.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| "use numbers with a unit (ms, s, m, h, d or w), such as 30s or 1h30m".to_owned())
}

/// Parses a duration that is not zero and at most ten years.
pub(crate) fn positive_duration(text: &str) -> Result<Duration, String> {
    let duration = duration(text)?;
    if duration.is_zero() {
        return Err("it must be longer than 0s".to_owned());
    }
    if duration > TEN_YEARS {
        return Err("it must be at most ten years".to_owned());
    }
    Ok(duration)
}

/// Formats a duration as the flags take it, to the second: `1day 2h 30m`.
pub(crate) fn format_duration(duration: Duration) -> String {
    let seconds = Duration::from_secs(duration.as_secs());
    let shown =
        if seconds.is_zero() { Duration::from_millis(duration.subsec_millis().into()) } else { seconds };
    humantime::format_duration(shown).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        for (text, milliseconds) in [
            ("500ms", 500),
            ("5s", 5_000),
            ("2m", 120_000),
            ("30m", 1_800_000),
            ("1h30m", 5_400_000),
            ("7d", 604_800_000),
            ("1w", 604_800_000),
            ("1d2h3m4s", 93_784_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
            assert_eq!(positive_duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for bad in ["", "5", "s", "m", "-1s", "-1m", "99999999999999999999s", "5 parsecs"] {
            let error = duration(bad).expect_err(bad);
            assert!(error.contains("such as 30s") && !error.contains("parsecs"), "{bad}: {error}");
        }
    }

    #[test]
    fn positive_durations_have_bounds() {
        for bad in ["0s", "9999w", "11y"] {
            assert!(positive_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn formatted_durations_can_be_parsed() {
        for (milliseconds, text) in
            [(1_800_000, "30m"), (5_400_000, "1h 30m"), (604_800_000, "7days"), (250, "250ms")]
        {
            let formatted = format_duration(Duration::from_millis(milliseconds));
            assert_eq!(formatted, text);
            assert_eq!(duration(&formatted), Ok(Duration::from_millis(milliseconds)));
        }
        assert_eq!(format_duration(Duration::from_millis(5_250)), "5s");
    }
}
