/**
 * Checks the journal and the bytes that wait for their store, while no daemon has them. Neither can be had anywhere else: what cannot be carried
 * out is kept, and only what proves to be nothing is removed.
 */
import { existsSync, readdirSync, renameSync, statSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import type { CheckOptions, Finding } from '../../../errors/finding.js';
import { MirageError } from '../../../errors/mirage-error.js';
import type { Log } from '../../../log/log.js';
import { Journal, type NewRecord, readJournal } from '../../../metadata/journal.js';
import { intentName, intentSchema, type PutIntent } from './intent.js';
import { restoreStaged } from './staged-bytes.js';

export interface JournalPlaces {
  readonly file: string;
  /** Folder of the staged bytes. */
  readonly staged: string;
}

export async function checkJournal(
  places: JournalPlaces,
  options: CheckOptions,
  log: Log,
): Promise<Finding[]> {
  const { file, staged } = places;
  let read: ReturnType<typeof readJournal>;
  try {
    read = readJournal(file);
  } catch (error) {
    if (!MirageError.is(error)) throw error;
    // What it says is not known, so nothing that it may speak of is touched.
    return [{ what: file, problem: error.message, remedy: error.hint }];
  }
  const findings: Finding[] = [];
  const dropped: number[] = [];
  const named = new Set<string>();
  if (read.damage !== undefined) {
    findings.push({
      what: file,
      problem: `line ${read.damage} is damaged: what stands after it, ${read.behind} changes, cannot be relied on`,
      mended: options.repair ? `cut there; the whole of it is kept as ${file}.damaged-*` : undefined,
    });
  }
  for (const record of read.live.values()) {
    const parsed = intentSchema.safeParse(record.intent);
    if (!parsed.success) {
      findings.push({
        what: file,
        problem: `change ${record.sequence} is of a kind that this version does not know`,
        remedy: 'start the version of Mirage that wrote it',
      });
      continue;
    }
    if (parsed.data.kind !== 'put') continue;
    named.add(parsed.data.file);
    const finding = checkBytes(places, parsed.data, record, options);
    if (finding === undefined) continue;
    findings.push(finding.finding);
    if (finding.drops) dropped.push(record.sequence);
  }
  findings.push(...unnamed(staged, named, read.damage !== undefined, options));
  if (options.repair && (dropped.length > 0 || read.damage !== undefined)) {
    const journal = Journal.open(file, log);
    try {
      journal.change(dropped, []);
      await journal.durable();
    } finally {
      await journal.close();
    }
  }
  return findings;
}

/**
 * The staged bytes of a put. They may be more than was promised, and others where the journal has a copy: a program wrote on, and its
 * next `fsync` did not come. They must not be fewer.
 */
function checkBytes(
  { staged }: JournalPlaces,
  intent: PutIntent,
  { intent: raw, bytes }: NewRecord,
  { repair, recovered }: CheckOptions,
): { finding: Finding; drops: boolean } | undefined {
  const path = join(staged, intent.file);
  const size = existsSync(path) ? statSync(path).size : undefined;
  if (size !== undefined && size >= intent.size) return undefined;
  const what = intentName(intent);
  const there = size === undefined ? 'none' : `only ${size}`;
  const problem = `of ${intent.size} bytes that wait for their store, ${there} are at ${path}`;
  if (bytes !== undefined && bytes.length === intent.size) {
    if (repair) restoreStaged(staged, raw, bytes, false);
    return {
      finding: {
        what,
        problem,
        mended: repair ? 'written again: the journal has a copy of them' : undefined,
      },
      drops: false,
    };
  }
  let mended: string | undefined;
  if (repair && size !== undefined)
    mended = `not sent as they are; what is left of them is ${keep(path, recovered)}`;
  else if (repair) mended = 'given up: there is nothing to send';
  return { finding: { what, problem, mended }, drops: true };
}

/** Bytes that no change speaks of: of a write that nobody was told is done, or of a change that was lost with a damaged journal. */
function unnamed(
  staged: string,
  named: ReadonlySet<string>,
  damaged: boolean,
  { repair, recovered }: CheckOptions,
): Finding[] {
  if (!existsSync(staged)) return [];
  const findings: Finding[] = [];
  for (const name of readdirSync(staged)) {
    if (named.has(name)) continue;
    const path = join(staged, name);
    const { size, nlink } = statSync(path);
    let mended: string | undefined;
    if (repair && nlink > 1 && !damaged) {
      unlinkSync(path);
      mended = 'removed: the same bytes have another name in the cache';
    } else if (repair) mended = `moved to ${keep(path, recovered)}`;
    findings.push({ what: path, problem: `${size} bytes that the journal does not speak of`, mended });
  }
  return findings;
}

function keep(path: string, recovered: string): string {
  const name = path.slice(path.lastIndexOf('/') + 1);
  const kept = join(recovered, `${new Date().toISOString().replaceAll(':', '')}-${name}`);
  renameSync(path, kept);
  return kept;
}
