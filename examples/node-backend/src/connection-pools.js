// The driver's connection pools, counted by its events: how many connections are in use, and how many commands wait for one.

const DEFAULT_MAX_SIZE = 100;

/** @returns a function that lists the pools, for the table of the route `/-/transactions` */
export function watchConnectionPools(client) {
  const pools = new Map();
  const pool = (server) => {
    if (!pools.has(server)) {
      pools.set(server, { connections: new Set(), inUse: new Set(), waiting: 0 });
    }
    return pools.get(server);
  };
  client.on('connectionCreated', ({ address, connectionId }) => pool(address).connections.add(connectionId));
  client.on('connectionCheckOutStarted', ({ address }) => { pool(address).waiting += 1; });
  client.on('connectionCheckOutFailed', ({ address }) => stopWaiting(pool(address)));
  client.on('connectionCheckedOut', ({ address, connectionId }) => {
    const taken = pool(address);
    stopWaiting(taken);
    taken.inUse.add(connectionId);
    // It may have been created before this listener.
    taken.connections.add(connectionId);
  });
  client.on('connectionCheckedIn', ({ address, connectionId }) => pool(address).inUse.delete(connectionId));
  client.on('connectionClosed', ({ address, connectionId }) => {
    pool(address).inUse.delete(connectionId);
    pool(address).connections.delete(connectionId);
  });
  client.on('connectionPoolClosed', ({ address }) => pools.delete(address));

  const { maxPoolSize = DEFAULT_MAX_SIZE } = client.options;
  return () => [...pools].map(([server, { connections, inUse, waiting }]) => ({
    server, connections: connections.size, inUse: inUse.size, maxSize: maxPoolSize || null, waiting,
  }));
}

/** A command that has waited since before this listener was not counted. */
function stopWaiting(pool) {
  pool.waiting = Math.max(0, pool.waiting - 1);
}
