/** Digest authentication: the examples of RFC 7616, Apache's mod_auth_digest, and a server that wants SHA-256. */
import { createHash } from 'node:crypto';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import type { OpenedBackend } from '../../src/backends/backend-type.js';
import { open } from '../../src/backends/http/open.js';
import { httpOptions } from '../../src/backends/http/options.js';
import { Credentials } from '../../src/backends/web/credentials.js';
import { digestAuthorization, digestChallenge, parseChallenges } from '../../src/backends/web/digest.js';
import { open as openWebdav } from '../../src/backends/webdav/open.js';
import { webdavOptions } from '../../src/backends/webdav/options.js';
import { systemClock } from '../../src/clock/clock.js';
import { startApacheDav } from '../servers/apache-dav.js';
import type { DavServer } from '../servers/dav-server.js';
import { type FaultyHttp, serves, startFaultyHttp } from '../servers/faulty-http.js';
import { quietLog } from '../servers/quiet.js';

const { signal } = new AbortController();
const context = { signal };
const openContext = { log: quietLog, clock: systemClock, writable: false, signal };
const READER = { username: 'reader', password: 'secret:word' };
const REALM = 'files "of" ours';

const sha256 = (...parts: readonly string[]): string =>
  createHash('sha256').update(parts.join(':')).digest('hex');

/** `name="value"` and `name=value` of an Authorization header. */
const fields = (header = ''): Record<string, string> =>
  Object.fromEntries(
    [...header.matchAll(/(\w+)=(?:"((?:[^"\\]|\\.)*)"|([^\s,]+))/g)].map(([, name, quoted, plain]) => [
      name,
      quoted?.replace(/\\(.)/g, '$1') ?? plain,
    ]),
  );

describe('the answer to a challenge', () => {
  const header =
    'Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm=SHA-256, nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"';
  const answer = (challenge: string): Record<string, string> =>
    fields(
      digestAuthorization(
        { username: 'Mufasa', password: 'Circle of Life' },
        digestChallenge(parseChallenges(challenge))!,
        { method: 'GET', target: '/dir/index.html', count: 1 },
        'f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ',
      ),
    );

  test('is that of the examples in RFC 7616', () => {
    expect(answer(header)).toEqual({
      username: 'Mufasa',
      realm: 'http-auth@example.org',
      uri: '/dir/index.html',
      algorithm: 'SHA-256',
      nonce: '7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v',
      nc: '00000001',
      cnonce: 'f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ',
      qop: 'auth',
      response: '753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1',
      opaque: 'FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS',
    });
    expect(answer(header.replace('SHA-256', 'MD5')).response).toBe('8ca523f5e9506fed4657c9700eebdbec');
  });

  test('is found among others in one header, and is to the first that can be answered', () => {
    const challenges = parseChallenges([
      `Negotiate YWJj==, Newauth realm="a, b", type=1, Digest realm="x", nonce="n", algorithm=Unheard, ${header}`,
      'Basic realm="simple \\"one\\""',
    ]);
    expect(challenges.map(({ scheme }) => scheme)).toEqual([
      'negotiate',
      'newauth',
      'digest',
      'digest',
      'basic',
    ]);
    expect(challenges.at(-1)?.parameters.get('realm')).toBe('simple "one"');
    expect(digestChallenge(challenges)).toMatchObject({
      realm: 'http-auth@example.org',
      algorithm: 'SHA-256',
    });
    expect(digestChallenge(parseChallenges('Digest realm="x", nonce="n", qop="auth-int"'))).toBeUndefined();
    expect(parseChallenges(undefined)).toEqual([]);
  });

  test('is not given twice to a server that refuses it', () => {
    const credentials = new Credentials(READER);
    const basic = credentials.authorization('GET', '/');
    expect(basic).toMatch(/^Basic /);
    expect(credentials.refused('Basic realm="x"', basic)).toBe(false);
    expect(credentials.refused(header, basic)).toBe(true);
    const first = credentials.authorization('GET', '/');
    expect(fields(first)).toMatchObject({ nc: '00000001', username: 'reader' });
    expect(fields(credentials.authorization('GET', '/')).nc).toBe('00000002');
    expect(credentials.refused(header, first)).toBe(false);
    expect(credentials.refused(`${header}, stale=true`, first)).toBe(true);
  });
});

