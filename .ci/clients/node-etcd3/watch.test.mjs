// Watchers: what they are told, in which order, and from where on.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { scenario, recorder, sleep } from './scenario.mjs';

scenario('a watcher of one key is told its changes in order', async (keys) => {
  const watcher = await keys.watch().key('a').create();
  const { until } = recorder(watcher);
  await keys.put('a').value('1');
  await keys.put('b').value('not watched');
  await keys.put('a').value('2');
  await keys.delete().key('a');
  assert.deepEqual(await until(3), ['put a 1', 'put a 2', 'delete a']);
  await watcher.cancel();
});

scenario('a watcher of a prefix asks for what was there before', async (keys) => {
  const watcher = await keys.watch().prefix('p/').withPreviousKV().create();
  const { until } = recorder(watcher);
  await keys.put('p/1').value('a');
  await keys.put('q').value('not watched');
  await keys.put('p/1').value('b');
  await keys.delete().prefix('p/');
  assert.deepEqual(await until(3), ['put p/1 a', 'put p/1 b was a', 'delete p/1 was b']);
  await watcher.cancel();
});

scenario('a watcher from an old revision replays history', async (keys) => {
  const first = await keys.put('a').value('1').exec();
  await keys.put('a').value('2');
  const watcher = await keys.watch().key('a').startRevision(first.header.revision).create();
  const { until } = recorder(watcher);
  await until(2);
  await keys.put('a').value('3');
  assert.deepEqual(await until(3), ['put a 1', 'put a 2', 'put a 3']);
  await watcher.cancel();
});

scenario('filters keep puts or deletions away', async (keys) => {
  const deletions = await keys.watch().key('a').only('delete').create();
  const puts = await keys.watch().key('a').only('put').create();
  const [deleted, put] = [recorder(deletions), recorder(puts)];
  await keys.put('a').value('1');
  await keys.delete().key('a');
  await keys.put('a').value('2');
  await keys.delete().key('a');
  assert.deepEqual(await deleted.until(2), ['delete a', 'delete a']);
  assert.deepEqual(await put.until(2), ['put a 1', 'put a 2']);
  await deletions.cancel();
  await puts.cancel();
});

scenario('the changes of one transaction come in one message', async (keys) => {
  const watcher = await keys.watch().prefix('').create();
  const message = once(watcher, 'data');
  await keys.if('a', 'Create', '==', 0)
    .then(keys.put('a').value('1'), keys.put('b').value('2'))
    .commit();
  const [{ events }] = await message;
  assert.deepEqual(events.map(({ kv }) => `${kv.key}=${kv.value}`), ['a=1', 'b=2']);
  assert.equal(events[0].kv.mod_revision, events[1].kv.mod_revision);
  await watcher.cancel();
});

scenario('many watchers share one stream and each is told its own', async (keys) => {
  const names = Array.from({ length: 20 }, (_, index) => `k${index}`);
  const watchers = await Promise.all(names.map((name) => keys.watch().key(name).create()));
  assert.equal(new Set(watchers.map((it) => it.id)).size, names.length);
  const recorders = watchers.map(recorder);
  await Promise.all(names.map((name) => keys.put(name).value(`of ${name}`)));
  for (const [index, name] of names.entries()) {
    assert.deepEqual(await recorders[index].until(1), [`put ${name} of ${name}`]);
  }
  await Promise.all(watchers.map((it) => it.cancel()));
});

scenario('a cancelled watcher is told nothing more, its neighbour is', async (keys) => {
  const [quiet, loud] = [await keys.watch().key('a').create(), await keys.watch().key('a').create()];
  const [heard, told] = [recorder(quiet), recorder(loud)];
  await keys.put('a').value('1');
  await Promise.all([heard.until(1), told.until(1)]);
  await quiet.cancel();
  await keys.put('a').value('2');
  assert.deepEqual(await told.until(2), ['put a 1', 'put a 2']);
  await sleep(100);
  assert.deepEqual(heard.seen, ['put a 1']);
  await loud.cancel();
});

scenario('a watcher of a compacted revision is cancelled', async (keys) => {
  const first = await keys.put('a').value('1').exec();
  await keys.put('a').value('2');
  const last = await keys.put('a').value('3').exec();
  await keys.kv.compact({ revision: last.header.revision });
  const watcher = keys.watch().key('a').startRevision(first.header.revision).watcher();
  const [error] = await once(watcher, 'error');
  assert.match(error.message, /^Watcher canceled: /);
});
