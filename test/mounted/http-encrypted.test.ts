/** https:// and webdavs://: a real server each, behind an end of the encryption whose certificate an authority of the test's own has signed. */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createServer, type Server } from 'node:tls';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { startApacheDav } from '../servers/apache-dav.js';
import type { DavServer } from '../servers/dav-server.js';
import { type Nginx, startNginx } from '../servers/nginx.js';
import { Mirage } from './mount.js';
import { run, shell } from './process.js';

const DEADLINE = 90_000;
let folder: string;
let authority: string;
let files: Nginx;
let dav: DavServer;
const ends: Server[] = [];

/** Ends the encryption of what goes to `port`; resolves with the port that it listens on. */
async function encrypted(port: number): Promise<number> {
  const pem = (name: string) => readFileSync(join(folder, name));
  const server = createServer({ cert: pem('certificate.pem'), key: pem('key.pem') }, (socket) => {
    const plain = connect(port, '127.0.0.1');
    for (const end of [socket, plain]) end.on('error', () => undefined);
    socket.pipe(plain).pipe(socket);
    socket.on('close', () => plain.destroy());
  });
  server.on('tlsClientError', () => undefined);
  ends.push(server);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'mirage-certificates-'));
  authority = join(folder, 'certificate.pem');
  const self = ['-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=test'];
  const name = ['-addext', 'subjectAltName=IP:127.0.0.1'];
  const out = ['-keyout', join(folder, 'key.pem'), '-out', authority];
  execFileSync('openssl', ['req', ...self, ...name, ...out], { stdio: 'ignore' });
  files = await startNginx();
  dav = await startApacheDav();
}, DEADLINE);
afterAll(async () => {
  for (const end of ends) end.close();
  await dav?.stop();
  await files?.stop();
  rmSync(folder, { recursive: true, force: true });
}, DEADLINE);

test(
  'what travels encrypted is the same, large and small, read and written',
  async () => {
    const large = randomBytes(5_000_003);
    writeFileSync(join(files.data, 'large'), large);
    writeFileSync(join(dav.folder, 'large'), large);
    const mirage = await Mirage.start({
      mounts: {
        '/files': { type: 'http', url: `https://127.0.0.1:${await encrypted(files.port)}/` },
        '/dav': {
          type: 'webdav',
          mode: 'write',
          url: `webdavs://127.0.0.1:${await encrypted(dav.port)}/`,
          ca: authority,
        },
      },
      env: { NODE_EXTRA_CA_CERTS: authority },
    });
    try {
      for (const name of ['files', 'dav']) {
        // Not in a call that blocks: this process carries the bytes.
        const compared = await run('cmp', [join(files.data, 'large'), mirage.path(name, 'large')]);
        expect(compared).toMatchObject({
          stderr: '',
          code: 0,
        });
      }
      await shell(
        'cp files/large dav/copy && echo small > dav/small && mv dav/small dav/moved',
        mirage.mountpoint,
      );
      expect(readFileSync(join(dav.folder, 'copy')).equals(large)).toBe(true);
      expect(readFileSync(join(dav.folder, 'moved'), 'utf8')).toBe('small\n');
    } finally {
      await mirage.dispose();
    }
  },
  DEADLINE,
);

test.each([
  ['http', () => files.port, 'https', /NODE_EXTRA_CA_CERTS/],
  ['webdav', () => dav.port, 'webdavs', /`ca`/],
] as const)(
  'a certificate of nobody known fails the mount of %s, and says what to do',
  async (type, port, scheme, hint) => {
    const url = `${scheme}://127.0.0.1:${await encrypted(port())}/`;
    const starting = Mirage.start({ mounts: { '/m': { type, url } } });
    await expect(starting).rejects.toThrow(hint);
  },
  DEADLINE,
);

test(
  'a mount point and a URL are all that a mount of one folder needs',
  async () => {
    writeFileSync(join(files.data, 'hello'), 'from the web server\n');
    writeFileSync(join(dav.folder, 'hello'), 'from the WebDAV server\n');
    const home = mkdtempSync(join(tmpdir(), 'mirage-home-'));
    const other = await Mirage.start({ mounts: { '/ram': { type: 'ram' } } });
    try {
      for (const [url, said] of [
        [`${files.origin}/`, 'from the web server\n'],
        [`${files.origin}/hello`, 'from the web server\n'],
        [dav.url.replace('http', 'webdav'), 'from the WebDAV server\n'],
      ] as const) {
        const mounted = await other.mirage('mount', url, home);
        expect(mounted).toMatchObject({ code: 0 });
        try {
          expect((await run('cat', [join(home, 'hello')])).stdout).toBe(said);
        } finally {
          expect(await other.mirage('unmount', home)).toMatchObject({ code: 0 });
        }
      }
    } finally {
      await other.dispose();
      rmSync(home, { recursive: true, force: true });
    }
  },
  DEADLINE,
);
