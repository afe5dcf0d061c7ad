/** What a daemon does with remote stores: proofs at mount time, stores out of reach, secrets, draining. A real radosgw behind it. */
import { readdirSync, readFileSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { GetObjectCommand, PutObjectCommand } from '@aws-sdk/client-s3';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, jest, test } from '@jest/globals';
import { Scratch } from '../cli/scratch.js';
import { type Radosgw, startRadosgw } from '../servers/radosgw.js';

// Each step is a process, and the machine may be busy.
jest.setTimeout(120_000);

const SECRET = 'testsecret';

let store: Radosgw;
beforeAll(async () => {
  store = await startRadosgw();
});
afterAll(() => store.stop());

let scratch: Scratch;
let bucket: string;
beforeEach(async () => {
  scratch = new Scratch();
  bucket = await store.createBucket();
  scratch.env = {
    ...scratch.env,
    AWS_ACCESS_KEY_ID: store.credentials.accessKeyId,
    AWS_SECRET_ACCESS_KEY: SECRET,
    AWS_CA_BUNDLE: undefined,
  };
});
afterEach(() => scratch.dispose());

const put = (Key: string, Body: string) =>
  store.client.send(new PutObjectCommand({ Bucket: bucket, Key, Body }));
const get = async (Key: string): Promise<string> => {
  const { Body } = await store.client.send(new GetObjectCommand({ Bucket: bucket, Key }));
  return Body!.transformToString();
};
const mount = (source: string, ...options: string[]) =>
  scratch.mirage(
    'mount',
    source,
    scratch.mountpoint,
    '-o',
    `endpoint=${store.endpoint},region=us-east-1`,
    ...options,
  );

test('a bucket as a source: read and written by ordinary programs', async () => {
  await put('a/hello.txt', 'hello\n');
  expect(await mount(`s3://${bucket}`, '-o', 'mode=write')).toMatchObject({ code: 0 });
  expect(
    await scratch.inside('cat a/hello.txt && tr a-z A-Z < a/hello.txt > a/loud.txt && ls a'),
  ).toMatchObject({
    code: 0,
    stdout: 'hello\nhello.txt\nloud.txt\n',
  });
  expect(await get('a/loud.txt')).toBe('HELLO\n');
  const { stdout } = await scratch.mirage('status', '--json');
  expect(JSON.parse(stdout)).toMatchObject({
    daemons: [{ mounts: [{ type: 's3', mode: 'write', probed: { writeAbsent: true, writeMatch: true } }] }],
  });
  expect(await scratch.mirage('unmount', scratch.mountpoint)).toMatchObject({ code: 0 });
});

test('a prefix is a tree of its own; without mode it can only be read', async () => {
  await put('a/hello.txt', 'hello\n');
  await put('other', 'not here');
  expect(await mount(`s3://${bucket}/a`)).toMatchObject({
    code: 0,
    stdout: expect.stringContaining('read only'),
  });
  expect(await scratch.inside('ls')).toMatchObject({ stdout: 'hello.txt\n' });
  expect(await scratch.inside('echo x > new')).toMatchObject({
    stderr: expect.stringContaining('Read-only file system'),
  });
});

describe('refused when it is mounted, with nothing left behind', () => {
  test.each([
    ['wrong credentials', 4, () => ({ AWS_SECRET_ACCESS_KEY: 'a-wrong-secret' }), '', /credentials/],
    ['no such bucket', 3, () => ({}), 'no-such-bucket', /bucket/],
  ])('%s: exit code %d', async (_, code, environment, name, says) => {
    Object.assign(scratch.env, environment());
    const ended = await mount(`s3://${name || bucket}`);
    expect(ended).toMatchObject({ code, stdout: '', stderr: expect.stringMatching(says) });
    expect(ended.stderr.trimEnd().split('\n')).toHaveLength(3);
    expect(scratch.isMounted()).toBe(false);
    expect(JSON.parse((await scratch.mirage('status', '--json')).stdout)).toEqual({ daemons: [] });
  });

  test('nothing can be reached: exit code 5', async () => {
    const ended = await scratch.mirage(
      'mount',
      `s3://${bucket}`,
      scratch.mountpoint,
      '-o',
      'endpoint=http://127.0.0.1:1,region=us-east-1',
    );
    expect(ended).toMatchObject({ code: 5, stdout: '' });
    expect(scratch.isMounted()).toBe(false);
  });
});

/** A door to the store that can be opened later. */
class Door {
  readonly #sockets = new Set<Socket>();
  readonly #server: Server = createServer((socket) => {
    const inner = connect(store.port, '127.0.0.1');
    for (const end of [socket, inner]) {
      this.#sockets.add(end);
      end.on('error', () => end.destroy());
      end.on('close', () => this.#sockets.delete(end));
    }
    socket.pipe(inner).pipe(socket);
  });

  /** A port that nobody listens on. */
  async port(): Promise<number> {
    const port = await this.open(0);
    await this.close();
    return port;
  }

  open(port: number): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(port, '127.0.0.1', () =>
        resolve((this.#server.address() as { port: number }).port),
      );
    });
  }

  close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    return new Promise((resolve) => this.#server.close(() => resolve()));
  }
}