describe('mod_auth_digest of Apache', () => {
  let server: DavServer;
  let folder: string;
  const opened: OpenedBackend[] = [];

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'mirage-digest-'));
    // The server reads it as somebody else.
    chmodSync(folder, 0o755);
    const users = join(folder, 'users');
    const hash = createHash('md5').update(`${READER.username}:files:${READER.password}`).digest('hex');
    writeFileSync(users, `${READER.username}:files:${hash}\n`);
    server = await startApacheDav({
      directives: ['AuthType Digest', 'AuthName files', `AuthUserFile ${users}`, 'Require valid-user'],
    });
  });
  afterEach(async () => {
    for (const { backend } of opened.splice(0)) await backend.close?.();
  });
  afterAll(async () => {
    await server?.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  test('lets a web mount in, for whole files and for large ranges', async () => {
    const content = Buffer.alloc(3 << 20, 'content');
    writeFileSync(join(server.folder, 'large.bin'), content);
    const url = `${server.url}/large.bin`;
    const mount = async (more: object): Promise<OpenedBackend> => {
      const found = await open(httpOptions.parse({ url, ...more }), openContext);
      opened.push(found);
      return found;
    };
    await expect(mount({})).rejects.toMatchObject({ errno: 'EACCES' });
    await expect(mount({ ...READER, password: 'wrong' })).rejects.toMatchObject({ errno: 'EACCES' });
    await expect(mount({ ...READER, authentication: 'basic' })).rejects.toMatchObject({ errno: 'EACCES' });
    for (const authentication of [undefined, 'digest']) {
      const { backend } = await mount({ ...READER, authentication });
      for (const range of [
        { offset: 0, length: 2 ** 40 },
        { offset: 1 << 20, length: 2 << 20 },
        { offset: 5, length: 100 },
      ]) {
        const chunks: Uint8Array[] = [];
        const sink = { write: (chunk: Uint8Array) => void chunks.push(Buffer.from(chunk)) };
        await backend.read('large.bin', range, sink, context);
        const wanted = content.subarray(range.offset, range.offset + range.length);
        expect(Buffer.concat(chunks).equals(wanted)).toBe(true);
      }
    }
  });

  test('lets a WebDAV mount in, to read and to write', async () => {
    const options = webdavOptions.parse({ url: server.url, ...READER, authentication: 'digest' });
    const found = await openWebdav(options, { ...openContext, writable: true });
    opened.push(found);
    const { backend } = found;
    const bytes = Buffer.from('written');
    const source = {
      size: bytes.length,
      async *read() {
        yield bytes;
      },
    };
    const { validator } = await backend.write(
      'new.txt',
      source,
      { precondition: { kind: 'absent' } },
      context,
    );
    expect(validator).toBeDefined();
    expect(readFileSync(join(server.folder, 'new.txt'), 'utf8')).toBe('written');
    const wrong = webdavOptions.parse({ url: server.url, ...READER, password: 'wrong' });
    await expect(openWebdav(wrong, openContext)).rejects.toMatchObject({ errno: 'EACCES' });
  });
});

describe('a server that wants SHA-256 and tires of its nonces', () => {
  let server: FaultyHttp;
  beforeAll(async () => {
    server = await startFaultyHttp();
  });
  afterAll(() => server?.stop());

  test('gets the right answers, and never the password', async () => {
    let nonce = 0;
    let uses = 0;
    const heard: string[] = [];
    const file = serves(
      () => 'content',
      () => ({ etag: '"1"' }),
    );
    server.on('/f', (request, response) => {
      const authorization = request.headers.authorization ?? '';
      heard.push(authorization);
      const said = fields(authorization);
      const user = sha256(READER.username, REALM, READER.password);
      const second = sha256(request.method ?? '', request.url ?? '');
      const right = sha256(user, said.nonce ?? '', said.nc ?? '', said.cnonce ?? '', 'auth', second);
      const current = said.nonce === `n${nonce}`;
      if (current && said.response === right && Number.parseInt(said.nc ?? '', 16) === ++uses && uses <= 2) {
        file(request, response);
        return;
      }
      uses = 0;
      const stale = said.response === right ? ', stale=true' : '';
      const realm = REALM.replace(/"/g, '\\"');
      const challenge = `Digest realm="${realm}", nonce="n${++nonce}", qop="auth", algorithm=SHA-256${stale}`;
      response.writeHead(401, { 'www-authenticate': [challenge, 'Basic realm="x"'] }).end();
    });
    const given = { files: { f: `${server.origin}/f?a=b&c` }, ...READER, authentication: 'digest' };
    const { backend } = await open(httpOptions.parse(given), openContext);
    for (let i = 0; i < 5; i++) {
      expect(await backend.stat('f', context)).toMatchObject({ size: 7 });
    }
    await backend.close?.();
    expect(nonce).toBe(3);
    expect(heard.some((authorization) => authorization.startsWith('Basic'))).toBe(false);
  });
});
