//! What is said of a mistake in a file: the line, the unknown name, and the one that was probably meant.

/// The line of an offset, from 1.
pub(super) fn line(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

/// The parser's message, with the known name that is nearest to an unknown one.
pub(super) fn explain(message: &str) -> String {
    let message = message.trim();
    let Some((unknown, rest)) = message.strip_prefix("unknown field `").and_then(|rest| rest.split_once('`'))
    else {
        return message.to_owned();
    };
    let known: Vec<_> = rest.split('`').skip(1).step_by(2).collect();
    match nearest(unknown, &known) {
        Some(name) => format!("unknown key `{unknown}`; did you mean `{name}`?"),
        None => format!("unknown key `{unknown}`; there are {}", known.join(", ")),
    }
}

/// The one of the known names that the unknown one is a slip of.
pub(super) fn nearest<'a>(unknown: &str, known: &[&'a str]) -> Option<&'a str> {
    let close = known.iter().map(|name| (strsim::damerau_levenshtein(unknown, name), *name)).min()?;
    (close.0 <= 1 + unknown.chars().count() / 4).then_some(close.1)
}

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
