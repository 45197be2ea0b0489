//! Tests of the scripted member with the driver.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use mongodb::Client;
use mongodb::bson::doc;
use testkit::FakeMember;
use testkit::fake_member::{error_reply, hello_reply, is_hello};

async fn client(address: &str) -> Client {
    Client::with_uri_str(format!("mongodb://{address}/?directConnection=true")).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn fake_member_runs_script_and_counts_commands() {
    let fake = FakeMember::start().await.unwrap();
    fake.answer(|command, _| {
        Some(match command {
            command if is_hello(command) => hello_reply(doc! {"setName": "rs0", "secondary": true}),
            "ping" => doc! {"ok": 1.0, "pong": true},
            _ => error_reply(8000, "AtlasError", "not allowed"),
        })
    });
    let admin = client(&fake.address()).await.database("admin");
    let reply = admin.run_command(doc! {"ping": 1}).await.unwrap();
    assert!(reply.get_bool("pong").unwrap());
    let error = admin.run_command(doc! {"serverStatus": 1}).await.unwrap_err();
    assert!(error.to_string().contains("8000"), "{error}");
    assert_eq!((fake.count("ping"), fake.count("serverStatus"), fake.count("getLog")), (1, 1, 0));
    assert!(fake.count("isMaster") + fake.count("hello") > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn fake_member_listens_on_ipv6_and_closes_connections() {
    let fake = FakeMember::start_ipv6().await.unwrap();
    assert!(fake.address().starts_with("[::1]:"), "{}", fake.address());
    let admin = client(&fake.address()).await.database("admin");
    let error = admin.run_command(doc! {"ping": 1}).await.unwrap_err();
    assert!(error.to_string().contains("no such command"), "{error}");
    fake.answer(|command, _| is_hello(command).then(|| hello_reply(doc! {"isWritablePrimary": true})));
    fake.cut();
    let error = admin.run_command(doc! {"ping": 1}).await.unwrap_err();
    assert!(matches!(*error.kind, mongodb::error::ErrorKind::Io(_)), "{error}");
}
