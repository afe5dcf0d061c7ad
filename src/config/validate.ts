import { z } from 'zod';
import type { Configuration, MountConfiguration } from './configuration.js';
import { cacheDirectory, type Environment, stateDirectory } from './directories.js';
import { type ConfigurationDocument, isPlain, type Path, type Plain } from './document.js';
import { ConfigurationError, nearest, type Problem } from './problem.js';
import {
  freshnessOf,
  globalSchema,
  isModulePath,
  type MountTypes,
  moduleType,
  mountSchema,
  NESTED,
} from './schema.js';

export interface ValidationContext {
  readonly types: MountTypes;
  readonly environment: Environment;
  /** Makes a path of the configuration absolute. */
  absolute(path: string): string;
  /** From the command line: wins over the file. */
  readonly mountpoint?: string | undefined;
}

/** Checks a document and fills in the defaults. Throws ConfigurationError with everything that is wrong. */
export function validate(
  document: ConfigurationDocument,
  context: ValidationContext,
): Omit<Configuration, 'file' | 'secrets'> {
  const { value, place } = document;
  const problems: Problem[] = [];
  const source = isPlain(value) ? value : {};
  if (!isPlain(value)) {
    problems.push({
      place: place([]),
      what: 'there is no configuration here',
      why: 'the file is empty or not a list of keys',
      remedy: 'write one with: mirage config init',
    });
  }

  const { mounts, ...rest } = source;
  const globals = check(
    globalSchema.omit({ mounts: true }),
    rest,
    [],
    Object.keys(globalSchema.shape),
    document,
    problems,
  );
  const mountpoint = context.mountpoint ?? globals?.mountpoint;
  if (problems.length === 0 && mountpoint === undefined) {
    problems.push({
      place: place([]),
      what: 'no mount point',
      why: 'neither the file nor the command line names one',
      remedy: 'add the key mountpoint: /mirage, or say it after the command',
    });
  }

  const paths = isPlain(mounts) ? Object.keys(mounts) : [];
  if (isPlain(value) && paths.length === 0) {
    problems.push({
      place: place(['mounts']),
      what: 'no mounts',
      why: 'the key mounts must name at least one folder with its store',
      remedy: 'add for example:  mounts: { tmp: { type: ram, mode: write } }',
    });
  }
  const checked = paths.map((path) =>
    checkMount(path, (mounts as Plain)[path], globals, context, document, problems),
  );
  checkPaths(paths, place, problems);
  if (problems.length > 0 || globals === undefined || mountpoint === undefined) {
    throw new ConfigurationError(problems.sort(byPlace));
  }

  const at = context.absolute(mountpoint);
  const { state, cache } = globals;
  return {
    mountpoint: at,
    state: state ? context.absolute(state) : stateDirectory(at, context.environment),
    cache: {
      directory: cache.directory
        ? context.absolute(cache.directory)
        : cacheDirectory(at, context.environment),
      size: cache.size,
    },
    allowOther: globals.allowOther,
    passthrough: globals.passthrough,
    listedNodes: globals.listedNodes,
    binding: globals.binding,
    mounts: checked.filter((mount) => mount !== undefined),
  };
}

/** In the order of the file. */
const byPlace = (a: Problem, b: Problem): number => a.place.localeCompare(b.place, 'en', { numeric: true });

