//! The operations that move money, with all reasons for which each can fail or be rejected.
//!
//! They are declared to the layer, so that their series are exported as zero from the start.

use axum::http::StatusCode;
use txnscope::{Operation, Reason};

/// The balance of a retainer or an account is too low.
pub const INSUFFICIENT_BALANCE: Reason = Reason::declare("insufficient_balance");
/// A balance would exceed [`Money::MAX`](crate::Money::MAX).
pub const BALANCE_LIMIT: Reason = Reason::declare("balance_limit");
/// The payment has already been completed.
pub const PAYMENT_ALREADY_COMPLETED: Reason = Reason::declare("payment_already_completed");
/// The payment failed or was cancelled.
pub const PAYMENT_NOT_COMPLETABLE: Reason = Reason::declare("payment_not_completable");
/// Another payment of the same invoice is completed.
pub const INVOICE_ALREADY_PAID: Reason = Reason::declare("invoice_already_paid");
/// The transfer has already been cancelled.
pub const TRANSFER_ALREADY_CANCELLED: Reason = Reason::declare("transfer_already_cancelled");
/// A transfer from an account to itself.
pub const SAME_ACCOUNT: Reason = Reason::declare("same_account");
/// A transfer between accounts of different currencies.
pub const CURRENCY_MISMATCH: Reason = Reason::declare("currency_mismatch");
/// No document has that id.
pub const NOT_FOUND: Reason = Reason::declare("not_found");
/// The `Idempotency-Key` was used with another body before.
pub const IDEMPOTENCY_KEY_REUSED: Reason = Reason::declare("idempotency_key_reused");

/// The reasons for which the server can fail any transaction.
const FAULTS: &[Reason] = &[
    Reason::WRITE_CONFLICT,
    Reason::NO_SUCH_TRANSACTION,
    Reason::LOCK_TIMEOUT,
    Reason::SNAPSHOT_UNAVAILABLE,
    Reason::TRANSACTION_TOO_OLD,
    Reason::TRANSACTION_EXPIRED,
    Reason::TRANSACTION_TOO_LARGE,
    Reason::MAX_TIME_EXPIRED,
    Reason::DUPLICATE_KEY,
    Reason::DOCUMENT_VALIDATION,
    Reason::NOT_PRIMARY,
    Reason::INTERRUPTED,
    Reason::NETWORK,
    Reason::SERVER_SELECTION,
    Reason::OVERLOADED,
    Reason::WRITE_CONCERN,
    Reason::COMMIT_UNKNOWN,
    Reason::TIMEOUT,
];

macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident = $route:literal rejects [$($reason:ident),*];)*) => {
        $(
            $(#[$doc])*
            pub const $name: Operation = Operation::new($route)
                .rejection_reasons(&[
                    Reason::UNAUTHORIZED,
                    Reason::INVALID_REQUEST,
                    IDEMPOTENCY_KEY_REUSED,
                    $($reason),*
                ])
                .failure_reasons(FAULTS);
        )*

        /// All operations.
        pub const OPERATIONS: &[Operation] = &[$($name),*];
    };
}

operations! {
    /// Opens a retainer.
    CREATE_RETAINER = "POST /api/retainers" rejects [];
    /// Takes money from a retainer.
    CONSUME_RETAINER = "POST /api/retainers/{id}/consume" rejects [NOT_FOUND, INSUFFICIENT_BALANCE];
    /// Puts money into a retainer.
    REPLENISH_RETAINER = "POST /api/retainers/{id}/replenish" rejects [NOT_FOUND, BALANCE_LIMIT];
    /// Records a payment.
    CREATE_PAYMENT = "POST /api/payments" rejects [INVOICE_ALREADY_PAID];
    /// Completes a payment.
    COMPLETE_PAYMENT = "POST /api/payments/{id}/complete"
        rejects [NOT_FOUND, PAYMENT_ALREADY_COMPLETED, PAYMENT_NOT_COMPLETABLE, INVOICE_ALREADY_PAID];
    /// Opens a bank account.
    CREATE_BANK_ACCOUNT = "POST /api/bank-accounts" rejects [];
    /// Moves money from one account to another.
    CREATE_BANK_TRANSFER = "POST /api/bank-transfers"
        rejects [NOT_FOUND, SAME_ACCOUNT, CURRENCY_MISMATCH, INSUFFICIENT_BALANCE, BALANCE_LIMIT];
    /// Refunds a transfer.
    CANCEL_BANK_TRANSFER = "POST /api/bank-transfers/{id}/cancel"
        rejects [NOT_FOUND, TRANSFER_ALREADY_CANCELLED, INSUFFICIENT_BALANCE, BALANCE_LIMIT];
}

