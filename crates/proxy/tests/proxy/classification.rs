//! What an answer says becomes the outcome and the reason.

use http::Response;

use crate::support::*;

#[tokio::test]
async fn a_json_message_becomes_a_reason_of_the_file_and_passes_unchanged() {
    const BODY: &str = r#"{"message":"Insufficient balance: 3 hours left"}"#;
    let backend = fixed(400, "application/json; charset=utf-8", BODY).await;
    let running = start(backend);
    let answer = running.raw(post("/pay/7", "{}")).await;
    assert!(answer.ends_with(BODY) && status(&answer) == 400, "{answer}");
    assert_eq!(running.failures(PAY, "rejected", "insufficient_balance"), 1.0);
    assert_eq!(running.ended(PAY, "rejected"), 1.0);
}

#[tokio::test]
async fn a_status_decides_where_no_rule_matches() {
    for (code, outcome, reason) in [
        (400, "rejected", "invalid_request"),
        (409, "rejected", "application"),
        (403, "rejected", "unauthorized"),
        (500, "failed", "other"),
        (504, "failed", "timeout"),
    ] {
        let backend = fixed(code, "application/json", "{\"message\":\"no\"}").await;
        let running = start(backend);
        assert_eq!(status(&running.raw(post("/pay/7", "{}")).await), code);
        assert_eq!(running.failures(PAY, outcome, reason), 1.0, "{code}");
        assert_eq!(running.ended(PAY, outcome), 1.0, "{code}");
    }
}

#[tokio::test]
async fn a_body_over_the_bound_is_not_looked_at_and_passes_whole() {
    let text = format!("{{\"message\":\"Insufficient balance\",\"x\":\"{}\"}}", "y".repeat(100_000));
    let text: &'static str = text.leak();
    let backend = fixed(400, "application/json", text).await;
    let running = start(backend);
    let answer = running.raw(post("/pay/7", "{}")).await;
    assert!(answer.ends_with(text));
    assert_eq!(running.failures(PAY, "rejected", "invalid_request"), 1.0);
}

#[tokio::test]
async fn a_message_in_many_chunks_is_read_whole() {
    let backend = backend(|_| async {
        let (frames, body) = channel();
        tokio::spawn(async move {
            for piece in ["{\"mess", "age\":\"Insuf", "ficient balance\"", "}"] {
                frames.send(http_body::Frame::data(piece.into())).await.unwrap();
            }
        });
        Response::builder().status(400).header("content-type", "application/json").body(body).unwrap()
    })
    .await;
    let running = start(backend);
    let mut stream = tokio::net::TcpStream::connect(running.address).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stream, post("/pay/7", "{}").as_bytes()).await.unwrap();
    let answer = read_until(&mut stream, "0\r\n\r\n").await;
    assert!(answer.contains("transfer-encoding: chunked"), "{answer}");
    running.wait_for(PAY, "rejected", 1.0).await;
    assert_eq!(running.failures(PAY, "rejected", "insufficient_balance"), 1.0);
}
