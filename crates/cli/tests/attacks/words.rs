//! What documents, names in the database and a server's words put into what is printed and logged.

use anyhow::ensure;
use mongodb::bson::doc;
use testkit::wait;

use crate::common::Serving;
use crate::shop::{FILE, STEERING, Shop, is_harmless};

/// A check that the server refuses, in words that quote the document; one that shows it, and one of a collection whose
/// name steers.
fn file() -> String {
    let name = toml_text(STEERING);
    format!(
        "{FILE}
        [[check]]
        name = \"converted\"
        collection = \"retainers\"
        interval = \"1s\"
        pipeline = '[ {{ \"$match\": {{ \"$expr\": {{ \"$gt\": [ {{ \"$toInt\": \"$client\" }}, 0 ] }} }} }} ]'
        [[check]]
        name = \"shown\"
        collection = \"retainers\"
        show = [\"client\"]
        interval = \"1s\"
        forbid = '{{ \"_id\": 1 }}'
        [[check]]
        name = \"named\"
        about = {name}
        collection = {name}
        interval = \"1s\"
        forbid = '{{}}'
        "
    )
}

/// As a text of TOML, with each character escaped.
fn toml_text(text: &str) -> String {
    let escaped: String = text.chars().map(|c| format!("\\U{:08X}", u32::from(c))).collect();
    format!("\"{escaped}\"")
}

async fn shop() -> Shop {
    let shop = Shop::open().await;
    std::fs::write(shop.file(), file()).unwrap();
    let steering = doc! {"$set": {"client": format!("s3nt {STEERING}"), "deposits": [STEERING]}};
    shop.collection("retainers").update_many(doc! {}, steering).await.unwrap();
    shop.collection(STEERING).insert_one(doc! {STEERING: STEERING}).await.unwrap();
    shop
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_the_database_holds_steers_what_audit_and_repair_print() {
    let shop = shop().await;
    for arguments in [
        &["audit"][..],
        &["audit", "--full"],
        &["audit", "--output=json", "--full"],
        &["audit", "--output=csv", "--full"],
        &["repair"],
        &["repair", "--apply", "--yes"],
    ] {
        let (code, told) = shop.run(arguments).await;
        assert_eq!(code, 1, "{arguments:?}: {told}");
        assert!(is_harmless(&told), "{arguments:?}: {told:?}");
        assert!(!told.lines().any(|line| line.starts_with("level=error")), "a forged line: {told}");
    }
    // The server's own words quote the document; a person reads them, escaped.
    let (_, told) = shop.run(&["audit", "--check=converted"]).await;
    assert!(
        told.contains("converted could not be checked") && told.contains(r"s3nt a\u001b[2Jb\n"),
        "{told}"
    );
    // Who reads the JSON reads what is there.
    let (_, told) = shop.run(&["audit", "--output=json", "--check=shown"]).await;
    let json: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(json["checks"][0]["sample"][0]["client"], format!("s3nt {STEERING}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_serve_quotes_no_document_and_is_steered_by_none() {
    let shop = shop().await;
    for format in ["logfmt", "json"] {
        let (checks, format) =
            (format!("--checks.file={}", shop.file().display()), format!("--log.format={format}"));
        let serving = Serving::start(&[&checks, &format], &[("MONGODB_URI", &shop.set.uri())]).await;
        wait::until("all checks have run", async || {
            let log = serving.process.log();
            ensure!(log.contains("a check cannot run"), "{log}");
            ensure!(log.matches("the data is wrong").count() >= 3, "{log}");
            Ok(())
        })
        .await
        .unwrap();
        let log = serving.process.log();
        assert!(!log.contains("s3nt") && !log.contains("forged"), "{log}");
        assert!(log.contains("with the code 241 ConversionFailure"), "{log}");
        assert!(is_harmless(&log), "{log:?}");
    }
}

/// What it prints is pasted into a shell: a name that ends a comment would be run there.
#[tokio::test(flavor = "multi_thread")]
async fn no_collection_of_a_check_makes_a_line_of_its_own_in_what_role_prints() {
    let shop = Shop::open().await;
    for end in ["\u{2028}", "\u{2029}", "\u{85}", "\n", "\r", "\u{b}", "\u{c}", "\u{1b}[2J", "\u{202e}"] {
        let name = format!("a{end}evil()//");
        let file = format!(
            "{FILE}[[check]]\nname = \"named\"\ncollection = {}\nforbid = '{{}}'\n",
            toml_text(&name)
        );
        std::fs::write(shop.file(), file).unwrap();
        let checks = format!("--checks.file={}", shop.file().display());
        let output = crate::common::run(&["role", "--user=u", &checks]).await;
        let told = crate::common::printed(&output);
        assert!(output.status.success(), "{told}");
        assert!(is_harmless(&told), "{told:?}");
        // JavaScript ends a line, and so a comment, with these.
        let lines: Vec<_> = told.split(['\n', '\r', '\u{2028}', '\u{2029}']).collect();
        assert!(!lines.iter().any(|line| line.trim_start().starts_with("evil()")), "{told}");
        // The role is for the collection of that name all the same.
        let (_, role) = told.split_once("createRole(").unwrap();
        let (role, _) = role.split_once(")\nadmin.").unwrap();
        let role: serde_json::Value = serde_json::from_str(role).unwrap();
        let named =
            role["privileges"].as_array().unwrap().iter().any(|one| one["resource"]["collection"] == *name);
        assert!(named, "{role:#}");
    }
}

/// Neither a page for people nor an error is a place to put text of one's own into.
#[tokio::test(flavor = "multi_thread")]
async fn no_answer_of_serve_repeats_the_path_or_the_query() {
    let serving = Serving::start(&["--mongodb.uri=mongodb://127.0.0.1:1/"], &[]).await;
    let client = reqwest::Client::new();
    for path in [
        "/nope?s3cret=s3cret",
        "/s3cret",
        "/?s3cret",
        "/probe?target=s3cret",
        "/probe?s3cret=1",
        "/probe?target=%zzs3cret",
        "/probe?target=%ffs3cret",
        "/probe?target=a&auth_module=s3cret",
        "/probe/s3cret?target=a",
        "/metrics/s3cret",
        "/metrics?s3cret",
        "/-/s3cret?s3cret",
        "/-/healthy?s3cret",
        "/-/ready?s3cret",
        "/-/reload?s3cret",
    ] {
        for method in [reqwest::Method::GET, reqwest::Method::POST, reqwest::Method::PUT] {
            let url = format!("http://{}{path}", serving.address);
            let answer = client.request(method.clone(), url).send().await.unwrap();
            let told = format!("{:?} {}", answer.headers().clone(), answer.text().await.unwrap());
            assert!(!told.contains("s3cret"), "{method} {path}: {told}");
        }
    }
    let log = serving.process.log();
    assert!(!log.contains("s3cret"), "{log}");
}
