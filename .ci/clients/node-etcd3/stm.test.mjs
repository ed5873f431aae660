// Software transactions: reads and writes that are tried again until nobody came between.

import assert from 'node:assert/strict';
import { scenario } from './scenario.mjs';

// Isolation levels by their numbers in the client, which exports only their type.
const LEVELS = { 'serializable snapshot': 0, serializable: 1, 'repeatable reads': 2, 'read committed': 3 };

for (const [level, isolation] of Object.entries(LEVELS)) {
  scenario(`a transfer at the level ${level} keeps the sum`, async (keys) => {
    // At one revision: the client's snapshot begins at the older of the two.
    await keys.if('ann', 'Create', '==', 0)
      .then(keys.put('ann').value(10), keys.put('bob').value(5))
      .commit();
    await keys.stm({ isolation }).transact(async (tx) => {
      const [ann, bob] = [await tx.get('ann').number(), await tx.get('bob').number()];
      await tx.put('ann').value(ann - 3);
      await tx.put('bob').value(bob + 3);
    });
    assert.deepEqual(await keys.getAll().strings(), { ann: '7', bob: '8' });
  });
}

scenario('counting from many sides at once loses no count', async (keys, connect) => {
  await keys.put('count').value(0);
  const counters = Array.from({ length: 5 }, () => connect());
  await Promise.all(counters.map(async (side) => {
    for (let round = 0; round < 5; round += 1) {
      await side.stm({ retries: 1000 }).transact(async (tx) => {
        await tx.put('count').value(await tx.get('count').number() + 1);
      });
    }
  }));
  assert.equal(await keys.get('count').number(), 25);
});

scenario('a transaction that lost its race and may not retry says so', async (keys) => {
  await keys.put('a').value(1);
  const lost = keys.stm({ retries: 0 }).transact(async (tx) => {
    const before = await tx.get('a').number();
    await keys.put('a').value(50);
    await tx.put('a').value(before + 1);
  });
  await assert.rejects(lost, (error) => error.constructor.name === 'STMConflictError');
  assert.equal(await keys.get('a').number(), 50);
});
