// Locks and elections: leases, watches and transactions together.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { scenario } from './scenario.mjs';

scenario('a lock is held by one until it is released', async (keys, connect) => {
  const lock = keys.lock('door');
  await lock.acquire();
  await assert.rejects(
    connect().lock('door').acquire(),
    (refused) => refused.constructor.name === 'EtcdLockFailedError',
  );
  await lock.release();
  const second = connect().lock('door');
  await second.acquire();
  await second.release();
  assert.equal(await keys.get('door').exists(), false);
});

scenario('a lock around a function is released when it throws', async (keys) => {
  const held = keys.lock('door').do(async () => {
    assert.equal(await keys.get('door').exists(), true);
    throw new Error('out of luck');
  });
  await assert.rejects(held, /out of luck/);
  assert.equal(await keys.get('door').exists(), false);
});

scenario('an election passes from a candidate who resigns to the next', async (keys, connect) => {
  const first = keys.election('boss', 10).campaign('ann');
  await once(first, 'elected');
  const second = connect().election('boss', 10).campaign('bob');
  second.on('error', () => undefined);
  await once(second, '_isWaiting');
  assert.equal(await keys.election('boss').leader(), 'ann');

  const elected = once(second, 'elected');
  await first.resign();
  await elected;
  assert.equal(await keys.election('boss').leader(), 'bob');
  await second.resign();
  assert.equal(await keys.election('boss').leader(), undefined);
});

scenario('an observer is told every leader and what it proclaims', async (keys, connect) => {
  const campaign = keys.election('boss', 10).campaign('ann');
  await once(campaign, 'elected');
  const observer = await connect().election('boss').observe();
  assert.equal(observer.leader(), 'ann');

  let changed = once(observer, 'change');
  await campaign.proclaim('ann the second');
  assert.deepEqual(await changed, ['ann the second']);

  changed = once(observer, 'change');
  await campaign.resign();
  assert.deepEqual(await changed, [undefined]);

  changed = once(observer, 'change');
  const next = keys.election('boss', 10).campaign('bob');
  assert.deepEqual(await changed, ['bob']);
  await observer.cancel();
  await next.resign();
});
