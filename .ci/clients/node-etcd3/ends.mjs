// A reporter of node:test that writes how each test ended: `passed NAME` or `failed NAME`.

export default async function* ends(events) {
  for await (const { type, data } of events) {
    if ((type === 'test:pass' || type === 'test:fail') && !data.name.endsWith('.mjs')) {
      const passed = type === 'test:pass' && data.skip === undefined && data.todo === undefined;
      yield `${passed ? 'passed' : 'failed'} ${data.name}\n`;
    }
  }
}
