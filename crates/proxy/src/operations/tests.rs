//! The file: what it means, and what is said of mistakes.

use http::{HeaderMap, HeaderValue};
use txnscope::Classification;

use super::*;

const FILE: &str = r#"
[[operation]]
name = "POST /api/retainers/{id}/consume"
[[operation.rejected]]
status = 400
json = "/message"
prefix = "Insufficient balance"
reason = "insufficient_balance"
[[operation.failed]]
header = "x-error-code"
equals = "112"
reason = "write_conflict"
[[operation.rejected]]
json = "/code"
equals = "1042"
reason = "frozen"

[[operation]]
name = "GET /files/{*rest}"

[[rejected]]
status = 409
reason = "already_completed"
"#;

fn parse(text: &str) -> Operations {
    Operations::parse(Path::new("operations.toml"), text).unwrap()
}

fn error(text: &str) -> String {
    Operations::parse(Path::new("operations.toml"), text).expect_err(text).to_string()
}

fn classified(status: u16, headers: &[(&'static str, &'static str)], body: &str) -> Classification {
    let operations = parse(FILE);
    let matched = operations.find(&Method::POST, "/api/retainers/7/consume").unwrap();
    let mut map = HeaderMap::new();
    map.insert("content-type", HeaderValue::from_static("application/json"));
    for (name, value) in headers {
        map.insert(*name, HeaderValue::from_static(value));
    }
    let head = Head { status: StatusCode::from_u16(status).unwrap(), headers: &map };
    let body = wants_body(matched.rules(), head).then_some(body.as_bytes());
    classify(matched.rules(), head, None, body)
}

fn outcome(of: &Classification) -> (&'static str, &'static str) {
    (of.outcome().as_str(), of.reason().as_str())
}

