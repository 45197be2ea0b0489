import express from 'express';
import mongoose from 'mongoose';
import { invalid, notFound } from './http-error.js';
import { BankAccount, BankTransfer, Payment, Retainer } from './models.js';

/** The routes of both editions: they read the request, and the edition writes to the database. */
export function routes({ retainers, payments, transfers }) {
  const router = express.Router();
  router.param('id', (_request, _response, next, id) => {
    next(mongoose.isObjectIdOrHexString(id) ? undefined : invalid('id is not valid'));
  });

  router.post('/retainers', async (request, response) => {
    const { clientId, retainerType, initialAmount } = body(request);
    const currentBalance = cents('initialAmount', initialAmount, 0);
    const retainer = await retainers.create({ clientId, retainerType, currentBalance });
    response.status(201).json({ retainer });
  });
  router.get('/retainers/:id', read(Retainer, 'Retainer', 'data'));
  router.post('/retainers/:id/consume', async (request, response) => {
    response.json({ retainer: await retainers.consume(request.params.id, movement(request)) });
  });
  router.post('/retainers/:id/replenish', async (request, response) => {
    response.json({ retainer: await retainers.replenish(request.params.id, movement(request)) });
  });

  router.post('/payments', async (request, response) => {
    const { customerId, amount, paymentMethod, status, invoiceId } = body(request);
    const fields = { customerId, paymentMethod, status, invoiceId, amount: cents('amount', amount, 1) };
    response.status(201).json({ payment: await payments.create(fields) });
  });
  router.get('/payments/:id', read(Payment, 'Payment', 'payment'));
  router.post('/payments/:id/complete', async (request, response) => {
    response.json({ payment: await payments.complete(request.params.id) });
  });

  // One document, so that it needs no transaction.
  router.post('/bank-accounts', async (request, response) => {
    const { name, accountNumber, bankName, currency, balance } = body(request);
    const openingBalance = cents('balance', balance, 0);
    const fields = { name, accountNumber, bankName, currency, openingBalance, availableBalance: openingBalance };
    response.status(201).json({ account: await BankAccount.create(fields) });
  });
  router.get('/bank-accounts/:id', read(BankAccount, 'Bank account', 'account'));

  router.post('/bank-transfers', async (request, response) => {
    const { fromAccountId, toAccountId, amount, description } = body(request);
    const fields = {
      fromAccountId: objectId('fromAccountId', fromAccountId),
      toAccountId: objectId('toAccountId', toAccountId),
      amount: cents('amount', amount, 1),
      description,
    };
    response.status(201).json({ transfer: await transfers.create(fields) });
  });
  router.get('/bank-transfers/:id', read(BankTransfer, 'Bank transfer', 'transfer'));
  router.post('/bank-transfers/:id/cancel', async (request, response) => {
    response.json({ transfer: await transfers.cancel(request.params.id) });
  });
  return router;
}

const read = (model, what, field) => async (request, response) => {
  const document = await model.findById(request.params.id);
  if (!document) {
    throw notFound(what);
  }
  response.json({ [field]: document });
};

function body(request) {
  if (typeof request.body !== 'object' || request.body === null || Array.isArray(request.body)) {
    throw invalid('the body is not a JSON object');
  }
  return request.body;
}

const movement = (request) => {
  const { amount, description } = body(request);
  return { amount: cents('amount', amount, 1), description };
};

function objectId(field, value) {
  if (!mongoose.isObjectIdOrHexString(value)) {
    throw invalid(`${field} is not an id`);
  }
  return new mongoose.Types.ObjectId(value);
}

/** 12.5 units are 1250 cents. */
function cents(field, value, least) {
  const amount = typeof value === 'number' ? Math.round(value * 100) : NaN;
  if (!Number.isSafeInteger(amount) || amount / 100 !== value || amount < least) {
    throw invalid(`${field} is not an amount of at least ${least / 100} with at most two decimals`);
  }
  return amount;
}
