//! Members that send malformed or malicious replies.

use futures_util::future::join_all;
use mongodb::bson::{Document, doc};
use testkit::fake_member::raw_reply;
use testkit::{FakeMember, Scrape};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::common::{page_where, sidecar, url};
use crate::fakes::{ERRORS, healthy, member, up};

/// More than a set may have.
const MANY: usize = 3_000;
/// MongoDB's maximum number of members.
const MOST: usize = 50;

/// Answers with pseudorandom bytes: at once, or after the first request; after these four header fields, if
/// there are any. The bytes are always the same.
async fn noisy(at_once: bool, head: &'static [i32]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let mut seed = 7_u64;
        while let Ok((mut stream, _)) = listener.accept().await {
            let raw_reply = std::iter::repeat_with(|| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                seed.to_be_bytes()[0]
            });
            let bytes: Vec<u8> =
                head.iter().flat_map(|field| field.to_le_bytes()).chain(raw_reply.take(4_096)).collect();
            tokio::spawn(async move {
                if !at_once {
                    let _ = stream.read(&mut [0; 4_096]).await;
                }
                let _ = stream.write_all(&bytes).await;
                // Until the other side has closed the connection.
                while stream.read(&mut [0; 4_096]).await.is_ok_and(|read| read > 0) {}
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn server_sending_random_bytes_is_down() {
    // No header, and headers of messages of 64 bytes: OP_MSG, OP_REPLY, and an unknown opcode.
    let heads = [&[][..], &[64, 1, 1, 2_013], &[64, 1, 1, 1], &[64, 1, 1, 4_711]];
    let each = heads.into_iter().flat_map(|head| [(true, head), (false, head)]);
    join_all(each.map(async |(at_once, head)| {
        let address = noisy(at_once, head).await;
        let sidecar = sidecar(&format!("mongodb://{address}/?directConnection=true")).await;
        let page = page_where(&sidecar, "some polls that fail", |page| polls_failed(page) >= 2.0).await;
        assert_eq!(up(&page, &address), Some(0.0), "{head:?} at once: {at_once}: it counts as up");
    }))
    .await;
}

fn polls_failed(page: &Scrape) -> f64 {
    page.sum(ERRORS, &[("collector", "server_status")])
}

/// Answers `hello`, and everything else with random bytes.
#[tokio::test(flavor = "multi_thread")]
async fn member_sending_random_status_bytes_is_down() {
    for head in [&[][..], &[64_i32, 1, 1, 2_013], &[64, 1, 1, 4_711]] {
        let fake = FakeMember::start().await.unwrap();
        let address = fake.address();
        let rest = healthy(member(&address, &[&address], "primary"), 1);
        fake.answer(move |command, asked| match command {
            "serverStatus" => {
                let bytes = head.iter().flat_map(|field| field.to_le_bytes()).chain([0xa5; 64]);
                Some(raw_reply(bytes.collect()))
            }
            command => rest(command, asked),
        });
        let sidecar = sidecar(&format!("mongodb://{address}/?replicaSet=rs0")).await;
        let page = page_where(&sidecar, "some polls that fail", |page| polls_failed(page) >= 3.0).await;
        assert_eq!(up(&page, &address), Some(0.0), "{head:?}: it counts as up");
    }
}

/// A reply with a valid header and no document.
#[tokio::test(flavor = "multi_thread")]
async fn server_with_invalid_hello_reply_is_down() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = [0; 16];
                while stream.read_exact(&mut head).await.is_ok() {
                    let field = |at: usize| i32::from_le_bytes(head[at..at + 4].try_into().unwrap());
                    let mut rest =
                        vec![0; usize::try_from(field(0)).unwrap().saturating_sub(16).min(1 << 20)];
                    if stream.read_exact(&mut rest).await.is_err() {
                        return;
                    }
                    // OP_MSG for OP_MSG, OP_REPLY for OP_QUERY; then 0xff in place of the document.
                    let (code, before) = if field(12) == 2_013 { (2_013, 5) } else { (1, 20) };
                    let body = [vec![0; before], vec![0xff; 40]].concat();
                    let length = i32::try_from(16 + body.len()).unwrap();
                    let head: Vec<u8> =
                        [length, 1, field(4), code].iter().flat_map(|field| field.to_le_bytes()).collect();
                    if stream.write_all(&[head, body].concat()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    let sidecar = sidecar(&format!("mongodb://{address}/?directConnection=true")).await;
    let page = page_where(&sidecar, "some polls that fail", |page| polls_failed(page) >= 2.0).await;
    assert_eq!(up(&page, &address), Some(0.0), "it counts as up");
}

/// The member lists them in each list of `hello` and of the status, some with very long names.
#[tokio::test(flavor = "multi_thread")]
async fn listed_members_are_limited_to_fifty() {
    let fake = FakeMember::start().await.unwrap();
    let address = fake.address();
    let named = |index: usize| format!("{}{index}.invalid:{}", "x".repeat(index % 1_000), 1 + index);
    let mut hosts = vec![address.clone()];
    hosts.extend((0..MANY).map(named));
    let hosts: Vec<_> = hosts.iter().map(String::as_str).collect();
    let mut who = member(&address, &hosts, "primary");
    who.insert("passives", hosts.clone());
    who.insert("arbiters", (MANY..2 * MANY).map(named).collect::<Vec<_>>());
    let members: Vec<Document> = hosts
        .iter()
        .map(|name| doc! {"name": *name, "health": 1.0, "state": 2, "self": *name == address, "lastHeartbeat": 1})
        .collect();
    let rest = healthy(who, 1);
    fake.answer(move |command, asked| match command {
        "replSetGetStatus" => {
            Some(doc! {"ok": 1.0, "set": "rs0", "myState": 1, "term": 1_i64, "members": members.clone()})
        }
        _ => rest(command, asked),
    });
    let sidecar = sidecar(&format!("mongodb://{address}/?replicaSet=rs0")).await;
    let is_read = |page: &Scrape| {
        up(page, &address) == Some(1.0)
            && page
                .value("txnscope_poll_success", &[("member", &address), ("collector", "replication")])
                .is_some()
    };
    let page = page_where(&sidecar, "the member and some of those it names", is_read).await;
    let followed = page.matching("mongodb_up", &[]).count();
    assert!(followed <= MOST, "{followed} members are followed");
    let longest = page.families().iter().flat_map(|family| &family.series);
    let longest = longest.flat_map(|series| series.labels.values()).map(String::len).max().unwrap();
    assert!(longest < 300, "a label has {longest} bytes");
    let page = reqwest::get(url(&sidecar, "/metrics")).await.unwrap().text().await.unwrap();
    assert!(page.len() < 2_000_000, "the page has {} bytes", page.len());
}