#[test]
fn the_first_rule_that_matches_decides_and_else_the_status() {
    for (status, headers, body, expected) in [
        (400, &[][..], r#"{"message":"Insufficient balance: 3 left"}"#, ("rejected", "insufficient_balance")),
        (400, &[], r#"{"message":"amount must be positive"}"#, ("rejected", "invalid_request")),
        (422, &[], r#"{"message":"Insufficient balance"}"#, ("rejected", "invalid_request")),
        (500, &[("x-error-code", "112")], "{}", ("failed", "write_conflict")),
        (200, &[], r#"{"code":1042}"#, ("rejected", "frozen")),
        (200, &[], r#"{"code":"1042"}"#, ("rejected", "frozen")),
        (409, &[], "{}", ("rejected", "already_completed")),
        (
            400,
            &[("content-type", "text/html")],
            r#"{"message":"Insufficient balance"}"#,
            ("rejected", "invalid_request"),
        ),
        (
            400,
            &[("content-encoding", "gzip")],
            r#"{"message":"Insufficient balance"}"#,
            ("rejected", "invalid_request"),
        ),
        (400, &[], r#"{"message":"Insufficient balance"#, ("rejected", "invalid_request")),
        (503, &[], "", ("failed", "other")),
        (504, &[], "", ("failed", "timeout")),
        (401, &[], "", ("rejected", "unauthorized")),
        (200, &[("grpc-status", "7")], "", ("rejected", "unauthorized")),
    ] {
        let found = classified(status, headers, body);
        assert_eq!(outcome(&found), expected, "{status} {headers:?} {body}");
    }
    assert_eq!(classified(201, &[], "{}").outcome(), Outcome::Succeeded);
}

#[test]
fn operations_are_found_by_method_and_template() {
    let operations = parse(FILE);
    let find = |method, path| operations.find(&method, path).map(Matched::name);
    assert_eq!(
        find(Method::POST, "/api/retainers/a%20b/consume"),
        Some(OperationName::named("POST /api/retainers/{id}/consume"))
    );
    assert_eq!(find(Method::GET, "/files/a/b"), Some(OperationName::named("GET /files/{*rest}")));
    for (method, path) in [
        (Method::GET, "/api/retainers/7/consume"),
        (Method::POST, "/api/retainers/7/consume/"),
        (Method::POST, "/api/retainers/7/8/consume"),
        (Method::HEAD, "/files/a"),
    ] {
        assert_eq!(find(method, path), None);
    }
    let counted = operations.count_unmatched(true);
    assert_eq!(counted.find(&Method::GET, "/").map(Matched::name), Some(OperationName::UNMATCHED));
    assert!(parse("unmatched = true").counts_unmatched());
}

#[test]
fn a_mistake_is_named_with_its_line_and_how_to_write_it() {
    let operation = "[[operation]]\nname = \"POST /pay\"\n";
    let rule = |keys: &str| format!("{operation}[[operation.rejected]]\n{keys}\n");
    for (text, expected) in [
        (
            "[[operations]]".to_owned(),
            "operations.toml:1: unknown key `operations`; did you mean `operation`?",
        ),
        (rule("statuss = 400\nreason = \"a\""), ":4: unknown key `statuss`; did you mean `status`?"),
        (rule("status = 400"), ":3: missing field `reason`"),
        (rule("status = 40\nreason = \"a\""), ":4: 40 is no status"),
        (
            rule("status = 400\nreason = \"Insufficient balance\""),
            ":5: a reason is in snake case, at most 64 bytes long, as in \"insufficient_balance\"",
        ),
        (
            rule("status = 409\nreason = \"write_conflict\""),
            ":5: `write_conflict` is a failure of the database",
        ),
        (rule("reason = \"a\""), ":3: a rule without a condition"),
        (rule("equals = \"x\"\nreason = \"a\""), ":3: `equals` and `prefix` compare"),
        (
            rule("json = \"/a\"\nequals = \"x\"\nprefix = \"x\"\nreason = \"a\""),
            ":6: a rule has `equals` or `prefix`",
        ),
        (rule("json = \"/a\"\nheader = \"x\"\nreason = \"a\""), ":4: a rule looks at `header` or at `json`"),
        (rule("json = \"message\"\nreason = \"a\""), ":4: `message` is no JSON pointer: write \"/message\""),
        (rule("header = \"a b\"\nreason = \"a\""), ":4: this is no name of a header"),
        (format!("{operation}{operation}"), ":4: the operation `POST /pay` stands here twice"),
        (
            "[[operation]]\nname = \"POST /a/{id}\"\n[[operation]]\nname = \"POST /a/{number}\"".to_owned(),
            ":4: `/a/{number}` matches the same paths as `/a/{id}`",
        ),
        ("[[operation]]\nname = \"/pay\"".to_owned(), ":2: `/pay` is no operation: write the method"),
        ("[[operation]]\nname = \"post /pay\"".to_owned(), ":2: `post` is no method; did you mean `POST`?"),
        ("[[operation]]\nname = \"POST /pay/:id\"".to_owned(), ":2: `:id` is written `{id}`"),
        ("[[operation]]\nname = \"POST /pay/*\"".to_owned(), ":2: `*` is written `{*rest}`"),
        ("[[operation]]\nname = \"POST pay\"".to_owned(), ":2: the template `pay` must begin with a slash"),
        ("[[operation]]\nname = \"POST /{a\"".to_owned(), ":2: `/{a` is no route template"),
        ("[[operation]]\nname = \"POST /a?b\"".to_owned(), ":2: '?' cannot stand"),
        ("[[operation]\n".to_owned(), "operations.toml:1: "),
    ] {
        let found = error(&text);
        assert!(found.contains(expected), "{text}\n{found}");
    }
}

#[test]
fn every_reason_of_a_file_is_declared() {
    let declared = parse(FILE).count_unmatched(true).declarations();
    let names: Vec<_> = declared.iter().map(txnscope::Operation::name).collect();
    assert_eq!(names, ["POST /api/retainers/{id}/consume", "GET /files/{*rest}", "unmatched"]);
}
