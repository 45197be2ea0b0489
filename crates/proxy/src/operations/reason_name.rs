//! Names of reasons.

/// Whether it is a reason: snake case, at most 64 bytes.
pub(super) fn is_reason(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// The text as a reason, for a hint: `Insufficient balance: 3` becomes `insufficient_balance_3`.
pub(crate) fn as_reason(text: &str) -> Option<String> {
    let mut reason = String::new();
    for c in text.chars().map(|c| c.to_ascii_lowercase()) {
        if c.is_ascii_alphanumeric() {
            reason.push(c);
        } else if !reason.is_empty() && !reason.ends_with('_') {
            reason.push('_');
        }
        if reason.len() == 60 {
            break;
        }
    }
    let reason = reason.trim_start_matches(|c: char| c.is_ascii_digit() || c == '_').trim_end_matches('_');
    is_reason(reason).then(|| reason.to_owned())
}
