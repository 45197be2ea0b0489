//! A check that has the server run JavaScript, which goes on after the check's time is over.

use mongodb::bson::doc;

use crate::common::{run_with, said};
use crate::shop::{FILE, Shop};

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_runs_javascript_is_refused_by_each_command_unless_it_says_so() {
    let shop = Shop::open().await;
    let function = r#"{ "$function": { "body": "function() { return true; }", "args": [], "lang": "js" } }"#;
    let check = |allow: &str| {
        format!(
            "{FILE}[[check]]\nname = \"scripted\"\ncollection = \"retainers\"\n{allow}forbid = '{{ \"$expr\": {function} }}'\n"
        )
    };
    std::fs::write(shop.file(), check("")).unwrap();
    for command in ["audit", "repair"] {
        let (code, told) = shop.run(&[command]).await;
        assert_eq!(code, 2, "{told}");
        assert!(told.contains("$function") && told.contains("allow_javascript = true"), "{told}");
    }
    let checks = format!("--checks.file={}", shop.file().display());
    let serve = ["serve", "--check-config", &checks];
    let output = run_with(&serve, &[("MONGODB_URI", &shop.set.uri())]).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("allow_javascript"), "{}", said(&output));
    std::fs::write(shop.file(), check("allow_javascript = true\n")).unwrap();
    let (code, told) = shop.run(&["audit", "--check=scripted"]).await;
    assert_eq!(code, 1, "{told}");
    // A view runs it for whoever reads it.
    let function: mongodb::bson::Bson = serde_json::from_str(function).unwrap();
    let view = shop.client.database("shop");
    let stages = [doc! {"$match": {"$expr": function}}];
    view.create_collection("scriptedView").view_on("retainers").pipeline(stages).await.unwrap();
    let of_view = |allow: &str| {
        format!(
            "{FILE}[[check]]\nname = \"scripted\"\ncollection = \"scriptedView\"\n{allow}forbid = '{{}}'\n"
        )
    };
    std::fs::write(shop.file(), of_view("")).unwrap();
    let (code, told) = shop.run(&["audit", "--check=scripted"]).await;
    assert_eq!(code, 2, "{told}");
    assert!(told.contains("the view scriptedView has $function"), "{told}");
    std::fs::write(shop.file(), of_view("allow_javascript = true\n")).unwrap();
    let (code, told) = shop.run(&["audit", "--check=scripted"]).await;
    assert_eq!(code, 1, "{told}");
}
