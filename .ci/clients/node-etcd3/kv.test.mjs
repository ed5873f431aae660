// Puts, reads, deletions and transactions.

import assert from 'node:assert/strict';
import { scenario } from './scenario.mjs';

scenario('a value is read back in every form the client offers', async (keys) => {
  await keys.put('text').value('hällo');
  await keys.put('number').value(42);
  await keys.put('json').value(JSON.stringify({ a: [1, 2] }));
  await keys.put('bytes').value(Buffer.from([0, 255, 1]));
  assert.equal(await keys.get('text').string(), 'hällo');
  assert.equal(await keys.get('number').number(), 42);
  assert.deepEqual(await keys.get('json').json(), { a: [1, 2] });
  assert.deepEqual(await keys.get('bytes').buffer(), Buffer.from([0, 255, 1]));
  assert.equal(await keys.get('nothing').string(), null);
  assert.equal(await keys.get('nothing').exists(), false);
});

scenario('revisions and versions count the writes of a key', async (keys) => {
  await keys.put('a').value('1');
  const first = await keys.get('a').exec();
  await keys.put('a').value('2');
  const second = await keys.get('a').exec();
  const [old, young] = [first.kvs[0], second.kvs[0]];
  assert.equal(old.version, '1');
  assert.equal(young.version, '2');
  assert.equal(young.create_revision, old.create_revision);
  assert.ok(Number(young.mod_revision) > Number(old.mod_revision));
  assert.equal(await keys.get('a').revision(old.mod_revision).string(), '1');
  assert.equal(await keys.get('a').serializable(true).string(), '2');
});

scenario('ranges are sorted, limited, counted and bounded', async (keys) => {
  for (const [key, value] of [['b', '1'], ['a', '3'], ['c', '2'], ['other', '0']]) {
    await keys.put(`letter/${key}`).value(value);
  }
  const letters = () => keys.getAll().prefix('letter/');
  assert.deepEqual(await letters().keys(), ['letter/a', 'letter/b', 'letter/c', 'letter/other']);
  assert.deepEqual(await letters().sort('Value', 'Descend').keys(), [
    'letter/a', 'letter/c', 'letter/b', 'letter/other',
  ]);
  assert.deepEqual(await letters().sort('Create', 'Ascend').limit(2).strings(), {
    'letter/b': '1', 'letter/a': '3',
  });
  assert.equal(await letters().count(), 4);
  const between = keys.getAll().inRange({ start: 'letter/b', end: 'letter/d' });
  assert.deepEqual(await between.keys(), ['letter/b', 'letter/c']);
  const limited = await letters().limit(1).exec();
  assert.deepEqual([limited.more, limited.count, limited.kvs.length], [true, '4', 1]);
});

scenario('deletions say how much they removed and what it was', async (keys) => {
  for (const key of ['a/1', 'a/2', 'b']) {
    await keys.put(key).value(`value of ${key}`);
  }
  const previous = await keys.delete().key('b').getPrevious();
  assert.deepEqual(previous.map((kv) => `${kv.value}`), ['value of b']);
  assert.equal((await keys.delete().prefix('a/').exec()).deleted, '2');
  assert.equal((await keys.delete().all().exec()).deleted, '0');
  assert.deepEqual(await keys.getAll().keys(), []);
});

scenario('a put hands back what it replaced', async (keys) => {
  const nothing = await keys.put('a').value('1').getPrevious();
  assert.equal(nothing.value, undefined);
  const previous = await keys.put('a').value('2').getPrevious();
  assert.equal(`${previous.value}`, '1');
});

scenario('touching a key raises its version and keeps its value', async (keys) => {
  await keys.put('a').value('1');
  await keys.put('a').touch();
  const { kvs } = await keys.get('a').exec();
  assert.deepEqual([`${kvs[0].value}`, kvs[0].version], ['1', '2']);
});

scenario('a transaction takes the branch its comparisons choose', async (keys) => {
  const create = () => keys
    .if('a', 'Create', '==', 0)
    .then(keys.put('a').value('made'))
    .else(keys.get('a'))
    .commit();
  const first = await create();
  assert.equal(first.succeeded, true);
  const second = await create();
  assert.equal(second.succeeded, false);
  assert.equal(`${second.responses[0].response_range.kvs[0].value}`, 'made');

  const swap = await keys
    .if('a', 'Value', '==', 'made')
    .and('a', 'Version', '<', 2)
    .then(keys.delete().key('a'), keys.put('b').value('moved'))
    .commit();
  assert.equal(swap.succeeded, true);
  assert.equal(swap.responses[0].response_delete_range.deleted, '1');
  assert.deepEqual(await keys.getAll().strings(), { b: 'moved' });
});
