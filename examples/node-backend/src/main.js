// Starts the backend. MONGODB_URI names the database; EDITION is `before` or `after`; METRICS=true counts in this process.
import mongoose from 'mongoose';
import { createApp } from './app.js';

const { MONGODB_URI, EDITION = 'after', PORT = '3000', METRICS = 'false' } = process.env;

function exit(message) {
  console.error(message);
  process.exit(2);
}

if (!MONGODB_URI) {
  exit('set MONGODB_URI, for example to mongodb://127.0.0.1:27017/app?replicaSet=rs0&appName=node-backend');
}
if (!['before', 'after'].includes(EDITION)) {
  exit('EDITION is neither `before` nor `after`');
}

const { default: edition } = await import(`./editions/${EDITION}/index.js`);

try {
  // The options of the connection are in the URI. Command events feed the counters of `txnscope.js` alone.
  await mongoose.connect(MONGODB_URI, { monitorCommands: METRICS === 'true' });
  // A collection that is created in a transaction would conflict with other transactions.
  await Promise.all(Object.values(mongoose.models).map((model) => model.init()));
  await edition.createIndexes?.();
} catch (error) {
  // The message of an invalid URI may contain the password.
  exit(`cannot connect (${error.name}): check MONGODB_URI, and that the replica set has a primary`);
}

const app = await createApp(edition, { metrics: METRICS === 'true' });
const server = app.listen(Number(PORT), '127.0.0.1', (error) => {
  if (error) {
    exit(`cannot listen on port ${PORT}: ${error.code}`);
  }
  console.log(`edition ${EDITION} listening on 127.0.0.1:${server.address().port}`);
});

// Requests in flight are answered, and their transactions end, before the connections to the database are closed.
function shutDown() {
  server.close(() => mongoose.disconnect());
}
process.once('SIGTERM', shutDown);
process.once('SIGINT', shutDown);
