// Races as a client runs them, with axios: many requests at once on the same document, of which one may succeed. URL is where
// the backend is, or `txnscope proxy` in front of it. Exits with 1 if a race was lost.
import axios from 'axios';

const { URL: baseURL = 'http://127.0.0.1:8080', CONCURRENCY = '10' } = process.env;
// A rejection is an answer like any other here, and a proxy of the environment is not the one that is meant.
const api = axios.create({ baseURL, validateStatus: () => true, proxy: false });
const concurrency = Number(CONCURRENCY);
let sent = 0;
let lost = 0;

async function send(method, path, data) {
  sent += method === 'post' ? 1 : 0;
  const { status, data: answer } = await api.request({ method, url: path, data });
  return { status, answer };
}

async function create(path, what, data) {
  const { status, answer } = await send('post', path, data);
  if (status !== 201) {
    throw new Error(`POST ${path} answered ${status}: ${JSON.stringify(answer)}`);
  }
  return answer[what]._id;
}

/** Sends the same request many times at once. */
const burst = (path, data) => Promise.all(Array.from({ length: concurrency }, () => send('post', path, data)));

function report(what, answers, held) {
  const succeeded = answers.filter(({ status }) => status < 300).length;
  const unexpected = answers.find(({ status }) => status >= 300 && status !== 400);
  const passed = succeeded === 1 && !unexpected && held;
  lost += passed ? 0 : 1;
  console.log(`${what}: ${succeeded} of ${answers.length} succeeded, and 1 may: ${passed ? 'passed' : 'lost'}`);
}

async function consume() {
  const id = await create('/api/retainers', 'retainer', { clientId: 'axios', retainerType: 'hourly', initialAmount: 1000 });
  const answers = await burst(`/api/retainers/${id}/consume`, { amount: 800, description: 'race' });
  const { answer } = await send('get', `/api/retainers/${id}`);
  report('consume', answers, answer.data.currentBalance === 200);
}

async function complete() {
  const fields = { customerId: 'axios', amount: 12.5, paymentMethod: 'card', status: 'pending' };
  const id = await create('/api/payments', 'payment', fields);
  report('complete', await burst(`/api/payments/${id}/complete`, {}), true);
}

async function transfer() {
  const account = { name: 'axios', accountNumber: '1', bankName: 'b', currency: 'EUR', balance: 1000 };
  const from = await create('/api/bank-accounts', 'account', account);
  const to = await create('/api/bank-accounts', 'account', account);
  const fields = { fromAccountId: from, toAccountId: to, amount: 800, description: 'race' };
  const answers = await burst('/api/bank-transfers', fields);
  const { answer } = await send('get', `/api/bank-accounts/${from}`);
  report('transfer', answers, answer.account.availableBalance === 200);
}

await consume();
await complete();
await transfer();
console.log(`${sent} operations sent`);
process.exitCode = lost > 0 ? 1 : 0;
