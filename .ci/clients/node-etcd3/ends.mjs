// A reporter of node:test that writes how each test ended, `passed NAME` or `failed NAME`, and last how many there were:
// `ended N`. A test that was announced and of which nothing more was heard has failed, and so has a file that died.

import { basename } from 'node:path';

export default async function* ends(events) {
  const open = new Map();
  let count = 0;
  for await (const { type, data } of events) {
    const isFile = data?.name?.endsWith('.mjs');
    const key = `${data?.file}: ${data?.name}`;
    if (type === 'test:enqueue' && !isFile) {
      open.set(key, data.name);
    }
    if (type === 'test:fail' && isFile) {
      count += 1;
      yield `failed ${basename(data.name)}\n`;
    }
    if ((type === 'test:pass' || type === 'test:fail') && !isFile) {
      const passed = type === 'test:pass' && data.skip === undefined && data.todo === undefined;
      open.delete(key);
      count += 1;
      yield `${passed ? 'passed' : 'failed'} ${data.name}\n`;
    }
  }
  for (const name of open.values()) {
    count += 1;
    yield `failed ${name}\n`;
  }
  yield `ended ${count}\n`;
}
