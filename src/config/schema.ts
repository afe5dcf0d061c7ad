import { z } from 'zod';
import { byteSize, duration } from './quantities.js';

/** What the configuration must know of a kind of mount; the callers above pass the registry of the backends. */
export interface MountType {
  readonly options: z.ZodObject;
  readonly placement: 'inline' | 'remote';
  /** Takes no `writeBack: async`. */
  readonly writesThrough?: true;
}
export type MountTypes = Readonly<Record<string, MountType>>;

/** The type of a mount may be the path of a module that brings a backend of its own: `./my-backend.mjs`. */
export const isModulePath = (type: string): boolean => /^(\.{1,2}|~)?\//.test(type);

/** The module itself checks its keys, when it is loaded. */
export const moduleType: MountType = { options: z.looseObject({}), placement: 'remote' };

/** Keys of the whole file; those of `mounts` are checked mount by mount. */
export const globalSchema = z.strictObject({
  mountpoint: z
    .string()
    .min(1)
    .optional()
    .describe('folder where the tree appears; the command line may say it instead'),
  state: z
    .string()
    .min(1)
    .optional()
    .describe('folder of the metadata database, conflicts and the log; one daemon each'),
  cache: z
    .strictObject({
      directory: z
        .string()
        .min(1)
        .optional()
        .describe('folder of cached content; on a file system with sparse files'),
      size: byteSize().default(10 * 2 ** 30),
    })
    .prefault({})
    .describe('cached content of remote stores'),
  ttl: duration().default(60_000).describe('how long names and attributes of remote stores count as known'),
  allowOther: z
    .boolean()
    .default(false)
    .describe('other users may use the mount (for non-root: user_allow_other in /etc/fuse.conf)'),
  passthrough: z
    .boolean()
    .default(true)
    .describe('the kernel reads and writes host files by itself where it can (Linux 6.9, root)'),
  listedNodes: z
    .int()
    .min(0)
    .default(100_000)
    .describe(
      'names of one remote mount that reading folders makes known to the kernel, which keeps some 1.2 KB of memory for each; of more it gets the names alone',
    ),
  binding: z.enum(['auto', 'raw', 'fuse-native']).default('auto').describe('how the kernel is spoken to'),
  mounts: z
    .record(z.string(), z.record(z.string(), z.unknown()))
    .describe('path below the mount point → mount'),
});

/** Keys that every mount has. */
export const mountSchema = z.strictObject({
  type: z.string().describe('kind of store'),
  mode: z.enum(['read', 'write', 'exec']).default('read').describe('exec: files may carry the x bit, too'),
  ttl: duration().optional(),
  ttls: z
    .record(z.string(), duration())
    .default({})
    .describe(
      'folder of the mount → its own ttl, with all that lies below: { "logs/": 5s }; the nearest one counts',
    ),
  freshness: z.enum(['ttl', 'open', 'offline', 'now', 'inotify']).optional(),
  acl: z
    .boolean()
    .optional()
    .describe('POSIX ACLs of host files count and can be set; left out: where other users may enter'),
  writeBack: z
    .enum(['close', 'async'])
    .default('close')
    .describe(
      'what close, fsync and changes of names wait for: close: the store; async: the journal on this disk, and the store follows',
    ),
  conflicts: z
    .enum(['sidecar', 'reject', 'lastWriterWins'])
    .default('sidecar')
    .describe('what becomes of bytes that lost against another host'),
  locking: z
    .enum(['none', 'lease'])
    .default('none')
    .describe('lease: one host at a time has a file open for writing, others wait'),
  leaseTerm: duration()
    .default(30_000)
    .describe('how long a host that does not answer any more keeps others waiting'),
  leaseWait: duration()
    .optional()
    .describe('how long an open for writing waits for another host; left out: 30 s more than the term'),
});

/** The first is the default: a tree of this host is watched, a remote store remembered for a time. */
export const freshnessOf = {
  inline: ['inotify', 'now', 'ttl'],
  remote: ['ttl', 'open', 'offline'],
} as const;

/** A mount may also be written with its own keys below `config`. */
export const NESTED = 'config';

/** JSON Schema (draft 2020-12) of the file, for editors. */
export function jsonSchema(types: MountTypes): object {
  const schema = z.toJSONSchema(globalSchema, { io: 'input' }) as JsonObject;
  const properties = schema.properties as Record<string, JsonObject>;
  properties.mounts = {
    type: 'object',
    description: 'path below the mount point → mount',
    minProperties: 1,
    additionalProperties: {
      oneOf: [...Object.entries(types).flatMap(([name, type]) => mountVariants(name, type)), moduleVariant()],
    },
  };
  return { ...schema, title: 'Mirage configuration', required: ['mounts'] };
}

type JsonObject = { [key: string]: unknown; properties?: Record<string, unknown>; required?: string[] };

function moduleVariant(): JsonObject {
  const common = z.toJSONSchema(mountSchema, { io: 'input' }) as JsonObject;
  const type = {
    type: 'string',
    pattern: '^(\\.{1,2}|~)?/',
    description: 'module with a backend of its own',
  };
  return {
    type: 'object',
    properties: { ...common.properties, type, freshness: { enum: freshnessOf.remote } },
    required: ['type'],
    additionalProperties: true,
  };
}

function mountVariants(name: string, type: MountType): JsonObject[] {
  const common = z.toJSONSchema(mountSchema, { io: 'input' }) as JsonObject;
  const own = z.toJSONSchema(type.options, { io: 'input' }) as JsonObject;
  // An editor cannot know what a variable will hold: any text with one is right.
  const ownProperties = Object.fromEntries(
    Object.entries(own.properties ?? {}).map(([key, value]) => [
      key,
      { anyOf: [value, { type: 'string', pattern: '\\$\\{' }] },
    ]),
  );
  const commonProperties = {
    ...common.properties,
    ...(type.placement === 'remote' ? { acl: false } : { locking: { const: 'none' } }),
    ...(type.writesThrough && { writeBack: { const: 'close' } }),
    type: { const: name },
    freshness: { enum: freshnessOf[type.placement] },
  };
  const variant = (properties: Record<string, unknown>, required: string[]): JsonObject => ({
    type: 'object',
    properties,
    required,
    additionalProperties: false,
  });
  const nested = variant(ownProperties, own.required ?? []);
  return [
    variant({ ...commonProperties, ...ownProperties }, ['type', ...(own.required ?? [])]),
    variant({ ...commonProperties, [NESTED]: nested }, ['type', NESTED]),
  ];
}
