//! A draft of an operations file, from what passes: for a person to edit.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use http::{Method, StatusCode};
use serde_json::Value;

use crate::operations::as_reason;

/// The most routes that are remembered.
const MAX_ROUTES: usize = 500;

/// The most texts of one status of a route.
const MAX_TEXTS: usize = 20;

/// The longest text that becomes a prefix, in bytes.
const MAX_TEXT: usize = 80;

/// Where backends say why they refuse.
const PLACES: [&str; 6] =
    ["/message", "/error", "/code", "/error/message", "/error/code", "/errors/0/message"];

/// Remembers the routes, statuses and error texts that pass, and drafts an operations file of them.
///
/// Its memory is bounded: 500 routes, 20 texts for each status of a route. Ids in paths and what follows the first digit or
/// quote of a text are not kept.
#[derive(Debug, Default)]
pub struct Learner {
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    routes: BTreeMap<(String, String), Route>,
    /// Requests of further routes.
    more: u64,
}

#[derive(Debug, Default)]
struct Route {
    statuses: BTreeMap<u16, u64>,
    texts: BTreeMap<u16, BTreeMap<Text, u64>>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Text {
    place: &'static str,
    is_code: bool,
    text: String,
}

impl Learner {
    /// A learner who has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn learn(&self, method: &Method, path: &str, status: StatusCode, body: Option<&[u8]>) {
        let texts = body.map(texts).unwrap_or_default();
        let route = (method.as_str().to_owned(), template(path));
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if route.0.len() > 16 || (!seen.routes.contains_key(&route) && seen.routes.len() >= MAX_ROUTES) {
            seen.more += 1;
            return;
        }
        let route = seen.routes.entry(route).or_default();
        *route.statuses.entry(status.as_u16()).or_default() += 1;
        let known = route.texts.entry(status.as_u16()).or_default();
        for text in texts {
            if known.len() < MAX_TEXTS || known.contains_key(&text) {
                *known.entry(text).or_default() += 1;
            }
        }
    }

    /// The draft: an operations file with comments.
    #[must_use]
    pub fn draft(&self) -> String {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut draft = "# A draft of an operations file, from what has passed. Edit it:\n\
                         # - merge templates whose parts are ids that were not recognized\n\
                         # - delete what is no operation, and rules that say no more than the status does\n\
                         # - give reasons the names that your dashboards are to show\n"
            .to_owned();
        // What exists is answered with something else than 404 at times; the rest is what scanners ask for.
        let exists = |route: &Route| route.statuses.keys().any(|status| !matches!(status, 404 | 405));
        let mut left_out = 0;
        for ((method, template), route) in &seen.routes {
            if exists(route) {
                route.draft(method, template, &mut draft);
            } else {
                left_out += 1;
            }
        }
        if left_out > 0 {
            let _ =
                write!(draft, "\n# {left_out} routes were never answered with anything but 404 or 405.\n");
        }
        if seen.more > 0 {
            let _ = write!(draft, "\n# {} requests of further routes are not here.\n", seen.more);
        }
        draft
    }
}

impl Route {
    fn draft(&self, method: &str, template: &str, draft: &mut String) {
        let statuses: Vec<_> =
            self.statuses.iter().map(|(status, count)| format!("{status}: {count}")).collect();
        let mut text = format!("[[operation]] # {}\n", statuses.join(", "));
        let _ = writeln!(text, "name = \"{method} {template}\"");
        for (status, texts) in &self.texts {
            for (found, count) in texts {
                let _ = write!(text, "[[operation.rejected]] # {count} times\nstatus = {status}\n");
                let _ = writeln!(text, "json = \"{}\"", found.place);
                let how = if found.is_code { "equals" } else { "prefix" };
                let _ = writeln!(text, "{how} = {}", Value::from(found.text.as_str()));
                let named = if found.is_code { format!("code_{}", found.text) } else { found.text.clone() };
                let reason = as_reason(&named).unwrap_or_else(|| "application".to_owned());
                let _ = writeln!(text, "reason = \"{reason}\"");
            }
        }
        draft.push('\n');
        // Requests that only read are not counted by default.
        let is_read_only = matches!(method, "GET" | "HEAD" | "OPTIONS");
        for line in text.lines() {
            let _ = writeln!(draft, "{}{line}", if is_read_only { "# " } else { "" });
        }
    }
}

/// The path with ids replaced, and with everything that no template is made of.
fn template(path: &str) -> String {
    let mut ids = 0;
    let segments = path.split('/').map(|segment| {
        if !is_id(segment) {
            return segment.to_owned();
        }
        ids += 1;
        if ids == 1 { "{id}".to_owned() } else { format!("{{id{ids}}}") }
    });
    // No route of a backend has more parts; what does is a stranger's.
    let template: Vec<_> = segments.take(16).collect();
    template.join("/")
}