test('a store out of reach: the rest is mounted, exit code 8; it is there once it can be reached', async () => {
  await put('hello.txt', 'hello\n');
  const door = new Door();
  const port = await door.port();
  const config = scratch.write(
    'mirage.yaml',
    `mountpoint: ${scratch.mountpoint}
mounts:
  near: { type: ram, mode: write }
  far: { type: s3, bucket: ${bucket}, endpoint: "http://127.0.0.1:${port}", region: us-east-1 }
`,
  );
  const mounted = await scratch.mirage('mount', '--config', config);
  expect(mounted).toMatchObject({ code: 8, stderr: expect.stringContaining('/far is not there yet') });
  expect(await scratch.inside('ls && echo x > near/file && cat near/file')).toMatchObject({
    code: 0,
    stdout: 'far\nnear\nx\n',
  });
  expect(await scratch.inside('ls far')).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('Host is down'),
  });
  expect((await scratch.inside('cat .mirage/last-error')).stdout).toMatch(/\/far[\s\S]*why: .*\ndo: ./);
  expect(JSON.parse((await scratch.mirage('status', '--json')).stdout)).toMatchObject({
    daemons: [
      {
        mounts: [
          { path: '/near', reachable: true },
          { path: '/far', reachable: false, error: expect.any(String) },
        ],
      },
    ],
  });

  await door.open(port);
  try {
    // It is not tried at every access: the next try may be seconds away.
    let shown = '';
    for (let tries = 0; shown !== 'hello\n' && tries < 60; tries++) {
      shown = (await scratch.inside('cat far/hello.txt || sleep 0.5')).stdout;
    }
    expect(shown).toBe('hello\n');
    expect(await scratch.mirage('unmount', scratch.mountpoint)).toMatchObject({ code: 0 });
  } finally {
    await door.close();
  }
});

test('no secret is shown: not in status, log, errors, files of the state, or arguments', async () => {
  const secretFile = scratch.write('secret', `${SECRET}\n`);
  const config = scratch.write(
    'mirage.yaml',
    `mountpoint: ${scratch.mountpoint}
state: ${scratch.folder}/state
mounts:
  good:
    type: s3
    mode: write
    bucket: ${bucket}
    endpoint: ${store.endpoint}
    region: us-east-1
    accessKeyId: testkey
    secretAccessKey: \${file:${secretFile}}
  bad: { type: s3, bucket: b, endpoint: "http://127.0.0.1:1", region: us-east-1, accessKeyId: testkey, secretAccessKey: ${SECRET} }
  tmp: { type: ram, mode: write }
`,
  );
  scratch.env = { ...scratch.env, AWS_ACCESS_KEY_ID: undefined, AWS_SECRET_ACCESS_KEY: undefined };
  const said: string[] = [];
  const note = (ended: { stdout: string; stderr: string }) => said.push(ended.stdout, ended.stderr);
  const mounted = await scratch.mirage('mount', '--config', config);
  expect(mounted).toMatchObject({ code: 8, stdout: expect.stringContaining('Mounted') });
  note(mounted);
  note(await scratch.inside('echo x > good/file; ls bad; cat .mirage/status .mirage/last-error'));
  note(await scratch.mirage('status', '--json'));
  note(await scratch.mirage('status', scratch.mountpoint));
  note(await scratch.mirage('doctor', '--config', config));
  note(await scratch.mirage('config', 'check', config));
  const { daemons } = JSON.parse(said.find((text) => text.startsWith('{\n  "daemons"'))!) as {
    daemons: { pid: number }[];
  };
  said.push(readFileSync(`/proc/${daemons[0]!.pid}/cmdline`, 'utf8'));
  expect(await get('file')).toBe('x\n');
  expect(await scratch.mirage('unmount', scratch.mountpoint)).toMatchObject({ code: 0 });
  for (const name of readdirSync(join(scratch.folder, 'state'), { recursive: true, withFileTypes: true })) {
    if (name.isFile()) said.push(readFileSync(join(name.parentPath, name.name), 'latin1'));
  }
  expect(said.join('\n').length).toBeGreaterThan(1000);
  expect(said.filter((text) => text.includes(SECRET))).toEqual([]);
});

test('a change that cannot be stored keeps the mount, and is named; force gives it up', async () => {
  const door = new Door();
  const port = await door.open(0);
  try {
    const config = scratch.write(
      'mirage.yaml',
      `mountpoint: ${scratch.mountpoint}
mounts:
  s3: { type: s3, mode: write, bucket: ${bucket}, endpoint: "http://127.0.0.1:${port}", region: us-east-1 }
`,
    );
    expect(await scratch.mirage('mount', '--config', config)).toMatchObject({ code: 0 });
    expect(await scratch.inside('echo x > s3/file')).toMatchObject({ code: 0 });
    await door.close();
    // Attribute changes are carried out a moment later.
    expect(await scratch.inside('chmod 600 s3/file')).toMatchObject({ code: 0 });
    const refused = await scratch.mirage('unmount', scratch.mountpoint);
    expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining('file') });
    expect(scratch.isMounted()).toBe(true);
    expect((await scratch.inside('cat .mirage/last-error')).stdout).toMatch(/why: .*\ndo: ./);
    const forced = await scratch.mirage('unmount', '--force', scratch.mountpoint);
    expect(forced).toMatchObject({ stdout: expect.stringContaining('Unmounted') });
    expect(scratch.isMounted()).toBe(false);
  } finally {
    await door.close().catch(() => undefined);
  }
});
