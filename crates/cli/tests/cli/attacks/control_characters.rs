//! Control characters in documents, in names and in error messages of the server must not reach terminals and logs.

use anyhow::ensure;
use mongodb::bson::doc;
use testkit::wait;

use crate::attacks::environment::{CONTROL_CHARACTERS, Environment, FILE, is_harmless};
use crate::common::Serving;

/// A check that fails with an error that quotes the document, one that prints it, and one of a collection whose name has
/// control characters.
fn file() -> String {
    let name = toml_text(CONTROL_CHARACTERS);
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

async fn env() -> Environment {
    let env = Environment::open().await;
    std::fs::write(env.file(), file()).unwrap();
    let malicious =
        doc! {"$set": {"client": format!("s3nt {CONTROL_CHARACTERS}"), "deposits": [CONTROL_CHARACTERS]}};
    env.collection("retainers").update_many(doc! {}, malicious).await.unwrap();
    env.collection(CONTROL_CHARACTERS)
        .insert_one(doc! {CONTROL_CHARACTERS: CONTROL_CHARACTERS})
        .await
        .unwrap();
    env
}

#[tokio::test(flavor = "multi_thread")]
async fn control_characters_of_documents_are_escaped_by_audit_and_repair() {
    let env = env().await;
    for arguments in [
        &["audit"][..],
        &["audit", "--full"],
        &["audit", "--output=json", "--full"],
        &["audit", "--output=csv", "--full"],
        &["repair"],
        &["repair", "--apply", "--yes"],
    ] {
        let (code, text) = env.run(arguments).await;
        assert_eq!(code, 1, "{arguments:?}: {text}");
        assert!(is_harmless(&text), "{arguments:?}: {text:?}");
        assert!(!text.lines().any(|line| line.starts_with("level=error")), "a forged line: {text}");
    }
    // The error message of the server quotes the document, and is printed escaped.
    let (_, text) = env.run(&["audit", "--only=converted"]).await;
    assert!(
        text.contains("converted could not be checked") && text.contains(r"s3nt a\u001b[2Jb\n"),
        "{text}"
    );
    // The JSON holds the exact value.
    let (_, text) = env.run(&["audit", "--output=json", "--only=shown"]).await;
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["checks"][0]["sample"][0]["client"], format!("s3nt {CONTROL_CHARACTERS}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn log_of_serve_contains_no_documents_or_control_characters() {
    let env = env().await;
    for format in ["logfmt", "json"] {
        let (checks, format) =
            (format!("--checks.file={}", env.file().display()), format!("--log.format={format}"));
        let serving = Serving::start(&[&checks, &format], &[("MONGODB_URI", &env.set.uri())]).await;
        wait::until("all checks have run", async || {
            let log = serving.process.log();
            ensure!(log.contains("a check cannot run"), "{log}");
            ensure!(log.matches("the check found violations").count() >= 3, "{log}");
            Ok(())
        })
        .await
        .unwrap();
        let log = serving.process.log();
        assert!(!log.contains("s3nt") && !log.contains("forged"), "{log}");
        assert!(log.contains("with code 241 ConversionFailure"), "{log}");
        assert!(is_harmless(&log), "{log:?}");
    }
}

/// The script is pasted into a shell: a name that ends a comment would be run there.
#[tokio::test(flavor = "multi_thread")]
async fn collection_names_cannot_inject_lines_into_the_role_script() {
    let env = Environment::open().await;
    for end in ["\u{2028}", "\u{2029}", "\u{85}", "\n", "\r", "\u{b}", "\u{c}", "\u{1b}[2J", "\u{202e}"] {
        let name = format!("a{end}evil()//");
        let file = format!(
            "{FILE}[[check]]\nname = \"named\"\ncollection = {}\nforbid = '{{}}'\n",
            toml_text(&name)
        );
        std::fs::write(env.file(), file).unwrap();
        let checks = format!("--checks.file={}", env.file().display());
        let output = crate::common::run(&["role", "--user=u", &checks]).await;
        let text = crate::common::stdout_and_stderr(&output);
        assert!(output.status.success(), "{text}");
        assert!(is_harmless(&text), "{text:?}");
        // JavaScript ends a line, and so a comment, with these.
        let lines: Vec<_> = text.split(['\n', '\r', '\u{2028}', '\u{2029}']).collect();
        assert!(!lines.iter().any(|line| line.trim_start().starts_with("evil()")), "{text}");
        // The role still grants access to the collection of that name.
        let (_, role) = text.split_once("\nrole = ").unwrap();
        let (role, _) = role.split_once("\nadmin.").unwrap();
        let role: serde_json::Value = serde_json::from_str(role).unwrap();
        let named =
            role["privileges"].as_array().unwrap().iter().any(|one| one["resource"]["collection"] == *name);
        assert!(named, "{role:#}");
    }
}

/// Text of a request must not be injected into a page or an error.
#[tokio::test(flavor = "multi_thread")]
async fn responses_of_serve_do_not_repeat_path_or_query() {
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
            let text = format!("{:?} {}", answer.headers().clone(), answer.text().await.unwrap());
            assert!(!text.contains("s3cret"), "{method} {path}: {text}");
        }
    }
    let log = serving.process.log();
    assert!(!log.contains("s3cret"), "{log}");
}
