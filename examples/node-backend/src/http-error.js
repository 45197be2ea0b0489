/** An answer other than success: its status, its message for the client, and its reason for metrics. */
export class HttpError extends Error {
  constructor(status, message, reason) {
    super(message);
    this.status = status;
    this.reason = reason;
  }
}

export const invalid = (message) => new HttpError(400, message);
export const notFound = (what) => new HttpError(404, `${what} not found`, 'not_found');

/** A business rule rejects the request. */
export const rejected = (reason, message) => new HttpError(400, message, reason);

export const insufficient = (cents) =>
  rejected('insufficient_balance', `Insufficient balance: ${(cents / 100).toFixed(2)} available`);
