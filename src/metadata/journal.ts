/**
 * The journal: what programs were told is done, and the stores do not have yet. Unlike the metadata cache it cannot be rebuilt, so a
 * journal of an unknown version is never touched. One file for all mounts of a state directory, appended to: a line is a
 * change, `<CRC-32 in hex> {"drop":[sequence…],"add":[record…]}`, that counts as a whole or not at all. A record may carry the bytes of a
 * small file: one sync makes both durable then.
 */
import {
  closeSync,
  constants,
  fdatasync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { promisify } from 'node:util';
import { crc32 } from 'node:zlib';
import { z } from 'zod';
import { MirageError } from '../errors/mirage-error.js';
import type { Log } from '../log/log.js';

/** A thing to do at a store; what `intent` holds is the business of those who do it. */
export interface JournalRecord {
  /** Order in which the records were accepted, over all mounts; not used again while anything of it is left. */
  readonly sequence: number;
  /** What is mounted: endpoint, bucket, prefix. */
  readonly identity: string;
  readonly intent: unknown;
}

/** A record with the bytes that belong to it. */
export interface NewRecord extends JournalRecord {
  readonly bytes?: Uint8Array | undefined;
}

/** Is given the bytes of a record that an earlier run left; `sure`: the machine has run on since, and so its page cache. */
export type Restore = (record: JournalRecord, bytes: Uint8Array, sure: boolean) => void;

interface Live {
  readonly record: JournalRecord;
  /** Where the line is that brought it; undefined where the record is all there is. */
  readonly line: { readonly offset: number; readonly length: number } | undefined;
}

const VERSION = 1;
const UNKNOWN_BOOT = 'unknown';
const headerSchema = z.object({ journal: z.literal('mirage'), version: z.number(), boot: z.string() });
const changeSchema = z.object({
  drop: z.array(z.number()),
  add: z.array(
    z.object({
      sequence: z.number(),
      identity: z.string(),
      intent: z.unknown(),
      /** In base64. */
      bytes: z.string().optional(),
    }),
  ),
});
const HEADER = `${JSON.stringify({ journal: 'mirage', version: VERSION, boot: bootId() })}\n`;

/** Bytes above which a file without live records is cut back, and above which one with some is written anew. */
const WORTH_CUTTING = 1024 * 1024;
const WORTH_REWRITING = 64 * 1024 * 1024;

const sync = promisify(fdatasync);

export class Journal {
  readonly #file: string;
  #fd: number;
  #length: number;
  #live: Map<number, Live>;
  #rewriteAt = WORTH_REWRITING;
  #next: number;
  #failed: MirageError | undefined;
  /** The sync under way, and the one after it that those who come now will share. */
  #syncing: Promise<void> | undefined;
  #following: Promise<void> | undefined;
  /** Bytes that are known to be on the disk. */
  #durableTo = 0;

  /** Throws EINVAL for a journal of a newer version, EIO for one that cannot be read. A line cut short by a crash never counted. */
  static open(file: string, log: Log, restore: Restore = () => undefined): Journal {
    const { live, next, damage, boot } = readJournal(file);
    const sure = boot === bootId() && boot !== UNKNOWN_BOOT;
    for (const { bytes, ...record } of live.values()) if (bytes !== undefined) restore(record, bytes, sure);
    if (damage !== undefined) {
      const kept = `${file}.damaged-${Date.now()}`;
      writeFileSync(kept, readFileSync(file), { mode: 0o600 });
      log.error('the journal is damaged; what stands before the damage is carried out', {
        file: kept,
        line: damage,
        do: 'run `mirage fsck`; staged files that nothing names any more are in recovered/ of the cache directory',
      });
    }
    return new Journal(file, live, next, damage !== undefined);
  }

  private constructor(
    file: string,
    live: ReadonlyMap<number, NewRecord>,
    next: number,
    /** Changes were lost with a part of the file: bytes that nothing names may be all that is left of one. */
    readonly damaged: boolean,
  ) {
    this.#file = file;
    this.#next = next;
    const written = rewrite(file, live.values());
    this.#fd = written.fd;
    this.#length = written.length;
    this.#live = written.live;
    this.#durableTo = written.length;
  }

  /** Records that are not done, in order. */
  recordsOf(identity: string): JournalRecord[] {
    return this.records
      .filter((record) => record.identity === identity)
      .sort((left, right) => left.sequence - right.sequence);
  }

  get records(): readonly JournalRecord[] {
    return [...this.#live.values()].map(({ record }) => record);
  }

  nextSequence(): number {
    return this.#next++;
  }

  /** Notes a change; durable once `durable()` resolves that is called afterwards. Throws ENOSPC and the like, and has noted nothing then. */
  change(drop: readonly number[], add: readonly NewRecord[]): void {
    if (this.#failed !== undefined) throw this.#failed;
    const known = drop.filter((sequence) => this.#live.has(sequence));
    if (known.length === 0 && add.length === 0) return;
    const line = lineOf(known, add);
    const at = { offset: this.#length, length: line.length };
    this.#append(line);
    for (const sequence of known) this.#live.delete(sequence);
    for (const record of add) this.#live.set(record.sequence, liveOf(record, at));
    // A sync under way speaks of the file as it is.
    if (this.#syncing !== undefined) return;
    if (this.#live.size === 0 && this.#length > WORTH_CUTTING) this.#cut();
    else if (this.#length > this.#rewriteAt) this.#startAnew();
  }

  #append(line: Buffer): void {
    let written = 0;
    try {
      while (written < line.length) {
        written += writeSync(this.#fd, line, written, line.length - written, this.#length + written);
      }
    } catch (cause) {
      // Half a line would hide what comes after it.
      ftruncateSync(this.#fd, this.#length);
      throw new MirageError('the journal cannot be written', {
        errno: (cause as NodeJS.ErrnoException).code === 'ENOSPC' ? 'ENOSPC' : 'EIO',
        hint: `make room on the disk of ${dirname(this.#file)}`,
        cause,
      });
    }
    this.#length += line.length;
  }

  /** Everything noted so far is on the disk. All who ask while a sync runs share the next one. */
  durable(): Promise<void> {
    if (this.#failed !== undefined) return Promise.reject(this.#failed);
    if (this.#durableTo >= this.#length) return Promise.resolve();
    if (this.#syncing === undefined) return this.#sync();
    this.#following ??= this.#syncing
      .catch(() => undefined)
      .then(() => {
        this.#following = undefined;
        return this.#sync();
      });
    return this.#following;
  }

  #sync(): Promise<void> {
    const length = this.#length;
    const syncing = sync(this.#fd)
      .then(
        () => {
          this.#durableTo = Math.max(this.#durableTo, length);
        },
        (cause: unknown) => {
          // After a failed sync nobody knows what is on the disk: nothing more is promised.
          this.#failed = new MirageError('the journal cannot be written', {
            errno: 'EIO',
            cause,
            hint: `check the disk of ${dirname(this.#file)}`,
          });
          throw this.#failed;
        },
      )
      .finally(() => {
        if (this.#syncing === syncing) this.#syncing = undefined;
      });
    this.#syncing = syncing;
    return syncing;
  }

  #cut(): void {
    ftruncateSync(this.#fd, HEADER.length);
    this.#length = HEADER.length;
    this.#durableTo = 0;
  }

  #startAnew(): void {
    const old = this.#fd;
    const written = rewrite(this.#file, withBytes(old, this.#live.values()));
    closeSync(old);
    this.#fd = written.fd;
    this.#length = written.length;
    this.#live = written.live;
    this.#durableTo = written.length;
    this.#rewriteAt = Math.max(WORTH_REWRITING, 2 * written.length);
  }

  async close(): Promise<void> {
    await this.#following?.catch(() => undefined);
    await this.#syncing?.catch(() => undefined);
    closeSync(this.#fd);
  }
}

/** What stands in a journal file. `damage`: the first line that does not count although others follow it. */
export function readJournal(file: string): {
  live: Map<number, NewRecord>;
  next: number;
  damage: number | undefined;
  /** Records that stand after the damage. */
  behind: number;
  /** The run of the machine in which it was written. */
  boot: string;
} {
  const live = new Map<number, NewRecord>();
  const lines = linesOf(file);
  let next = 1;
  if (lines.length === 0) return { live, next, damage: undefined, behind: 0, boot: UNKNOWN_BOOT };
  const boot = refuseUnknown(file, lines[0] as string);
  for (let index = 1; index < lines.length; index++) {
    const change = changeOf(lines[index] as string);
    if (change === undefined) {
      const rest = lines.slice(index + 1);
      const behind = rest.reduce((sum, line) => sum + (changeOf(line)?.add.length ?? 0), 0);
      return { live, next, boot, behind, damage: rest.length > 0 ? index + 1 : undefined };
    }
    for (const sequence of change.drop) live.delete(sequence);
    for (const record of change.add) {
      live.set(record.sequence, record);
      next = Math.max(next, record.sequence + 1);
    }
  }
  return { live, next, damage: undefined, behind: 0, boot };
}

function linesOf(file: string): string[] {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw new MirageError(`the journal ${file} cannot be read`, { errno: 'EIO', cause });
  }
  const lines = text.split('\n');
  if (lines.at(-1) === '') lines.pop();
  return lines;
}

function refuseUnknown(file: string, line: string): string {
  let version: number | undefined;
  try {
    const header = headerSchema.parse(JSON.parse(line));
    version = header.version;
    if (version === VERSION) return header.boot;
  } catch {
    version = undefined;
  }
  throw new MirageError(
    version === undefined
      ? `${file} is no journal of Mirage`
      : `${file} was written by a newer version of Mirage (journal ${version})`,
    {
      errno: 'EINVAL',
      hint: 'it may hold changes that no store has yet: start the version that wrote it, or move the file away',
    },
  );
}

function lineOf(drop: readonly number[], add: readonly NewRecord[]): Buffer {
  const written = add.map(({ bytes, ...record }) =>
    bytes === undefined ? record : { ...record, bytes: Buffer.from(bytes).toString('base64') },
  );
  const text = JSON.stringify({ drop, add: written });
  return Buffer.from(`${crc32(text).toString(16).padStart(8, '0')} ${text}\n`);
}

function changeOf(line: string): { drop: number[]; add: NewRecord[] } | undefined {
  const text = line.slice(9);
  if (crc32(text).toString(16).padStart(8, '0') !== line.slice(0, 8)) return undefined;
  const parsed = changeSchema.safeParse(JSON.parse(text));
  if (!parsed.success) return undefined;
  const add = parsed.data.add.map(({ bytes, ...record }) =>
    bytes === undefined ? record : { ...record, bytes: Buffer.from(bytes, 'base64') },
  );
  return { drop: parsed.data.drop, add };
}

const liveOf = ({ bytes, ...record }: NewRecord, line: Live['line']): Live => ({
  record,
  line: bytes === undefined ? undefined : line,
});

/** Records with their bytes, which only the file has. */
function* withBytes(fd: number, live: Iterable<Live>): IterableIterator<NewRecord> {
  for (const { record, line } of live) {
    if (line === undefined) {
      yield record;
      continue;
    }
    const text = Buffer.alloc(line.length);
    readSync(fd, text, 0, line.length, line.offset);
    const change = changeOf(text.toString('utf8').trimEnd());
    yield change?.add.find(({ sequence }) => sequence === record.sequence) ?? record;
  }
}

/** Replaces the file by one with these records alone, durably. */
function rewrite(
  file: string,
  records: Iterable<NewRecord>,
): { fd: number; length: number; live: Map<number, Live> } {
  const draft = `${file}.new`;
  const fd = openSync(draft, constants.O_RDWR | constants.O_CREAT | constants.O_TRUNC, 0o600);
  try {
    const live = new Map<number, Live>();
    let length = writeAll(fd, Buffer.from(HEADER), 0);
    for (const record of records) {
      const line = lineOf([], [record]);
      live.set(record.sequence, liveOf(record, { offset: length, length: line.length }));
      length += writeAll(fd, line, length);
    }
    fsyncSync(fd);
    renameSync(draft, file);
    syncFolder(dirname(file));
    return { fd, length, live };
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

function writeAll(fd: number, bytes: Buffer, position: number): number {
  for (let done = 0; done < bytes.length; ) {
    done += writeSync(fd, bytes, done, bytes.length - done, position + done);
  }
  return bytes.length;
}

/** Names this run of the machine: what a program wrote outlives its end, but not that of the machine. */
function bootId(): string {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  } catch {
    return UNKNOWN_BOOT;
  }
}

export function syncFolder(folder: string): void {
  const fd = openSync(folder, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
