// The collections. Amounts are whole cents, since sums of decimal fractions are not exact in JavaScript; clients send and
// receive units, such as 12.5.
import mongoose from 'mongoose';

const { ObjectId } = mongoose.Schema.Types;
const AMOUNTS = ['amount', 'currentBalance', 'openingBalance', 'availableBalance'];

const cents = { type: Number, required: true, validate: Number.isSafeInteger };
const text = { type: String, required: true, trim: true };

const options = (collection) => ({
  collection,
  timestamps: true,
  toJSON: {
    versionKey: false,
    transform(_document, json) {
      for (const field of AMOUNTS.filter((name) => name in json)) {
        json[field] /= 100;
      }
    },
  },
});

export const Retainer = mongoose.model('Retainer', new mongoose.Schema({
  clientId: text,
  retainerType: { type: String, required: true, enum: ['hourly', 'fixed', 'evergreen'] },
  currentBalance: cents,
}, options('retainers')));

/** The history of the retainers. It has no bound, so that it is no array in the retainer's document. */
export const RetainerMovement = mongoose.model('RetainerMovement', new mongoose.Schema({
  retainerId: { type: ObjectId, required: true, index: true },
  kind: { type: String, required: true, enum: ['deposit', 'consumption'] },
  amount: cents,
  description: { type: String, default: '' },
}, options('retainerMovements')));

export const Payment = mongoose.model('Payment', new mongoose.Schema({
  customerId: text,
  amount: cents,
  paymentMethod: { type: String, required: true, enum: ['card', 'cash', 'transfer'] },
  status: {
    type: String,
    enum: ['pending', 'processing', 'completed', 'failed', 'cancelled'],
    default: 'pending',
  },
  invoiceId: { type: String, trim: true },
  completedAt: Date,
}, options('payments')));

/** What was posted to the general ledger: each completed payment, once. */
export const LedgerEntry = mongoose.model('LedgerEntry', new mongoose.Schema({
  paymentId: { type: ObjectId, required: true, index: true },
  amount: cents,
}, options('ledgerEntries')));

export const BankAccount = mongoose.model('BankAccount', new mongoose.Schema({
  name: text,
  accountNumber: text,
  bankName: text,
  currency: { type: String, required: true, match: /^[A-Z]{3}$/ },
  openingBalance: cents,
  availableBalance: cents,
}, options('bankAccounts')));

export const BankTransfer = mongoose.model('BankTransfer', new mongoose.Schema({
  fromAccountId: { type: ObjectId, required: true, index: true },
  toAccountId: { type: ObjectId, required: true, index: true },
  amount: cents,
  description: { type: String, default: '' },
  status: { type: String, enum: ['completed', 'cancelled'], default: 'completed' },
  cancelledAt: Date,
}, options('bankTransfers')));
