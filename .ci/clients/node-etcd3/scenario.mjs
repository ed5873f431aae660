// One scenario: a test with a client of its own, whose keys lie under the name of the scenario.

import { once } from 'node:events';
import { test } from 'node:test';
import { Etcd3 } from 'etcd3';

export function scenario(name, act) {
  test(name, { timeout: 30_000 }, async () => {
    const clients = [];
    const connect = () => {
      const client = new Etcd3({ hosts: process.env.METASTORE_CLIENTS_ENDPOINT });
      clients.push(client);
      return client.namespace(`${name}/`);
    };
    try {
      await act(connect(), connect);
    } finally {
      clients.forEach((client) => client.close());
    }
  });
}

export const sleep = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

// Collects what a watcher tells, in order, and waits until there are so many of them.
export function recorder(watcher) {
  const seen = [];
  watcher.on('put', (kv, previous) => {
    seen.push(`put ${kv.key} ${kv.value}${previous ? ` was ${previous.value}` : ''}`);
  });
  watcher.on('delete', (kv, previous) => {
    seen.push(`delete ${kv.key}${previous ? ` was ${previous.value}` : ''}`);
  });
  const until = async (count) => {
    while (seen.length < count) {
      await once(watcher, 'data');
    }
    return seen;
  };
  return { seen, until };
}