function checkMount(
  name: string,
  value: unknown,
  inherited: { readonly ttl: number; readonly allowOther: boolean } | undefined,
  context: ValidationContext,
  document: ConfigurationDocument,
  problems: Problem[],
): MountConfiguration | undefined {
  const path: Path = ['mounts', name];
  const known = Object.keys(context.types);
  if (!isPlain(value) || typeof value.type !== 'string') {
    problems.push({
      place: document.place(path),
      what: `the mount ${name} has no type`,
      why: 'every mount says what kind of store it is',
      remedy: `add type: with one of ${known.join(', ')}`,
    });
    return undefined;
  }
  const isModule = isModulePath(value.type);
  const type = isModule
    ? moduleType
    : Object.hasOwn(context.types, value.type)
      ? context.types[value.type]
      : undefined;
  if (type === undefined) {
    const meant = nearest(value.type, known);
    problems.push({
      place: document.place([...path, 'type']),
      what: `unknown type "${value.type}"`,
      why: `the types are ${known.join(', ')}, or the path of a module: ./my-backend.mjs`,
      remedy: meant ? `did you mean ${meant}?` : `use one of them`,
    });
    return undefined;
  }

  const nested = value[NESTED];
  const common: Record<string, unknown> = {};
  const own: Record<string, unknown> = {};
  for (const [key, item] of Object.entries(value)) {
    if (key === NESTED) continue;
    if (key in mountSchema.shape) common[key] = item;
    else own[key] = item;
  }
  const ownKeys = Object.keys(type.options.shape);
  const commonResult = check(mountSchema, common, path, [], document, problems);
  const options =
    nested === undefined
      ? check(type.options, own, path, [...Object.keys(mountSchema.shape), NESTED], document, problems)
      : checkNested(type.options, nested, own, path, document, problems);
  const valid: readonly string[] = freshnessOf[type.placement];
  const freshness = commonResult?.freshness ?? freshnessOf[type.placement][0];
  if (!valid.includes(freshness)) {
    problems.push({
      place: document.place([...path, 'freshness']),
      what: `freshness: ${freshness} is not for a mount of type ${value.type}`,
      why: `it takes ${valid.join(', ')}`,
      remedy: `write one of them, or leave the key out (${valid[0]})`,
    });
  }
  if (commonResult?.acl !== undefined && type.placement === 'remote') {
    problems.push({
      place: document.place([...path, 'acl']),
      what: `acl is not for a mount of type ${value.type}`,
      why: 'only a tree of this host has POSIX ACLs',
      remedy: 'leave the key out',
    });
  }
  if (commonResult?.writeBack === 'async' && type.writesThrough) {
    problems.push({
      place: document.place([...path, 'writeBack']),
      what: `writeBack: async is not for a mount of type ${value.type}`,
      why: 'its changes reach the store one by one, as programs make them',
      remedy: 'write close, or leave the key out',
    });
  }
  const lease = leaseOf(commonResult, value.type, type, path, document, problems);
  const ttls = folders(commonResult?.ttls ?? {}, [...path, 'ttls'], document, problems);
  if (commonResult === undefined || options === undefined) return undefined;
  // A key of the same name in both would be read by the wrong one.
  for (const key of ownKeys)
    if (key in mountSchema.shape) throw new TypeError(`${value.type}: key ${key} is taken`);
  return {
    path: `/${name.replace(/^\/+|\/+$/g, '')}`,
    type: isModule ? context.absolute(value.type) : value.type,
    placement: type.placement,
    mode: commonResult.mode,
    ttl: commonResult.ttl ?? inherited?.ttl ?? 0,
    ttls,
    freshness,
    acl: type.placement === 'inline' && (commonResult.acl ?? inherited?.allowOther === true),
    writeBack: commonResult.writeBack,
    conflicts: commonResult.conflicts,
    ...(lease !== undefined && { lease }),
    options,
  };
}

/** Milliseconds: below the shortest, renewing would keep the store busy; the longest is what another host believes. */
const TERMS = { shortest: 2000, longest: 3_600_000 };
const LONGER_THAN_TERM = 30_000;

function leaseOf(
  mount: z.output<typeof mountSchema> | undefined,
  name: string,
  { placement }: MountTypes[string],
  path: Path,
  document: ConfigurationDocument,
  problems: Problem[],
): MountConfiguration['lease'] {
  if (mount?.locking !== 'lease') return undefined;
  const { leaseTerm: term, leaseWait: wait = term + LONGER_THAN_TERM } = mount;
  if (placement === 'inline') {
    problems.push({
      place: document.place([...path, 'locking']),
      what: `locking: lease is not for a mount of type ${name}`,
      why: 'it keeps hosts from each other, and this one has no others',
      remedy: 'leave the key out',
    });
  }
  if (term < TERMS.shortest || term > TERMS.longest) {
    problems.push({
      place: document.place([...path, 'leaseTerm']),
      what: `leaseTerm is ${term / 1000} s`,
      why: 'a lease lasts from 2 s to an hour',
      remedy: 'write a time between them, or leave the key out (30s)',
    });
  }
  return { term, wait };
}

