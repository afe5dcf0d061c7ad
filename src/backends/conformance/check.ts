import assert from 'node:assert/strict';
import { createHash, randomUUID } from 'node:crypto';
import { setMaxListeners } from 'node:events';
import type { ErrnoName } from '../../errors/errno.js';
import { MirageError } from '../../errors/mirage-error.js';
import {
  type Backend,
  type ByteRange,
  type ByteSource,
  type Context,
  hasDirectories,
  type ObjectInfo,
  type WriteOptions,
} from '../contract.js';

/** One promise of the contract, checked on a real backend. Throws when it is not kept. */
export interface Check {
  readonly name: string;
  /** Left out: every backend owes it. */
  readonly requires?: (backend: Backend) => boolean;
  /** Works on what the store holds already. Only such checks run on a store that can only be read. */
  readonly writesNothing?: true;
  run(backend: Backend, tools: Tools): Promise<void>;
}

export type CheckResult =
  | { readonly name: string; readonly outcome: 'passed' | 'skipped' }
  | { readonly name: string; readonly outcome: 'failed'; readonly error: unknown };

/** What a check works with: a directory of its own, and short forms of the calls. */
export class Tools {
  readonly backend: Backend;
  readonly directory: string;
  readonly context: Context;

  constructor(backend: Backend, directory: string, signal: AbortSignal) {
    this.backend = backend;
    this.directory = directory;
    // Checks make many calls at once under one signal.
    setMaxListeners(0, signal);
    this.context = { signal };
  }

  /** A key in the directory of this check. */
  key(name: string): string {
    return `${this.directory}/${name}`;
  }

  /** Without attributes a conditional write carries a nonce, as all writers should. */
  write(key: string, content: string | Uint8Array, options: Partial<WriteOptions> = {}): Promise<ObjectInfo> {
    const { precondition = { kind: 'any' } } = options;
    const attributes = options.attributes ?? (precondition.kind === 'any' ? {} : { writer: randomUUID() });
    return this.backend.write(key, bytesSource(content), { precondition, attributes }, this.context);
  }

  async createDirectory(key: string): Promise<void> {
    if (hasDirectories(this.backend)) {
      await this.backend.createDirectory(key, { writer: randomUUID() }, this.context);
    }
  }

  /** Names the version that is there when no other is asked for: so a read may be broken off and go on. */
  async read(key: string, range: ByteRange = WHOLE, version?: string): Promise<string> {
    const match = version ?? (await this.backend.stat(key, this.context))?.validator;
    const chunks: Uint8Array[] = [];
    const sink = { write: (chunk: Uint8Array) => void chunks.push(chunk) };
    await this.backend.read(key, range, sink, this.context, match);
    return Buffer.concat(chunks).toString();
  }

  /** All pages of one level. */
  async list(key: string): Promise<ObjectInfo[]> {
    const entries: ObjectInfo[] = [];
    let cursor: string | undefined;
    do {
      const page = await this.backend.list(key, cursor, this.context);
      entries.push(...page.entries);
      cursor = page.cursor;
    } while (cursor !== undefined);
    return entries;
  }

  async stat(key: string): Promise<ObjectInfo> {
    const info = await this.backend.stat(key, this.context);
    assert.ok(info !== undefined, `stat finds ${key}`);
    return info;
  }

  /** Removes everything below a directory, and the directory. */
  async clear(key: string): Promise<void> {
    const entries = await this.list(key);
    for (let i = 0; i < entries.length; i += 32) {
      await Promise.all(
        entries
          .slice(i, i + 32)
          .map((entry) =>
            entry.kind === 'directory'
              ? this.clear(entry.key)
              : this.backend.remove(entry.key, { kind: 'any' }, this.context),
          ),
      );
    }
    if (hasDirectories(this.backend)) await this.backend.removeDirectory(key, this.context);
  }
}

const WHOLE: ByteRange = { offset: 0, length: 2 ** 40 };

/** Runs checks one after the other, each in a directory of its own that is removed afterwards. */
export async function runChecks(
  backend: Backend,
  checks: readonly Check[],
  signal: AbortSignal,
): Promise<CheckResult[]> {
  const results: CheckResult[] = [];
  for (const check of checks) results.push(await runCheck(backend, check, signal));
  return results;
}

export async function runCheck(backend: Backend, check: Check, signal: AbortSignal): Promise<CheckResult> {
  const { name, writesNothing } = check;
  const impossible = backend.capabilities.readOnly === true && writesNothing !== true;
  if (impossible || check.requires?.(backend) === false) return { name, outcome: 'skipped' };
  const tools = new Tools(backend, `conformance-${randomUUID()}`, signal);
  try {
    if (writesNothing !== true) await tools.createDirectory(tools.directory);
    await check.run(backend, tools);
    if (writesNothing !== true) await tools.clear(tools.directory);
    return { name, outcome: 'passed' };
  } catch (error) {
    // What the check left behind is less important than what it found.
    if (writesNothing !== true) await tools.clear(tools.directory).catch(() => undefined);
    return { name, outcome: 'failed', error };
  }
}

export function bytesSource(content: string | Uint8Array): ByteSource {
  const bytes = typeof content === 'string' ? Buffer.from(content) : content;
  return {
    size: bytes.length,
    async *read({ offset, length }) {
      if (offset < bytes.length && length > 0) yield bytes.slice(offset, offset + length);
    },
  };
}

/** `size` bytes that differ from place to place, made as they are read. */
export function patternSource(size: number): ByteSource {
  return {
    size,
    async *read({ offset, length }) {
      const end = Math.min(size, offset + length);
      for (let at = offset; at < end; ) {
        const block = patternBlock(Math.floor(at / BLOCK));
        const chunk = block.subarray(at % BLOCK, Math.min(BLOCK, end - at + (at % BLOCK)));
        at += chunk.length;
        yield chunk;
      }
    },
  };
}

const BLOCK = 65_536;

function patternBlock(index: number): Buffer {
  return Buffer.alloc(BLOCK, `block ${index} of the pattern; `);
}

export async function digest(source: ByteSource): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of source.read({ offset: 0, length: source.size })) hash.update(chunk);
  return hash.digest('hex');
}

/** Resolves when `call` fails with this errno. */
export async function refuses(call: Promise<unknown>, ...errnos: ErrnoName[]): Promise<void> {
  try {
    await call;
  } catch (error) {
    if (!MirageError.is(error)) throw error;
    assert.ok(
      errnos.includes(error.errno),
      `${error.errno} instead of ${errnos.join(' or ')}: ${error.message}`,
    );
    return;
  }
  assert.fail(`it was accepted instead of ${errnos.join(' or ')}`);
}
