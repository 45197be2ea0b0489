//! A length of time as operators write it: 30m, 1h30m, 7d.

use std::time::Duration;

/// Whole numbers with a unit each, from the largest on.
pub(crate) fn span(text: &str) -> Result<Duration, String> {
    let wrong = || "whole numbers with ms, s, m, h, d or w, such as 30m or 1h30m".to_owned();
    let (mut rest, mut total, mut last) = (text, 0_u64, u64::MAX);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let millis = match &rest[..unit] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 604_800_000,
            _ => return Err(wrong()),
        };
        if millis >= last {
            return Err(wrong());
        }
        (rest, last) = (&rest[unit..], millis);
        let more = number.checked_mul(millis).and_then(|more| total.checked_add(more));
        total = more.filter(|total| *total <= 3_660 * 86_400_000).ok_or("longer than ten years")?;
    }
    if total == 0 { Err(wrong()) } else { Ok(Duration::from_millis(total)) }
}

/// The same, back.
pub(crate) fn shown(span: Duration) -> String {
    let mut left = span.as_secs();
    let mut text = String::new();
    for (unit, seconds) in [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)] {
        if left >= seconds {
            text.push_str(&format!("{}{unit}", left / seconds));
            left %= seconds;
        }
    }
    if text.is_empty() { format!("{}ms", span.as_millis()) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_and_shown() {
        for (text, seconds) in [("30m", 1_800), ("1h30m", 5_400), ("7d", 604_800), ("1d2h3m4s", 93_784)] {
            assert_eq!(span(text), Ok(Duration::from_secs(seconds)));
            assert_eq!(shown(Duration::from_secs(seconds)), text);
        }
        assert_eq!(span("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(shown(Duration::from_millis(250)), "250ms");
        for bad in
            ["", "5", "m", "0s", "-1m", "1.5h", "1m1h", "1m1m", "5 m", "1y", "99999999999999999999d", "9999w"]
        {
            assert!(span(bad).is_err(), "{bad}");
        }
    }
}