/// A business rule that rejects a request: the message for the client and the reason for the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rejection {
    pub(crate) status: StatusCode,
    pub(crate) reason: Reason,
    pub(crate) message: &'static str,
}

macro_rules! rejections {
    ($($name:ident = $status:ident $reason:ident $message:literal;)*) => {
        impl Rejection {
            $(pub(crate) const $name: Self =
                Self { status: StatusCode::$status, reason: $reason, message: $message };)*

            /// All rejections, to find the reason of a rejection that was recorded under a key.
            const ALL: &[Self] = &[$(Self::$name),*];
        }
    };
}

rejections! {
    INSUFFICIENT_BALANCE = BAD_REQUEST INSUFFICIENT_BALANCE "Insufficient balance";
    BALANCE_LIMIT = BAD_REQUEST BALANCE_LIMIT "The balance would exceed 9999999999999.99";
    PAYMENT_ALREADY_COMPLETED = BAD_REQUEST PAYMENT_ALREADY_COMPLETED "Payment already completed";
    PAYMENT_FAILED = BAD_REQUEST PAYMENT_NOT_COMPLETABLE "A failed payment cannot be completed";
    PAYMENT_CANCELLED = BAD_REQUEST PAYMENT_NOT_COMPLETABLE "A cancelled payment cannot be completed";
    INVOICE_ALREADY_PAID = BAD_REQUEST INVOICE_ALREADY_PAID "Invoice already paid";
    TRANSFER_ALREADY_CANCELLED = BAD_REQUEST TRANSFER_ALREADY_CANCELLED "Transfer already cancelled";
    SAME_ACCOUNT = BAD_REQUEST SAME_ACCOUNT "fromAccountId and toAccountId must be different accounts";
    CURRENCY_MISMATCH = BAD_REQUEST CURRENCY_MISMATCH "The accounts have different currencies";
    RETAINER_NOT_FOUND = NOT_FOUND NOT_FOUND "Retainer not found";
    PAYMENT_NOT_FOUND = NOT_FOUND NOT_FOUND "Payment not found";
    ACCOUNT_NOT_FOUND = NOT_FOUND NOT_FOUND "Bank account not found";
    FROM_ACCOUNT_NOT_FOUND = NOT_FOUND NOT_FOUND "Bank account not found: fromAccountId";
    TO_ACCOUNT_NOT_FOUND = NOT_FOUND NOT_FOUND "Bank account not found: toAccountId";
    TRANSFER_NOT_FOUND = NOT_FOUND NOT_FOUND "Bank transfer not found";
    IDEMPOTENCY_KEY_REUSED = UNPROCESSABLE_ENTITY IDEMPOTENCY_KEY_REUSED
        "This Idempotency-Key was used with another body; use a new key for a new request";
}

impl Rejection {
    /// The reason with that name.
    pub(crate) fn reason_named(name: &str) -> Reason {
        Self::ALL
            .iter()
            .map(|known| known.reason)
            .find(|reason| reason.as_str() == name)
            .unwrap_or(Reason::APPLICATION)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Money;

    #[test]
    fn balance_limit_reason_states_the_limit() {
        assert!(Rejection::BALANCE_LIMIT.message.ends_with(&Money::MAX.to_string()));
    }

    #[test]
    fn recorded_reason_is_found_by_name() {
        for rejection in Rejection::ALL {
            assert_eq!(Rejection::reason_named(rejection.reason.as_str()), rejection.reason);
        }
        assert_eq!(Rejection::reason_named("of_an_older_release"), Reason::APPLICATION);
    }
}
