import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { OpenedBackend } from '../../src/backends/backend-type.js';
import { layered } from '../../src/backends/layers/stack.js';
import { open } from '../../src/backends/webdav/open.js';
import { webdavOptions } from '../../src/backends/webdav/options.js';
import { systemClock } from '../../src/clock/clock.js';
import { startApacheDav } from '../servers/apache-dav.js';
import type { DavServer } from '../servers/dav-server.js';
import { startNginxDav } from '../servers/nginx-dav.js';
import { quietLog } from '../servers/quiet.js';
import { conformanceSuite } from './suite.js';

const context = {
  log: quietLog,
  clock: systemClock,
  writable: true,
  signal: new AbortController().signal,
};

const hidden = 'nginx does not list names that begin with a dot';

const servers = {
  'Apache mod_dav': {
    start: () => startApacheDav(),
    limits: {},
    probed: {
      locks: true,
      lockConditions: true,
      writeAbsent: true,
      writeMatch: 'if',
      writeTellsVersion: false,
      attributes: true,
      overwrite: true,
      moveKeepsVersion: true,
    },
  },
  'nginx dav-ext': {
    start: () => startNginxDav(),
    limits: {
      'odd names are names like others': hidden,
      'odd names are directories like others': hidden,
      'a copy has the content, and the attributes of its source or those it was given':
        'at times: nginx tells versions by size and second alone',
    },
    probed: {
      locks: true,
      lockConditions: false,
      writeAbsent: false,
      writeMatch: false,
      writeTellsVersion: false,
      attributes: false,
      overwrite: true,
      moveKeepsVersion: true,
    },
  },
};

describe.each(Object.entries(servers))(
  'webdav keeps the contract, against %s',
  (_name, { start, probed, limits }) => {
    let server: DavServer;
    let bare: OpenedBackend;
    let whole: OpenedBackend;

    beforeAll(async () => {
      server = await start();
      await fetch(`${server.url}/some%20folder/`, { method: 'MKCOL' });
      const module = { open: (given: unknown) => open(webdavOptions.parse(given), context) };
      bare = await module.open({ url: server.url });
      whole = await layered(module).open({ url: `${server.url}/some%20folder/` }, context);
    });
    afterAll(async () => {
      await bare?.backend.close?.();
      await whole?.backend.close?.();
      await server?.stop();
    });

    test('what it honours is found out', () => expect(bare.probed).toEqual(probed));

    describe('the backend alone', () => conformanceSuite(() => bare.backend, limits));
    // What this host made a moment ago is listed by its layers, whatever the server hides.
    const still = Object.fromEntries(Object.entries(limits).filter(([, why]) => why !== hidden));
    describe('in its layers, below a folder', () => conformanceSuite(() => whole.backend, still));
  },
);
