import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe } from '@jest/globals';
import type { OpenedBackend } from '../../src/backends/backend-type.js';
import { open as openLocal } from '../../src/backends/local/backend.js';
import { open as openRam } from '../../src/backends/ram/backend.js';
import { systemClock } from '../../src/clock/clock.js';
import { quietLog } from '../servers/quiet.js';
import { conformanceSuite } from './suite.js';

const context = {
  log: quietLog,
  clock: systemClock,
  writable: true,
  signal: new AbortController().signal,
};

describe('a local folder keeps the contract', () => {
  const path = mkdtempSync(join(tmpdir(), 'mirage-host-'));
  let opened: OpenedBackend;
  beforeAll(async () => {
    opened = await openLocal({ path }, context);
  });
  afterAll(async () => {
    await opened?.backend.close?.();
    rmSync(path, { recursive: true });
  });
  conformanceSuite(() => opened.backend);
});

describe('memory keeps the contract', () => {
  let opened: OpenedBackend;
  beforeAll(async () => {
    opened = await openRam({ size: 256 * 2 ** 20 }, context);
  });
  afterAll(async () => opened?.backend.close?.());
  conformanceSuite(() => opened.backend);
});
