//! Generates a large amount of valid ledger data directly in the database, because the ledger would take days.

use anyhow::Result;
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{DateTime, RawDocumentBuf, rawdoc};
use mongodb::options::WriteConcern;
use mongodb::{Collection, Database};
use tokio::task::JoinSet;

/// The documents of one unit: 20 completed payments, 3 retainers with a deposit and a consumption each, 2 accounts and
/// 6 transfers between them, each with its lines in the general ledger.
const UNIT: u64 = 20 * 3 + 3 * 7 + 2 * 3 + 6 * 3;
/// The number of units that one task inserts at once: some thousand documents, far below the limit of 48 MB per
/// message.
const BATCH: u64 = 50;

/// Fills the collections with about that many documents, and returns the exact number.
pub(crate) async fn fill(database: &Database, documents: u64, inserters: u64) -> Result<u64> {
    let units = (documents / UNIT).max(1);
    let mut tasks = JoinSet::new();
    for inserter in 0..inserters {
        let database = database.clone();
        tasks.spawn(async move {
            let batches = units.div_ceil(BATCH);
            for batch in (inserter..batches).step_by(usize::try_from(inserters)?) {
                insert(&database, BATCH.min(units - batch * BATCH)).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(units * UNIT)
}

#[derive(Default)]
struct Batch {
    payments: Vec<RawDocumentBuf>,
    retainers: Vec<RawDocumentBuf>,
    movements: Vec<RawDocumentBuf>,
    accounts: Vec<RawDocumentBuf>,
    transfers: Vec<RawDocumentBuf>,
    lines: Vec<RawDocumentBuf>,
}

async fn insert(database: &Database, units: u64) -> Result<()> {
    let mut batch = Batch::default();
    for _ in 0..units {
        batch.unit();
    }
    let Batch { payments, retainers, movements, accounts, transfers, lines } = batch;
    for (name, documents) in [
        ("payments", payments),
        ("retainers", retainers),
        ("retainerMovements", movements),
        ("bankAccounts", accounts),
        ("bankTransfers", transfers),
        ("generalLedger", lines),
    ] {
        let collection: Collection<RawDocumentBuf> = database.collection(name);
        let fast =
            WriteConcern::builder().w(mongodb::options::Acknowledgment::Nodes(1)).journal(false).build();
        collection.insert_many(documents).ordered(false).write_concern(fast).await?;
    }
    Ok(())
}

impl Batch {
    fn unit(&mut self) {
        let at = DateTime::now();
        for _ in 0..20 {
            let id = ObjectId::new();
            self.payments.push(rawdoc! {
                "_id": id, "customerId": "customer-1", "amount": 9_995_i64, "paymentMethod": "card",
                "status": "completed", "invoiceId": format!("invoice-{id}"), "createdAt": at, "updatedAt": at, "completedAt": at,
            });
            self.entry(id, None, ["cash", "receivables"], 9_995, "USD", at);
        }
        for _ in 0..3 {
            let id = ObjectId::new();
            self.retainers.push(rawdoc! {
                "_id": id, "clientId": "client-1", "retainerType": "hourly", "currentBalance": 70_000_i64,
                "createdAt": at, "updatedAt": at,
            });
            let account = format!("retainers/{id}");
            for (kind, amount, accounts) in
                [("deposit", 100_000_i64, ["cash", &account]), ("consumption", 30_000, [&account, "revenue"])]
            {
                let movement = ObjectId::new();
                self.movements.push(rawdoc! {
                    "_id": movement, "retainerId": id, "kind": kind, "amount": amount, "description": "work", "at": at,
                });
                self.entry(movement, None, accounts, amount, "USD", at);
            }
        }
        let accounts = [ObjectId::new(), ObjectId::new()];
        let [a, b] = accounts.map(|id| format!("bankAccounts/{id}"));
        for (id, name) in accounts.iter().zip([&a, &b]) {
            self.accounts.push(rawdoc! {
                "_id": *id, "name": "Operating", "accountNumber": "DE-1", "bankName": "First", "currency": "EUR",
                "availableBalance": 500_000_i64, "createdAt": at, "updatedAt": at,
            });
            self.entry(ObjectId::new(), None, [name, "openingBalances"], 500_000, "EUR", at);
        }
        // Transfers in both directions balance.
        for turn in 0..6 {
            let id = ObjectId::new();
            let (from, to, names) = if turn % 2 == 0 {
                (accounts[0], accounts[1], [&*b, &*a])
            } else {
                (accounts[1], accounts[0], [&*a, &*b])
            };
            self.transfers.push(rawdoc! {
                "_id": id, "fromAccountId": from, "toAccountId": to, "amount": 12_500_i64, "currency": "EUR",
                "description": "rent", "status": "completed", "createdAt": at, "updatedAt": at,
            });
            self.entry(id, Some(id), names, 12_500, "EUR", at);
        }
    }

    /// Two lines, a debit and a credit.
    fn entry(
        &mut self,
        movement: ObjectId,
        transfer: Option<ObjectId>,
        [debit, credit]: [&str; 2],
        amount: i64,
        currency: &str,
        at: DateTime,
    ) {
        for (account, debit, credit) in [(debit, amount, 0), (credit, 0, amount)] {
            let mut line = rawdoc! {
                "_id": ObjectId::new(), "movementId": movement, "account": account, "debit": debit, "credit": credit,
                "currency": currency, "description": "", "at": at,
            };
            if let Some(transfer) = transfer {
                line.append(mongodb::bson::cstr!("transferId"), transfer);
            }
            self.lines.push(line);
        }
    }
}

/// `1,234,567`
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let parts: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    parts.join(",")
}