/** Paths of folders as the store knows them: without slashes around. */
function folders(
  values: Readonly<Record<string, number>>,
  path: Path,
  document: ConfigurationDocument,
  problems: Problem[],
): Record<string, number> {
  const found: Record<string, number> = {};
  for (const [key, value] of Object.entries(values)) {
    const folder = key.replace(/^\/+|\/+$/g, '');
    found[folder] = value;
    if (folder !== '' && folder.split('/').every((name) => name !== '' && name !== '.' && name !== '..'))
      continue;
    problems.push({
      place: document.place([...path, key]),
      what: `"${key}" names no folder of the mount`,
      why: 'a folder is written as a path below the mount',
      remedy: folder === '' ? 'write ttl for the whole mount' : 'write it without empty names, . and ..',
    });
  }
  return found;
}

function checkNested(
  schema: z.ZodObject,
  nested: unknown,
  beside: Plain,
  path: Path,
  document: ConfigurationDocument,
  problems: Problem[],
): Plain | undefined {
  const misplaced = Object.keys(beside);
  for (const key of misplaced) {
    const isOwn = key in schema.shape;
    const meant = nearest(key, [...Object.keys(mountSchema.shape), NESTED]);
    problems.push({
      place: document.place([...path, key]),
      what: isOwn ? `${key} stands beside ${NESTED}` : `unknown key "${key}"`,
      why: `with ${NESTED}, the keys of the store stand below it`,
      remedy: isOwn ? `move ${key} below ${NESTED}` : meant ? `did you mean ${meant}?` : 'remove it',
    });
  }
  const result = check(schema, isPlain(nested) ? nested : {}, [...path, NESTED], [], document, problems);
  return misplaced.length === 0 ? result : undefined;
}

/** Runs one schema; its issues become problems with a place and the nearest valid key. */
function check<T extends z.ZodObject>(
  schema: T,
  value: Plain,
  path: Path,
  besides: readonly string[],
  document: ConfigurationDocument,
  problems: Problem[],
): z.output<T> | undefined {
  const result = schema.safeParse(typed(schema, value));
  if (result.success) return result.data;
  const unknown = result.error.issues.flatMap((issue) =>
    issue.code === 'unrecognized_keys'
      ? issue.keys.map((key) =>
          unknownKey(key, [...path, ...issue.path.map(String)], schema, besides, document),
        )
      : [],
  );
  problems.push(...unknown.map(({ problem }) => problem));
  for (const issue of result.error.issues) {
    if (issue.code === 'unrecognized_keys') continue;
    const below = [...path, ...issue.path.map(String)];
    const key = document.name(below) || 'the file';
    const missing = issue.path.length > 0 && issue.path.reduce<unknown>(step, value) === undefined;
    // What is missing was misspelt: said already.
    if (missing && unknown.some(({ meant }) => meant === issue.path.at(-1))) continue;
    const field = fieldAt(schema, issue.path);
    const values = issue.code === 'invalid_value' ? issue.values.join(', ') : undefined;
    problems.push({
      place: document.place(below),
      what: missing ? `${key} is missing` : `${key} has a wrong value`,
      why: missing
        ? (describe(field) ?? 'it has no default')
        : issue.message.replace(/^Invalid (input|option): /, ''),
      remedy: missing
        ? 'add it'
        : `it takes ${values ?? formOf(field) ?? 'what `mirage config schema` says'}`,
    });
  }
  return undefined;
}

const step = (value: unknown, key: PropertyKey): unknown => (isPlain(value) ? value[String(key)] : undefined);

