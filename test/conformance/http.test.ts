import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe } from '@jest/globals';
import type { OpenedBackend } from '../../src/backends/backend-type.js';
import { open } from '../../src/backends/http/open.js';
import { httpOptions } from '../../src/backends/http/options.js';
import { layered } from '../../src/backends/layers/stack.js';
import { systemClock } from '../../src/clock/clock.js';
import { type Nginx, startNginx } from '../servers/nginx.js';
import { quietLog } from '../servers/quiet.js';
import { conformanceSuite } from './suite.js';

const context = { log: quietLog, clock: systemClock, writable: false, signal: new AbortController().signal };

describe('http keeps the contract, against nginx', () => {
  let server: Nginx;
  beforeAll(async () => {
    server = await startNginx();
    mkdirSync(join(server.data, 'a folder', 'deeper'), { recursive: true });
    writeFileSync(join(server.data, 'a folder', 'deeper', 'large'), Buffer.alloc(9_000_001, 'large; '));
    for (const name of ['plain', 'a b', 'percent%41', 'q?mark#hash', '日本語', `&<>"'`, 'semi;colon:,@$+='])
      writeFileSync(join(server.data, name), `content of ${name}`);
  });
  afterAll(() => server?.stop());

  describe.each(['/', '/html/', '/rounded/', '/no-ranges/', '/no-etags/'])('below %s', (path) => {
    let opened: OpenedBackend;
    beforeAll(async () => {
      const options = httpOptions.parse({ url: `${server.origin}${path}` });
      opened = await layered({ open: (o) => open(o as typeof options, context) }).open(options, context);
    });
    afterAll(() => opened?.backend.close?.());
    conformanceSuite(() => opened.backend);
  });

  describe('as a manifest', () => {
    let opened: OpenedBackend;
    beforeAll(async () => {
      const { origin } = server;
      const files = {
        'there/large.bin': `${origin}/a%20folder/deeper/large`,
        'here.txt': { url: `${origin}/plain`, size: 16 },
      };
      opened = await open(httpOptions.parse({ files }), context);
    });
    afterAll(() => opened?.backend.close?.());
    conformanceSuite(() => opened.backend);
  });
});
