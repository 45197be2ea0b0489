//! `Idempotency-Key`: a retried request receives the first response and has no second effect.
//!
//! The response is recorded in the transaction that has the effect, so neither exists without the other. Two
//! concurrent requests with one key conflict on the record: the later one retries and finds it.

use axum::http::{HeaderMap, StatusCode};
use mongodb::bson::doc;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use txnscope::Transaction;
use txnscope::transaction::TransactionBuilder;

use crate::database::Collections;
use crate::dto::At;
use crate::error::AppError;
use crate::operations::Rejection;
use crate::response::Reply;
use crate::stored::{raw, read as read_stored};
use crate::transaction::{Abort, Work, WorkError, document};

/// The maximum length of a key.
const MAX_KEY: usize = 255;

/// A key, bound to its request.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    /// Method, path and key: the same key may be used on another route. The path is the matched route with its
    /// parameters, so that all encodings of a path share one key.
    id: String,
    /// A fingerprint of the body.
    fingerprint: String,
}

impl Key {
    /// The key of a request, if it has one.
    pub(crate) fn of(
        method: &str,
        path: &str,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Option<Self>, AppError> {
        let mut values = headers.get_all("idempotency-key").iter();
        let Some(value) = values.next() else { return Ok(None) };
        if values.next().is_some() {
            return Err(AppError::invalid("Idempotency-Key must be sent once"));
        }
        let visible = value.as_bytes().iter().all(u8::is_ascii_graphic);
        match value.to_str() {
            Ok(key) if visible && !key.is_empty() && key.len() <= MAX_KEY => Ok(Some(Self {
                // An id is case insensitive.
                id: format!("{method} {} {key}", path.to_ascii_lowercase()),
                fingerprint: fingerprint(body),
            })),
            _ => Err(AppError::invalid(
                "Idempotency-Key must be 1 to 255 visible ASCII characters without spaces",
            )),
        }
    }
}

fn fingerprint(body: &[u8]) -> String {
    Sha256::digest(body).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The response recorded under a key. It expires through the collection's index on `createdAt`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    #[serde(rename = "_id")]
    id: String,
    fingerprint: String,
    status: u16,
    body: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    rejected: Option<String>,
    created_at: At,
}

impl Record {
    fn of(key: &Key, reply: &Reply) -> Self {
        Self {
            id: key.id.clone(),
            fingerprint: key.fingerprint.clone(),
            status: reply.status.as_u16(),
            body: reply.body.clone(),
            rejected: reply.rejected.map(|reason| reason.as_str().to_owned()),
            created_at: At::now(),
        }
    }

    fn replay(self, key: &Key) -> Result<Reply, Abort> {
        if self.fingerprint != key.fingerprint {
            return Err(Rejection::IDEMPOTENCY_KEY_REUSED.into());
        }
        Ok(Reply {
            status: StatusCode::from_u16(self.status)
                .map_err(|_| WorkError::inconsistent("an idempotency record lacks its status"))?,
            body: self.body,
            rejected: self.rejected.as_deref().map(Rejection::reason_named),
            replayed: true,
        })
    }
}

/// Work that takes effect once for each key.
pub(crate) struct Idempotent<W> {
    pub(crate) data: Collections,
    pub(crate) key: Key,
    pub(crate) work: W,
}

impl<W: Work<Output = Reply>> Work for Idempotent<W> {
    type Output = Reply;

    fn lock_keys<'a>(&self, run: TransactionBuilder<'a>) -> TransactionBuilder<'a> {
        self.work.lock_keys(run).serialize_on(document("idempotencyKeys", &self.key.id))
    }

    async fn attempt(&self, tx: &mut Transaction) -> Result<Reply, Abort> {
        let records = &self.data.idempotency_keys;
        if let Some(record) = raw(records).find_one(doc! { "_id": &self.key.id }).session(&mut *tx).await? {
            return read_stored::<Record>("idempotencyKeys", &record)?.replay(&self.key);
        }
        let reply = match self.work.attempt(&mut *tx).await {
            // Rules are checked before the first write, so the record is the only change of this transaction.
            Err(Abort::Application(WorkError::Rejected(rejection))) => rejection.into(),
            other => other?,
        };
        records.insert_one(Record::of(&self.key, &reply)).session(tx).await?;
        Ok(reply)
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn key(values: &[&[u8]]) -> Result<Option<Key>, AppError> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("idempotency-key", HeaderValue::from_bytes(value).unwrap());
        }
        Key::of("POST", "/api/payments/65AB/complete", &headers, b"{}")
    }

    #[test]
    fn key_is_bound_to_route_and_body() {
        let key = key(&[b"a-1"]).unwrap().unwrap();
        assert_eq!(key.id, "POST /api/payments/65ab/complete a-1");
        assert_eq!(key.fingerprint, "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a");
    }

    #[test]
    fn request_without_key_is_accepted() {
        assert!(key(&[]).unwrap().is_none());
    }

    #[test]
    fn malformed_key_is_rejected() {
        assert!(key(&[&[b'k'; 255]]).is_ok());
        for values in [&[&b""[..]][..], &[b"a b"], &[b"\xc3\xa4"], &[&[b'k'; 256]], &[b"a", b"b"]] {
            assert!(matches!(key(values), Err(AppError::Invalid(_))), "{values:?}");
        }
    }
}
