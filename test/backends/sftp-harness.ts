import { closeSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { OpenedBackend } from '../../src/backends/backend-type.js';
import type { Context } from '../../src/backends/contract.js';
import { type FileServer, hasFileServer } from '../../src/backends/file-server.js';
import { open } from '../../src/backends/sftp/open.js';
import { sftpOptions } from '../../src/backends/sftp/options.js';
import { systemClock } from '../../src/clock/clock.js';
import { MirageError } from '../../src/errors/mirage-error.js';
import { quietLog } from '../servers/quiet.js';
import type { Sshd } from '../servers/sshd.js';

/** A context that nobody aborts. */
export const calm = (): Context => ({ signal: new AbortController().signal });

export type Given = Partial<Record<keyof typeof sftpOptions.shape, unknown>>;

/** Options that reach the server, unless `given` says otherwise; nothing of this user's ~/.ssh is used. */
export function optionsFor(server: Sshd, given: Given = {}) {
  const { port, identity, knownHosts, data } = server;
  const usual = {
    host: '127.0.0.1',
    port,
    identity,
    knownHosts,
    path: data,
    sshConfig: 'none',
    agent: 'none',
  };
  const defined = Object.entries({ ...usual, ...given }).filter(([, value]) => value !== undefined);
  return sftpOptions.parse(Object.fromEntries(defined));
}

export function openSftp(server: Sshd, given: Given = {}, signal?: AbortSignal): Promise<OpenedBackend> {
  return open(optionsFor(server, given), {
    log: quietLog,
    clock: systemClock,
    writable: true,
    signal: signal ?? new AbortController().signal,
  });
}

export function fileServerOf({ backend }: OpenedBackend): FileServer {
  if (!hasFileServer(backend)) throw new Error('no file server');
  return backend.fileServer;
}

/** What a call was refused with. */
export async function refusal(call: Promise<unknown>): Promise<MirageError> {
  try {
    await call;
  } catch (error) {
    if (error instanceof MirageError) return error;
    throw error;
  }
  throw new Error('it was accepted');
}

/** A descriptor of a file of this host that nobody else has. */
export class LocalFile implements Disposable {
  readonly #folder = mkdtempSync(join(tmpdir(), 'mirage-sftp-local-'));
  readonly path = join(this.#folder, 'file');
  readonly fd = openSync(this.path, 'w+');

  [Symbol.dispose](): void {
    closeSync(this.fd);
    rmSync(this.#folder, { recursive: true });
  }
}
