/** What is to be done at a store: the records of the journal, as one mount reads them. */
import { z } from 'zod';
import type {
  ObjectInfo,
  Precondition,
  StoredAttributes,
  Timestamp,
  Validator,
} from '../../../backends/contract.js';

const timestamp = z.object({ seconds: z.number(), nanoseconds: z.number() });

const attributes = z.object({
  mode: z.number().optional(),
  uid: z.number().optional(),
  gid: z.number().optional(),
  rdev: z.number().optional(),
  modified: timestamp.optional(),
  changed: timestamp.optional(),
  accessed: timestamp.optional(),
  xattrs: z.record(z.string(), z.string()).optional(),
  linkGroup: z.string().optional(),
  writer: z.string().optional(),
});

const precondition = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('absent') }),
  z.object({ kind: z.literal('match'), validator: z.string() }),
  z.object({ kind: z.literal('any') }),
]);

/** Seconds since 1970 at which a program was told that it is done. */
const at = timestamp;

const intent = z.discriminatedUnion('kind', [
  /** `file`: name of the staged bytes; `nonce` becomes the writer of the object. */
  z.object({
    kind: z.literal('put'),
    key: z.string(),
    precondition,
    attributes,
    size: z.number(),
    file: z.string(),
    nonce: z.string(),
    at,
  }),
  z.object({ kind: z.literal('remove'), key: z.string(), precondition, at }),
  z.object({ kind: z.literal('makeDirectory'), key: z.string(), attributes, nonce: z.string(), at }),
  z.object({ kind: z.literal('removeDirectory'), key: z.string(), at }),
  z.object({
    kind: z.literal('setAttributes'),
    key: z.string(),
    of: z.enum(['file', 'directory']),
    precondition,
    attributes,
    nonce: z.string(),
    at,
  }),
  /** `removes`: the source goes when the copy is there; it is a rename. */
  z.object({
    kind: z.literal('copy'),
    key: z.string(),
    from: z.string(),
    match: z.string().optional(),
    precondition,
    attributes,
    size: z.number(),
    nonce: z.string(),
    removes: z.boolean(),
    at,
  }),
  /** A directory with everything below it, in place of an empty one or none. */
  z.object({
    kind: z.literal('moveTree'),
    key: z.string(),
    from: z.string(),
    attributes,
    nonce: z.string(),
    at,
  }),
]);

export const intentSchema = intent;
export type Intent = z.infer<typeof intent>;
export type IntentOf<K extends Intent['kind']> = Extract<Intent, { kind: K }>;
export type PutIntent = IntentOf<'put'>;

/** The staged bytes that a record of the journal needs. */
export function stagedFileOf(record: unknown): string | undefined {
  const parsed = intent.safeParse(record);
  return parsed.success && parsed.data.kind === 'put' ? parsed.data.file : undefined;
}

/** What a version is called that the store has not made yet: it will carry this nonce. */
const PROVISIONAL = 'pending:';
export const provisional = (nonce: string): Validator => PROVISIONAL + nonce;
export const nonceOf = (validator: Validator): string | undefined =>
  validator.startsWith(PROVISIONAL) ? validator.slice(PROVISIONAL.length) : undefined;

/** The nonce of a change of attributes: the content goes on under the name that it has, and is still known by it. */
export function attributesNonce(precondition: Precondition, own: string): string {
  const content = precondition.kind === 'match' ? nonceOf(precondition.validator) : undefined;
  return content === undefined ? own : `${content}+${own}`;
}

/** What carries `writer` has the content that came with `nonce`. */
export const isOf = (writer: string | undefined, nonce: string): boolean =>
  writer !== undefined && (writer === nonce || writer.startsWith(`${nonce}+`));

/** The object or directory as it will be. */
export function futureOf(
  made: { readonly key: string; readonly nonce: string; readonly at: Timestamp },
  kind: ObjectInfo['kind'],
  size: number | undefined,
  stored: StoredAttributes,
): ObjectInfo {
  return {
    key: made.key,
    kind,
    size,
    modified: made.at,
    validator: provisional(made.nonce),
    attributes: stored,
  };
}

export const isWithin = (key: string, directory: string): boolean =>
  key === directory ||
  directory === '' ||
  (key.length > directory.length && key.startsWith(directory) && key[directory.length] === '/');

export const parentOf = (key: string): string => key.slice(0, Math.max(0, key.lastIndexOf('/')));

/** Names a directory as such: nothing below it may be done before or after its time. */
export const isDirectoryIntent = (intent: Intent): boolean =>
  intent.kind === 'makeDirectory' || intent.kind === 'removeDirectory' || intent.kind === 'moveTree';

export const keysOf = (intent: Intent): readonly string[] =>
  intent.kind === 'copy' || intent.kind === 'moveTree' ? [intent.key, intent.from] : [intent.key];

export const intentName = (intent: Intent): string =>
  intent.kind === 'copy' || intent.kind === 'moveTree' ? `${intent.from} → ${intent.key}` : intent.key;

const words: Record<Intent['kind'], string> = {
  put: 'to be stored',
  remove: 'to be removed',
  makeDirectory: 'directory to be made',
  removeDirectory: 'directory to be removed',
  setAttributes: 'attributes to be stored',
  copy: 'to be copied or renamed',
  moveTree: 'directory to be renamed',
};

export const intentInWords = (intent: Intent): string => `${intentName(intent)}: ${words[intent.kind]}`;
