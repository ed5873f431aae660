// Leases: granted, kept alive, revoked, expired.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { scenario, recorder, sleep } from './scenario.mjs';

scenario('a revoked lease takes its keys along', async (keys) => {
  const lease = keys.lease(60, { autoKeepAlive: false });
  await lease.put('a').value('1');
  await lease.put('b').value('2');
  await keys.put('c').value('3');
  const { kvs } = await keys.get('a').exec();
  assert.equal(kvs[0].lease, await lease.grant());
  await lease.revoke();
  assert.deepEqual(await keys.getAll().strings(), { c: '3' });
});

scenario('a lease nobody renews expires, and watchers are told', async (keys) => {
  const lease = keys.lease(1, { autoKeepAlive: false });
  await lease.put('a').value('1');
  const watcher = await keys.watch().key('a').create();
  const { until } = recorder(watcher);
  assert.deepEqual(await until(1), ['delete a']);
  assert.equal(await keys.get('a').exists(), false);
  await watcher.cancel();
});

scenario('a lease that is kept alive outlives its time', async (keys) => {
  const lease = keys.lease(1);
  await lease.put('a').value('1');
  const renewals = [];
  lease.on('keepaliveSucceeded', (answer) => renewals.push(answer.TTL));
  await sleep(3_000);
  assert.equal(await keys.get('a').string(), '1');
  assert.ok(renewals.length >= 3, `${renewals.length} renewals`);
  assert.ok(renewals.every((ttl) => ttl === '1' || ttl === '2'), `${renewals}`);
  await lease.revoke();
  assert.equal(await keys.get('a').exists(), false);
});

scenario('one renewal answers the time to live', async (keys) => {
  const lease = keys.lease(30, { autoKeepAlive: false });
  const id = await lease.grant();
  const answer = await lease.keepaliveOnce();
  assert.deepEqual([answer.ID, answer.TTL], [id, '30']);
  await lease.revoke();
});

scenario('a lease revoked behind the back of its holder is lost', async (keys, connect) => {
  const lease = keys.lease(2);
  const id = await lease.grant();
  const lost = once(lease, 'lost');
  await connect().leaseClient.leaseRevoke({ ID: id });
  const [error] = await lost;
  assert.equal(error.constructor.name, 'EtcdLeaseInvalidError');
  await assert.rejects(
    keys.put('a').value('1').lease(id).exec(),
    (refused) => refused.constructor.name === 'EtcdLeaseInvalidError',
  );
});

scenario('time to live tells the granted time and the keys', async (keys) => {
  const lease = keys.lease(90, { autoKeepAlive: false });
  const id = await lease.grant();
  await lease.put('a').value('1');
  const told = await keys.leaseClient.leaseTimeToLive({ ID: id, keys: true });
  assert.equal(told.grantedTTL, '90');
  assert.ok(Number(told.TTL) > 80 && Number(told.TTL) <= 90, told.TTL);
  assert.deepEqual(told.keys.map(String), ['time to live tells the granted time and the keys/a']);
  const { leases } = await keys.leaseClient.leaseLeases();
  assert.ok(leases.some((it) => it.ID === id));
  await lease.revoke();
  const gone = await keys.leaseClient.leaseTimeToLive({ ID: id, keys: true });
  assert.equal(gone.TTL, '-1');
});
