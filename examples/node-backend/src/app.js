import express from 'express';
import mongoose from 'mongoose';
import { HttpError } from './http-error.js';
import { routes } from './routes.js';

/**
 * @param edition the functions that write, with or without transactions
 * @param {{ metrics: boolean }} options whether this process counts its own operations; behind `txnscope proxy` it need not
 */
export async function createApp(edition, { metrics }) {
  const app = express();
  app.disable('x-powered-by');
  if (metrics) {
    const [{ observe }, { OPERATIONS }] = await Promise.all([import('./txnscope.js'), import('./operations.js')]);
    app.use(observe(OPERATIONS, mongoose.connection.getClient()));
  }
  app.get('/-/healthy', (_request, response) => response.send('healthy\n'));
  app.use('/api', express.json({ limit: '16kb' }), routes(edition));
  app.use(() => {
    throw new HttpError(404, 'No such route');
  });
  app.use(sendError);
  return app;
}

// Express recognizes an error handler by its four parameters.
function sendError(error, _request, response, next) {
  if (response.headersSent) {
    next(error);
    return;
  }
  const { status, message, reason } = describe(error);
  response.locals.reason = reason;
  if (status >= 500) {
    console.error(error);
  }
  response.status(status).json({ message });
}

/** What the client learns. The text of an unexpected error may quote data, so that it goes to the log only. */
function describe(error) {
  if (error instanceof HttpError) {
    return error;
  }
  if (error instanceof mongoose.Error.ValidationError || error instanceof mongoose.Error.CastError) {
    return { status: 400, message: error.message };
  }
  // Of the parser of the body: malformed JSON, or too much of it.
  if (error.expose && error.status < 500) {
    return error;
  }
  return { status: 500, message: 'Internal error' };
}
