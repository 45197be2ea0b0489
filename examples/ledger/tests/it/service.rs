//! Routes, authentication and bodies: everything before the business rules.

use anyhow::{Result, ensure};
use futures_util::{StreamExt, stream};
use reqwest::Method;
use serde_json::json;

use crate::environment::{Answer, Bench, TOKEN, with_ledger};

const UNKNOWN: &str = "0123456789abcdef01234567";

#[test]
fn every_route_responds_as_documented() -> Result<()> {
    with_ledger(async |bench| {
        let body = json!({ "clientId": "c", "retainerType": "hourly", "initialAmount": 1000.50 });
        let created = bench.post("/api/retainers", body).await?.expect(201)?;
        ensure!(created.text.contains(r#""currentBalance":1000.5,"#), "{}", created.text);
        ensure!(
            created.json["retainer"]["clientId"] == "c"
                && created.json["retainer"]["retainerType"] == "hourly"
        );
        let id = created.created("retainer")?;

        let consumed = bench
            .post(&format!("/api/retainers/{id}/consume"), json!({ "amount": 800.25, "description": "work" }))
            .await?
            .expect(200)?;
        ensure!(consumed.text.contains(r#""currentBalance":200.25,"#), "{}", consumed.text);
        ensure!(consumed.json["retainer"]["movement"]["description"] == "work");
        ensure!(consumed.json["retainer"]["movement"]["amount"] == 800.25, "{}", consumed.text);

        let replenished = bench
            .post(
                &format!("/api/retainers/{id}/replenish"),
                json!({ "amount": 99.75, "description": "more" }),
            )
            .await?
            .expect(200)?;
        ensure!(replenished.text.contains(r#""currentBalance":300,"#), "{}", replenished.text);

        let read = bench.get(&format!("/api/retainers/{id}")).await?.expect(200)?;
        // The response is the retainer with this movement; the history has a route of its own.
        let mut moved = replenished.json["retainer"].clone();
        let movement = moved.as_object_mut().and_then(|moved| moved.remove("movement"));
        ensure!(moved == read.json["data"], "{} {}", moved, read.text);
        let page = bench.movements(&id, "").await?;
        ensure!(movement.as_ref() == Some(&page["movements"][0]), "{page}");
        ensure!(page["movements"][1] == consumed.json["retainer"]["movement"], "{page}");
        let initial = &page["movements"][2];
        ensure!(initial["kind"] == "deposit" && initial["amount"] == 1000.5, "{page}");
        ensure!(page["movements"][1]["kind"] == "consumption" && page["next"].is_null(), "{page}");
        for time in ["createdAt", "updatedAt"] {
            let text = read.json["data"][time].as_str().unwrap_or("");
            ensure!(text.len() == 24 && text.ends_with('Z') && text.as_bytes()[10] == b'T', "{time}: {text}");
        }

        let payment = bench.payment("pending", Some("invoice-1")).await?.expect(201)?;
        ensure!(payment.json["payment"]["status"] == "pending");
        ensure!(payment.json["payment"]["invoiceId"] == "invoice-1");
        let id = payment.created("payment")?;
        let completed = bench.post(&format!("/api/payments/{id}/complete"), json!({})).await?.expect(200)?;
        ensure!(completed.json["payment"]["status"] == "completed");
        let read = bench.get(&format!("/api/payments/{id}")).await?.expect(200)?;
        ensure!(read.json == completed.json, "{}", read.text);

        let from = bench.account("EUR", json!(1000)).await?;
        let to = bench.account("EUR", json!(0)).await?;
        let transfer = bench.transfer(&from, &to, json!(800)).await?.expect(201)?;
        ensure!(transfer.json["transfer"]["status"] == "completed", "{}", transfer.text);
        ensure!(transfer.json["transfer"]["fromAccountId"] == from.as_str());
        let read = bench.get(&format!("/api/bank-accounts/{from}")).await?.expect(200)?;
        ensure!(read.text.contains(r#""availableBalance":200,"#), "{}", read.text);
        ensure!(bench.account_balance(&to).await? == 800);

        let id = transfer.created("transfer")?;
        let cancel = bench.request(Method::POST, &format!("/api/bank-transfers/{id}/cancel"));
        let cancelled = Answer::to(cancel).await?.expect(200)?;
        ensure!(cancelled.json["transfer"]["status"] == "cancelled");
        ensure!(bench.account_balance(&from).await? == 1000);
        ensure!(bench.account_balance(&to).await? == 0);
        bench.assert_counters_reconcile().await?;
        bench.assert_attempts_are_accounted_for().await
    })
}

#[test]
fn requests_without_token_reveal_nothing() -> Result<()> {
    with_ledger(async |bench| {
        let paths = [
            "/api/retainers",
            "/api/payments",
            "/api/bank-accounts",
            "/api/bank-transfers",
            "/api/nope",
            "/api",
        ];
        for path in paths {
            for method in [Method::GET, Method::POST, Method::DELETE] {
                let bare = || bench.http.request(method.clone(), bench.url(path));
                let answer = Answer::to(bare())
                    .await?
                    .expect_error(401, "Authorization: Bearer <token> is missing")?;
                ensure!(answer.header("www-authenticate") == Some(r#"Bearer realm="ledger""#));
                let wrong = bare().bearer_auth("wrong");
                let answer = Answer::to(wrong).await?.expect_error(401, "The token is not valid")?;
                ensure!(
                    answer.header("www-authenticate").is_some_and(|value| value.contains("invalid_token"))
                );
                let basic = bare().basic_auth("user", Some(TOKEN));
                Answer::to(basic).await?.expect(401)?;
            }
        }
        ensure!(bench.failures("POST /api/payments", "rejected", "unauthorized").await? == 3.0);
        ensure!(bench.count("payments", Default::default()).await? == 0);
        Ok(())
    })
}

#[test]
fn probes_and_metrics_need_no_token() -> Result<()> {
    with_ledger(async |bench| {
        for path in ["/-/healthy", "/-/ready", "/metrics"] {
            let answer = Answer::to(bench.http.get(bench.url(path))).await?;
            ensure!(answer.status == 200, "{path}: {answer:?}");
            ensure!(!answer.text.contains(TOKEN));
        }
        Ok(())
    })
}

#[test]
fn declared_operations_are_exported_as_zero() -> Result<()> {
    with_ledger(async |bench| {
        let scrape = bench.scrape().await?;
        ensure!(ledger::operations::OPERATIONS.len() == 8);
        for operation in ledger::operations::OPERATIONS {
            let labels = [("operation", operation.name())];
            ensure!(scrape.value("transaction_attempts_total", &labels) == Some(0.0), "{operation:?}");
        }
        for (operation, reason) in [
            ("POST /api/retainers/{id}/consume", "insufficient_balance"),
            ("POST /api/payments/{id}/complete", "payment_already_completed"),
            ("POST /api/bank-transfers/{id}/cancel", "transfer_already_cancelled"),
            ("POST /api/bank-transfers", "currency_mismatch"),
        ] {
            ensure!(bench.failures(operation, "rejected", reason).await? == 0.0);
            ensure!(bench.failures(operation, "failed", "write_conflict").await? == 0.0);
            ensure!(bench.failures(operation, "failed", "commit_unknown").await? == 0.0);
        }
        Ok(())
    })
}

#[test]
fn unknown_routes_and_methods_are_json_too() -> Result<()> {
    with_ledger(async |bench| {
        for path in ["/", "/nope", "/api/nope", "/api/retainers/1/2/3", "/api/retainers/"] {
            bench.get(path).await?.expect_error(404, "No such route")?;
            bench.post(path, json!({})).await?.expect_error(404, "No such route")?;
        }
        for (method, path, allowed) in [
            (Method::GET, "/api/retainers", "POST"),
            (Method::DELETE, "/api/payments/0123456789abcdef01234567", "GET,HEAD"),
            (Method::PUT, "/api/bank-transfers/0123456789abcdef01234567/cancel", "POST"),
            (Method::POST, "/-/ready", "GET,HEAD"),
        ] {
            let answer = Answer::to(bench.request(method, path)).await?;
            let answer = answer.expect_error(405, "Method not allowed; see the Allow header")?;
            ensure!(answer.header("allow") == Some(allowed), "{path}: {:?}", answer.headers);
        }
        let scrape = bench.scrape().await?;
        ensure!(scrape.value("transaction_attempts_total", &[("operation", "unmatched")]) == Some(5.0));
        Ok(())
    })
}

#[test]
fn malformed_id_is_rejected_and_unknown_id_is_not_found() -> Result<()> {
    with_ledger(async |bench| {
        let movement = json!({ "amount": 1, "description": "" });
        let routes = [
            ("retainers", "/consume", movement.clone(), "Retainer not found"),
            ("retainers", "/replenish", movement, "Retainer not found"),
            ("payments", "/complete", json!({}), "Payment not found"),
            ("bank-transfers", "/cancel", json!({}), "Bank transfer not found"),
        ];
        for (collection, action, body, error) in routes {
            for id in ["1", "xyz", "0123456789abcdef0123456g", "0123456789abcdef012345678", "%00", "%ff%fe"] {
                let path = format!("/api/{collection}/{id}{action}");
                bench.post(&path, body.clone()).await?.expect_error_about(400, "Malformed id")?;
            }
            bench
                .post(&format!("/api/{collection}/{UNKNOWN}{action}"), body)
                .await?
                .expect_error(404, error)?;
        }
        for (collection, error) in [
            ("retainers", "Retainer not found"),
            ("payments", "Payment not found"),
            ("bank-accounts", "Bank account not found"),
        ] {
            bench.get(&format!("/api/{collection}/xyz")).await?.expect_error_about(400, "Malformed id")?;
            bench.get(&format!("/api/{collection}/{UNKNOWN}")).await?.expect_error(404, error)?;
        }
        ensure!(bench.failures("POST /api/retainers/{id}/consume", "rejected", "not_found").await? == 1.0);
        Ok(())
    })
}

#[test]
fn unreadable_body_is_rejected() -> Result<()> {
    with_ledger(async |bench| {
        for (body, about) in [
            ("", "Malformed JSON"),
            ("{", "Malformed JSON"),
            ("{\"clientId\":\"c\",}", "Malformed JSON"),
            ("nonsense", "Malformed JSON"),
            ("\u{0}", "Malformed JSON"),
            ("null", "Invalid body"),
            ("[]", "Invalid body"),
            ("{}", "missing field `clientId`"),
            (r#"{"clientId":"c","retainerType":"t"}"#, "missing field `initialAmount`"),
            (r#"{"clientId":7,"retainerType":"t","initialAmount":1}"#, "invalid type"),
            (r#"{"clientId":null,"retainerType":"t","initialAmount":1}"#, "invalid type"),
            (r#"{"clientId":"c","clientId":"d","retainerType":"t","initialAmount":1}"#, "duplicate field"),
            (r#"{"clientId":" ","retainerType":"t","initialAmount":1}"#, "clientId must not be empty"),
            (r#"{"clientId":"c","retainerType":"","initialAmount":1}"#, "retainerType must not be empty"),
            (r#"{"clientId":"c","retainerType":"t","initialAmount":1} {}"#, "Malformed JSON"),
        ] {
            bench.post_text("/api/retainers", body).await?.expect_error_about(400, about)?;
        }
        let long = json!({ "clientId": "x".repeat(201), "retainerType": "t", "initialAmount": 1 });
        bench
            .post("/api/retainers", long)
            .await?
            .expect_error(400, "clientId must have at most 200 characters")?;
        for content_type in
            [None, Some("text/plain"), Some("application/x-www-form-urlencoded"), Some("multipart/form-data")]
        {
            let mut request = bench.request(Method::POST, "/api/retainers");
            if let Some(content_type) = content_type {
                request = request.header("content-type", content_type);
            }
            let body = r#"{"clientId":"c","retainerType":"t","initialAmount":1}"#;
            let answer = Answer::to(request.body(body)).await?;
            answer.expect_error(400, "Content-Type must be application/json")?;
        }
        let invalid =
            bench.request(Method::POST, "/api/retainers").header("content-type", "application/json");
        let answer = Answer::to(invalid.body(b"{\"clientId\":\"\xff\"}".to_vec())).await?;
        answer.expect_error_about(400, "Malformed JSON")?;
        ensure!(bench.count("retainers", Default::default()).await? == 0);
        ensure!(bench.failures("POST /api/retainers", "rejected", "invalid_request").await? == 21.0);
        Ok(())
    })
}

#[test]
fn content_type_may_have_parameters_and_capitals() -> Result<()> {
    with_ledger(async |bench| {
        let request = bench
            .request(Method::POST, "/api/retainers")
            .header("content-type", "Application/JSON; charset=utf-8")
            .body(r#"{"clientId":"c","retainerType":"t","initialAmount":1,"unknown":true}"#);
        Answer::to(request).await?.expect(201)?;
        Ok(())
    })
}

#[test]
fn large_body_is_rejected() -> Result<()> {
    with_ledger(async |bench| {
        let body = |size: usize| {
            let body = json!({ "clientId": "c", "retainerType": "t", "initialAmount": 1, "padding": "" })
                .to_string();
            let padding = "x".repeat(size - body.len());
            body.replace(r#""padding":"""#, &format!(r#""padding":"{padding}""#))
        };
        bench.post_text("/api/retainers", &body(16 * 1024)).await?.expect(201)?;
        let large = bench.post_text("/api/retainers", &body(16 * 1024 + 1)).await?;
        large.expect_error(413, "The body is larger than 16 kB")?;
        // Also without a content length. The body has no end: a client that still writes when the server has closed the
        // connection may see an error instead of the answer.
        let pieces = (0..17).map(|_| Ok::<_, std::io::Error>(vec![b' '; 1024]));
        let stream = stream::iter(pieces).chain(stream::pending());
        let request =
            bench.request(Method::POST, "/api/retainers").header("content-type", "application/json");
        let chunked = Answer::to(request.body(reqwest::Body::wrap_stream(stream))).await?;
        chunked.expect_error(413, "The body is larger than 16 kB")?;
        ensure!(bench.failures("POST /api/retainers", "rejected", "invalid_request").await? == 2.0);
        Ok(())
    })
}

#[test]
fn empty_body_or_object_is_accepted() -> Result<()> {
    with_ledger(async |bench| {
        let complete = async |bench: &Bench, body: &'static str| -> Result<Answer> {
            let id = bench.payment("pending", None).await?.created("payment")?;
            bench.post_text(&format!("/api/payments/{id}/complete"), body).await
        };
        for body in ["", " ", "{}", r#"{"note":"ignored"}"#] {
            complete(bench, body).await?.expect(200)?;
        }
        for body in ["[]", "null", "1"] {
            complete(bench, body).await?.expect_error_about(400, "Invalid body")?;
        }
        complete(bench, "{").await?.expect_error_about(400, "Malformed JSON")?;
        Ok(())
    })
}