fn is_id(segment: &str) -> bool {
    if segment.is_empty() {
        return false;
    }
    let all = |is: fn(&u8) -> bool| segment.bytes().all(|byte| is(&byte));
    let any = |is: fn(&u8) -> bool| segment.bytes().any(|byte| is(&byte));
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
    let has_digit = any(u8::is_ascii_digit);
    let is_hex = |byte: &u8| byte.is_ascii_hexdigit() || *byte == b'-';
    let has_upper = any(u8::is_ascii_uppercase);
    !all(is_word)
        || all(u8::is_ascii_digit)
        || (segment.len() >= 8 && all(is_hex) && has_digit)
        || (segment.len() >= 16 && has_digit && (has_upper || !segment.contains(['-', '.'])))
        || segment.len() > 64
}

/// What a body says of why a request is refused.
fn texts(body: &[u8]) -> Vec<Text> {
    let Ok(body) = serde_json::from_slice::<Value>(body) else { return Vec::new() };
    PLACES
        .into_iter()
        .filter_map(|place| {
            let value = body.pointer(place)?;
            let is_code = place.ends_with("/code");
            let text = match value {
                Value::String(text) if is_code => text.clone(),
                Value::Number(number) if is_code => number.to_string(),
                Value::String(text) => prefix(text),
                _ => return None,
            };
            let is_code_text = |text: &str| {
                text.len() <= 64
                    && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
            };
            let is_useful = if is_code { is_code_text(&text) } else { text.len() >= 4 };
            is_useful.then_some(Text { place, is_code, text })
        })
        .collect()
}

/// Up to the first digit, quote or control character: what follows is a value.
fn prefix(text: &str) -> String {
    let is_value = |c: char| c.is_ascii_digit() || c.is_control() || "'\"`´‘’“”„«»{[<".contains(c);
    let mut end = text.find(is_value).unwrap_or(text.len()).min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].trim_end_matches(|c: char| c.is_whitespace() || "$€£:;,-#(=".contains(c)).to_owned()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::Operations;

    #[test]
    fn ids_in_paths_become_parameters() {
        for (path, expected) in [
            ("/api/retainers/65f1c0ffee65f1c0ffee1234/consume", "/api/retainers/{id}/consume"),
            ("/users/7/orders/0d9ff7a6-1d3c-4b52-9a35-0c7a3e1d2f4b", "/users/{id}/orders/{id2}"),
            ("/customers/cus_NffrFeUfNV2Hib12", "/customers/{id}"),
            ("/users/ann@example.org", "/users/{id}"),
            ("/a%20b", "/{id}"),
            ("/x\"\n[[operation]]", "/{id}"),
            ("/api/v1/payments", "/api/v1/payments"),
            ("/facade/accessed", "/facade/accessed"),
            ("/", "/"),
        ] {
            assert_eq!(template(path), expected, "{path}");
        }
    }

    #[test]
    fn a_draft_is_an_operations_file() {
        let learner = Learner::new();
        let learn = |method, path: &str, status, body: &str| {
            learner.learn(&method, path, StatusCode::from_u16(status).unwrap(), Some(body.as_bytes()));
        };
        learn(Method::POST, "/pay/1", 200, "{}");
        learn(Method::POST, "/pay/2", 400, r#"{"message":"Insufficient balance: 3 hours","code":"E17"}"#);
        learn(Method::POST, "/pay/3", 400, r#"{"message":"Insufficient balance: 4 hours"}"#);
        learn(Method::POST, "/pay/3", 409, r#"{"error":{"message":"Payment \"x\" is done"}}"#);
        learn(Method::GET, "/pay/3", 200, "");
        learn(Method::GET, "/wp-admin", 404, "");
        let draft = learner.draft();
        assert!(
            draft.contains("prefix = \"Insufficient balance\"\nreason = \"insufficient_balance\""),
            "{draft}"
        );
        assert!(draft.contains("[[operation.rejected]] # 2 times"), "{draft}");
        assert!(draft.contains("equals = \"E17\"\nreason = \"code_e17\""), "{draft}");
        assert!(draft.contains("json = \"/error/message\"\nprefix = \"Payment\""), "{draft}");
        assert!(draft.contains("# name = \"GET /pay/{id}\"") && !draft.contains("wp-admin"), "{draft}");
        let operations = Operations::parse(Path::new("draft.toml"), &draft).unwrap();
        assert_eq!(operations.len(), 1);
    }

    #[test]
    fn memory_is_bounded_whatever_passes() {
        let learner = Learner::new();
        for n in 0..2 * MAX_ROUTES {
            let path = format!(
                "/x{}",
                char::from(b'a' + u8::try_from(n % 26).unwrap()).to_string().repeat(1 + n / 26)
            );
            let body = format!("{{\"message\":\"text {}\"}}", "y".repeat(n % 60));
            learner.learn(&Method::POST, &path, StatusCode::BAD_REQUEST, Some(body.as_bytes()));
            learner.learn(&Method::POST, "/one", StatusCode::BAD_REQUEST, Some(body.as_bytes()));
        }
        let seen = learner.seen.lock().unwrap();
        assert!(seen.routes.len() <= MAX_ROUTES && seen.more > 0);
        let one = &seen.routes[&("POST".to_owned(), "/one".to_owned())];
        assert_eq!(one.texts[&400].len(), MAX_TEXTS);
    }
}