function unknownKey(
  key: string,
  path: Path,
  schema: z.ZodObject,
  besides: readonly string[],
  document: ConfigurationDocument,
): { problem: Problem; meant: string | undefined } {
  let known = Object.keys(schema.shape);
  // The one nested object that we have is `cache`.
  if (path[0] === 'cache') known = ['directory', 'size'];
  else known = [...new Set([...known, ...besides])];
  const meant = nearest(key, known);
  const problem = {
    place: document.place([...path, key]),
    what: `unknown key "${key}"${document.name(path) === '' ? '' : ` in ${document.name(path)}`}`,
    why: `the keys here are ${known.join(', ')}`,
    remedy: meant ? `did you mean ${meant}?` : 'remove it',
  };
  return { problem, meant };
}

/** The schema of what stands at a path; where that is an object, of the key in it. */
function fieldAt(schema: z.ZodObject, path: readonly PropertyKey[]): z.ZodType | undefined {
  let field: z.ZodType | undefined = schema;
  for (const key of path) {
    const kind: z.ZodType = innermost(field);
    if (kind instanceof z.ZodObject) field = kind.shape[String(key)] as z.ZodType | undefined;
    else if (kind instanceof z.ZodRecord) field = kind.valueType as z.ZodType;
    if (field === undefined) return undefined;
  }
  return field;
}

/** What the schema says of a field, below `optional` and `default` too. */
const describe = (field: z.ZodType | undefined): string | undefined =>
  field === undefined ? undefined : (field.description ?? innermost(field).description);

/** How a value is written; what it is for, where its kind says nothing. */
function formOf(field: z.ZodType | undefined): string | undefined {
  if (field === undefined) return undefined;
  const kind = innermost(field);
  return kind instanceof z.ZodBoolean ? 'true or false' : (kind.description ?? field.description);
}

/** Below `optional` and `default`. */
const innermost = (field: z.ZodType): z.ZodType =>
  'unwrap' in field ? innermost((field as unknown as { unwrap(): z.ZodType }).unwrap()) : field;

/** Variables and the command line give text: a field that takes no text gets the number or the truth value it says. */
function typed(schema: z.ZodObject, value: Plain): Plain {
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => {
      const field = schema.shape[key] as z.ZodType | undefined;
      if (typeof item !== 'string' || field === undefined || field.safeParse(item).success)
        return [key, item];
      const candidates =
        item === 'true' ? [true] : item === 'false' ? [false] : item.trim() === '' ? [] : [Number(item)];
      const fitting = candidates.find((candidate) => field.safeParse(candidate).success);
      return [key, fitting ?? item];
    }),
  );
}

/** Mount paths are plain names, none inside another; `/` stands alone. */
function checkPaths(names: readonly string[], place: (path: Path) => string, problems: Problem[]): void {
  const seen = new Map<string, string>();
  for (const name of names) {
    const bare = name.replace(/^\/+|\/+$/g, '');
    const parts = bare === '' ? [] : bare.split('/');
    const report = (why: string, remedy: string): void => {
      problems.push({ place: place(['mounts', name]), what: `"${name}" cannot be a mount`, why, remedy });
    };
    if (parts.some((part) => part === '' || part === '.' || part === '..' || Buffer.byteLength(part) > 255)) {
      report('a path has plain names between its slashes', 'write it like a/b');
    } else if (parts[0] === '.mirage') {
      report('.mirage is the control folder', 'choose another name');
    }
    for (const [other, otherName] of seen) {
      if (other === bare) report(`it is the same folder as "${otherName}"`, 'remove one of them');
      else if (bare === '' || other === '')
        report('a mount at / is the whole tree', 'keep it alone, or give it a name');
      else if (bare.startsWith(`${other}/`) || other.startsWith(`${bare}/`)) {
        report(`it and "${otherName}" lie one inside the other`, 'put them side by side');
      }
    }
    seen.set(bare, name);
  }
}
