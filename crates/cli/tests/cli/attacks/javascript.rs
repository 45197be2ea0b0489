//! A check that makes the server run JavaScript, which the timeout of the check does not stop.

use mongodb::bson::doc;

use crate::attacks::environment::{Environment, FILE};
use crate::common::{run_with, stderr};

#[tokio::test(flavor = "multi_thread")]
async fn check_with_javascript_requires_allow_javascript() {
    let env = Environment::open().await;
    let function = r#"{ "$function": { "body": "function() { return true; }", "args": [], "lang": "js" } }"#;
    let check = |allow: &str| {
        format!(
            "{FILE}[[check]]\nname = \"scripted\"\ncollection = \"retainers\"\n{allow}forbid = '{{ \"$expr\": {function} }}'\n"
        )
    };
    std::fs::write(env.file(), check("")).unwrap();
    for command in ["audit", "repair"] {
        let (code, text) = env.run(&[command]).await;
        assert_eq!(code, 2, "{text}");
        assert!(text.contains("$function") && text.contains("allow_javascript = true"), "{text}");
    }
    let checks = format!("--checks.file={}", env.file().display());
    let serve = ["serve", "--check-config", &checks];
    let output = run_with(&serve, &[("MONGODB_URI", &env.set.uri())]).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("allow_javascript"), "{}", stderr(&output));
    std::fs::write(env.file(), check("allow_javascript = true\n")).unwrap();
    let (code, text) = env.run(&["audit", "--only=scripted"]).await;
    assert_eq!(code, 1, "{text}");
    // A view runs it for every reader.
    let function: mongodb::bson::Bson = serde_json::from_str(function).unwrap();
    let view = env.client.database("shop");
    let stages = [doc! {"$match": {"$expr": function}}];
    view.create_collection("scriptedView").view_on("retainers").pipeline(stages).await.unwrap();
    let of_view = |allow: &str| {
        format!(
            "{FILE}[[check]]\nname = \"scripted\"\ncollection = \"scriptedView\"\n{allow}forbid = '{{}}'\n"
        )
    };
    std::fs::write(env.file(), of_view("")).unwrap();
    let (code, text) = env.run(&["audit", "--only=scripted"]).await;
    assert_eq!(code, 2, "{text}");
    assert!(text.contains("the view scriptedView has $function"), "{text}");
    std::fs::write(env.file(), of_view("allow_javascript = true\n")).unwrap();
    let (code, text) = env.run(&["audit", "--only=scripted"]).await;
    assert_eq!(code, 1, "{text}");
}
