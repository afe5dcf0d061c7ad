/**
 * What a module exports whose path is the `type` of a mount (docs/write-a-backend.md), and the kit that judges it. Nothing of it has to be imported
 * by such a module: plain objects do, and errors that carry an errno as their `code`, as those of Node do.
 */
import type {
  ByteRange,
  ByteSink,
  ByteSource,
  Capabilities,
  Context,
  Precondition,
  StoredAttributes,
  Timestamp,
  Validator,
  WriteOptions,
} from '../contract.js';

export type { Check, CheckResult } from '../conformance/kit.js';
export { conformanceChecks, runCheck, runChecks } from '../conformance/kit.js';
export type * from '../contract.js';

export interface CustomModule {
  /**
   * Checks the keys of the mount that are not common to all mounts, and returns what `open` is to be given; throws an Error that says what is wrong. A zod
   * schema will do. Left out: the keys are passed on as they stand.
   */
  readonly options?:
    | ((given: Readonly<Record<string, unknown>>) => unknown)
    | { parse(given: unknown): unknown };
  /** Connects, proves the credentials, finds out what the store can do. Called once for a mount. */
  open(options: never, context: CustomContext): CustomBackend | Promise<CustomBackend>;
}

export interface CustomContext {
  /** Gives up opening. */
  readonly signal: AbortSignal;
  /** False for a mount of mode `read`: nothing may be written then, not even to find out whether one could. */
  readonly writable: boolean;
  readonly log: Record<'debug' | 'info' | 'warn' | 'error', (message: string) => void>;
}

/** The five methods, without `write` and `remove` for a store that can only be read. Whatever else the contract knows is optional. */
export interface CustomBackend {
  /** What is left out is taken for not there. */
  readonly capabilities?: Partial<Omit<Capabilities, 'preconditions'>> & {
    readonly preconditions?: Partial<Capabilities['preconditions']>;
  };
  /** What is mounted, the same after a restart, never a secret; from the path of the module and its options if left out. */
  readonly identity?: string;
  stat(key: string, context: Context): Awaitable<CustomInfo | undefined | null>;
  list(
    prefix: string,
    cursor: string | undefined,
    context: Context,
  ): Awaitable<readonly CustomInfo[] | { entries: readonly CustomInfo[]; cursor?: string | undefined }>;
  read(
    key: string,
    range: ByteRange,
    sink: ByteSink,
    context: Context,
    match?: Validator,
  ): Awaitable<CustomInfo>;
  write?(key: string, source: ByteSource, options: WriteOptions, context: Context): Awaitable<CustomInfo>;
  remove?(key: string, precondition: Precondition, context: Context): Awaitable<void>;
  createDirectory?(key: string, attributes: StoredAttributes, context: Context): Awaitable<CustomInfo>;
  removeDirectory?(key: string, context: Context): Awaitable<void>;
  copy?(
    from: string,
    to: string,
    options: WriteOptions & { readonly match?: Validator },
    context: Context,
  ): Awaitable<CustomInfo>;
  setAttributes?(
    key: string,
    kind: 'file' | 'directory',
    attributes: StoredAttributes,
    precondition: Precondition,
    context: Context,
  ): Awaitable<CustomInfo>;
  rename?(from: string, to: string, context: Context): Awaitable<void>;
  usage?(
    context: Context,
  ): Awaitable<{ total?: number; free?: number; entries?: number; freeEntries?: number }>;
  close?(): Awaitable<void>;
}

/** `ObjectInfo` as little as it can be: what is left out is not known. */
export interface CustomInfo {
  /** Needed in listings. */
  readonly key?: string;
  readonly kind?: 'file' | 'directory';
  readonly size?: number | undefined;
  /** A `Date`, milliseconds since 1970, or a `Timestamp`. */
  readonly modified?: Date | number | Timestamp;
  readonly validator?: Validator | undefined;
  readonly attributes?: StoredAttributes | undefined;
}

type Awaitable<T> = T | Promise<T>;
