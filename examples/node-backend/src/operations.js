/** The operations that count, each with the reasons for which a business rule may reject it. */
export const OPERATIONS = {
  'POST /api/retainers': [],
  'POST /api/retainers/{id}/consume': ['not_found', 'insufficient_balance'],
  'POST /api/retainers/{id}/replenish': ['not_found'],
  'POST /api/payments': ['invoice_already_paid'],
  'POST /api/payments/{id}/complete': [
    'not_found', 'payment_already_completed', 'payment_not_completable', 'invoice_already_paid',
  ],
  'POST /api/bank-accounts': [],
  'POST /api/bank-transfers': ['not_found', 'same_account', 'currency_mismatch', 'insufficient_balance'],
  'POST /api/bank-transfers/{id}/cancel': ['not_found', 'transfer_already_cancelled', 'insufficient_balance'],
};
