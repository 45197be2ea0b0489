//! Bank accounts and the movement of money between them.

use axum::extract::State;
use mongodb::bson::doc;
use mongodb::bson::oid::ObjectId;
use serde::{Deserialize, Serialize};
use tracing::Span;
use tracing::field::{Empty, display};
use txnscope::{Transaction, scope};

use crate::Money;
use crate::database::Collections;
use crate::dto::{At, Id};
use crate::error::AppError;
use crate::extract::{EntityId, Posted, reference, text};
use crate::general_ledger::{Account, Entity, Entry};
use crate::money::Literal;
use crate::operations::Rejection;
use crate::response::Reply;
use crate::state::Ledger;
use crate::stored::{raw, read as read_stored};
use crate::transaction::{Abort, Work, WorkError};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BankAccount {
    #[serde(rename = "_id")]
    pub(crate) id: Id,
    name: String,
    account_number: String,
    bank_name: String,
    pub(crate) currency: String,
    pub(crate) available_balance: Money,
    created_at: At,
    updated_at: At,
}

// ===== POST /api/bank-accounts =====

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NewBankAccount {
    name: String,
    account_number: String,
    bank_name: String,
    currency: String,
    balance: Literal,
}

impl NewBankAccount {
    pub(crate) fn check(self) -> Result<BankAccount, AppError> {
        let balance = self.balance.not_negative("balance")?;
        let (id, now) = (ObjectId::new(), At::now());
        Span::current().record("entity_id", display(id)).record("amount", display(balance));
        Ok(BankAccount {
            id: Id(id),
            name: text("name", self.name)?,
            account_number: reference("accountNumber", &self.account_number)?,
            bank_name: text("bankName", self.bank_name)?,
            currency: currency(self.currency)?,
            available_balance: balance,
            created_at: now,
            updated_at: now,
        })
    }
}

#[tracing::instrument(
    level = "error",
    skip_all,
    fields(controller = "bank_accounts", function = "create", entity_id = Empty, amount = Empty)
)]
pub(crate) async fn create(
    State(ledger): State<Ledger>,
    Posted { body, key }: Posted<NewBankAccount>,
) -> Result<Reply, AppError> {
    scope::attach_span(Span::current());
    let account = body.check()?;
    ledger.write(key, Create { data: ledger.data().clone(), movement: ObjectId::new(), account }).await
}

fn currency(code: String) -> Result<String, AppError> {
    if code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_uppercase()) {
        Ok(code)
    } else {
        Err(AppError::invalid("currency must be a code of three capital letters such as USD"))
    }
}

#[derive(Clone)]
struct Create {
    data: Collections,
    movement: ObjectId,
    account: BankAccount,
}

impl Work for Create {
    type Output = Reply;

    async fn attempt(&self, tx: &mut Transaction) -> Result<Reply, Abort> {
        let Self { data, movement, account } = self;
        data.bank_accounts.insert_one(account).session(&mut *tx).await?;
        if account.available_balance > Money::ZERO {
            let entry = Entry {
                movement: *movement,
                entity: Entity::bank_account(account.id.0),
                debit: Account::Bank(account.id.0),
                credit: Account::OpeningBalances,
                amount: account.available_balance,
                currency: &account.currency,
                description: "Opening balance",
                at: account.created_at,
            };
            entry.post(data, tx).await?;
        }
        Ok(Reply::created("account", account))
    }
}

// ===== GET /api/bank-accounts/{id} =====

pub(crate) async fn read(State(ledger): State<Ledger>, EntityId(id): EntityId) -> Result<Reply, AppError> {
    let account = ledger.find(&ledger.data().bank_accounts, id).await?.ok_or(Rejection::ACCOUNT_NOT_FOUND)?;
    Ok(Reply::ok("account", &account))
}

// ===== Transfers between two accounts =====

/// Reads both accounts, in the given order.
pub(crate) async fn both(
    [first, second]: [ObjectId; 2],
    data: &Collections,
    tx: &mut Transaction,
) -> Result<[Option<BankAccount>; 2], Abort> {
    let filter = doc! { "_id": { "$in": [first, second] } };
    let mut cursor = raw(&data.bank_accounts).find(filter).session(&mut *tx).await?;
    let mut found = [None, None];
    while let Some(account) = cursor.next(tx.session()).await.transpose()? {
        let account: BankAccount = read_stored("bankAccounts", &account)?;
        let place = usize::from(account.id.0 != first);
        found[place] = Some(account);
    }
    Ok(found)
}

/// Moves money between two accounts that the transaction has read and validated.
///
/// The accounts are written in the order of their ids, so that opposite transfers conflict on the same account first
/// and one of them succeeds. Otherwise each could hold the account that the other needs, and both would abort.
pub(crate) async fn move_money(
    amount: Money,
    [from, to]: [ObjectId; 2],
    at: At,
    data: &Collections,
    tx: &mut Transaction,
) -> Result<(), Abort> {
    let cents = amount.cents();
    let debit = (from, doc! { "_id": from, "availableBalance": { "$gte": cents } }, -cents);
    let most = amount.largest_balance_before().cents();
    let credit = (to, doc! { "_id": to, "availableBalance": { "$lte": most } }, cents);
    let mut changes = [debit, credit];
    changes.sort_unstable_by_key(|(id, ..)| *id);
    for (_, guard, cents) in changes {
        let change = doc! { "$inc": { "availableBalance": cents }, "$max": { "updatedAt": at.0 } };
        let result = data.bank_accounts.update_one(guard, change).session(&mut *tx).await?;
        // A change after the snapshot would be a write conflict, so this cannot happen.
        if result.matched_count != 1 {
            return Err(WorkError::inconsistent(
                "an account differs from what the same transaction has read",
            ));
        }
    }
    Ok(())
}
