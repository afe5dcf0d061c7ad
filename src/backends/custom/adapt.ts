import { MirageError } from '../../errors/mirage-error.js';
import type {
  AttributeBackend,
  Backend,
  Capabilities,
  Context,
  CopyBackend,
  DirectoryBackend,
  ObjectInfo,
  Precondition,
  RenameBackend,
  UsageBackend,
} from '../contract.js';
import { Answers, DOCUMENTATION, toMirageError } from './answers.js';
import type { CustomBackend } from './api.js';
import { withDirectoryMarkers } from './directory-markers.js';

/**
 * A stranger's backend as one of ours: capabilities completed, answers checked, errors mapped. Where it does not claim to honour a precondition, the
 * object is looked at right before the change, which narrows the window of a lost update but cannot close it.
 */
export function adapt(module: string, given: CustomBackend): Backend {
  const capabilities = complete(module, given);
  const answers = new Answers(module, capabilities.attributes);
  const { preconditions } = capabilities;

  async function call<T>(
    operation: keyof CustomBackend,
    context: Context,
    run: () => T,
  ): Promise<Awaited<T>> {
    context.signal.throwIfAborted();
    try {
      return await run();
    } catch (error) {
      if (context.signal.aborted) throw error;
      throw toMirageError(error, `${module}: ${operation}`);
    }
  }

  const stat = async (key: string, context: Context): Promise<ObjectInfo | undefined> => {
    const found = await call('stat', context, () => given.stat(key, context));
    // The root is there whatever the store knows of it.
    if (found === undefined || found === null) return key === '' ? ROOT : undefined;
    return answers.info('stat', key, found);
  };

  async function guard(
    key: string,
    precondition: Precondition,
    honoured: boolean,
    context: Context,
  ): Promise<void> {
    if (honoured || precondition.kind === 'any') return;
    const found = await stat(key, context);
    const validator = found?.kind === 'file' ? found.validator : undefined;
    const holds =
      precondition.kind === 'absent' ? found?.kind !== 'file' : validator === precondition.validator;
    if (!holds) throw new MirageError(`${key} is another version by now`, { errno: 'ESTALE' });
  }
  const honours = ({ kind }: Precondition): boolean =>
    kind === 'absent' ? preconditions.writeAbsent : preconditions.writeMatch;

  const backend: Backend & Partial<Optional> = {
    capabilities,
    stat,
    async list(prefix, cursor, context) {
      return answers.page(prefix, await call('list', context, () => given.list(prefix, cursor, context)));
    },
    async read(key, range, sink, context, match) {
      // An error of the sink is not the store's: it goes back to its owner as it is.
      let failure: { readonly error: unknown } | undefined;
      const watched = {
        begin: (info: ObjectInfo) => sink.begin?.(info),
        async write(chunk: Uint8Array) {
          context.signal.throwIfAborted();
          try {
            await sink.write(chunk);
          } catch (error) {
            failure ??= { error };
            throw error;
          }
        },
      };
      try {
        const info = await call('read', context, () => given.read(key, range, watched, context, match));
        context.signal.throwIfAborted();
        return answers.info('read', key, info);
      } catch (error) {
        throw failure === undefined ? error : failure.error;
      }
    },
    async write(key, source, options, context) {
      const { write } = given;
      if (write === undefined) throw readOnly(module);
      await guard(key, options.precondition, honours(options.precondition), context);
      const info = await call('write', context, () => write.call(given, key, source, options, context));
      return answers.info('write', key, info);
    },
    async remove(key, precondition, context) {
      const { remove } = given;
      if (remove === undefined) throw readOnly(module);
      const honoured = precondition.kind === 'match' && preconditions.removeMatch;
      await guard(key, precondition, honoured, context);
      await call('remove', context, () => remove.call(given, key, precondition, context));
    },
    async close() {
      await given.close?.();
    },
    ...(given.usage && {
      usage: async (context) => answers.usage(await call('usage', context, () => given.usage?.(context))),
    }),
  };
  if (capabilities.readOnly === true) return backend;
  const changes: Partial<Optional> = {
    ...(given.createDirectory && {
      async createDirectory(key, attributes, context) {
        const run = () => given.createDirectory?.(key, attributes, context);
        const info = answers.info('createDirectory', key, await call('createDirectory', context, run));
        return { ...info, kind: 'directory', size: undefined };
      },
    }),
    ...(given.removeDirectory && {
      removeDirectory: async (key, context) =>
        call('removeDirectory', context, () => given.removeDirectory?.(key, context)),
    }),
    ...(given.copy && {
      async copy(from, to, options, context) {
        const { precondition } = options;
        await guard(to, precondition, precondition.kind === 'absent' && preconditions.copyAbsent, context);
        const run = () => given.copy?.(from, to, options, context);
        return answers.info('copy', to, await call('copy', context, run));
      },
    }),
    ...(given.setAttributes && {
      async setAttributes(key, kind, attributes, precondition, context) {
        if (kind === 'file') await guard(key, precondition, preconditions.writeMatch, context);
        const run = () => given.setAttributes?.(key, kind, attributes, precondition, context);
        return { ...answers.info('setAttributes', key, await call('setAttributes', context, run)), kind };
      },
    }),
    ...(given.rename && {
      rename: async (from, to, context) => call('rename', context, () => given.rename?.(from, to, context)),
    }),
  };
  const whole = { ...backend, ...changes };
  const needsMarkers = capabilities.directories === 'markers' && changes.createDirectory === undefined;
  return needsMarkers ? withDirectoryMarkers(whole) : whole;
}

type Optional = Omit<
  DirectoryBackend & CopyBackend & AttributeBackend & RenameBackend & UsageBackend,
  keyof Backend
>;

const ROOT: ObjectInfo = {
  key: '',
  kind: 'directory',
  size: undefined,
  modified: { seconds: 0, nanoseconds: 0 },
  validator: undefined,
  attributes: {},
};

const MANDATORY = ['stat', 'list', 'read'] as const;

function complete(module: string, given: CustomBackend): Capabilities {
  const missing = MANDATORY.filter(
    (name) => typeof (given as Partial<CustomBackend> | null)?.[name] !== 'function',
  );
  const writes = typeof given?.write === 'function';
  if (missing.length > 0) throw broken(module, `its backend has no ${missing.join(', no ')}`);
  if (writes !== (typeof given.remove === 'function')) {
    throw broken(module, `its backend has ${writes ? 'write but no remove' : 'remove but no write'}`);
  }
  const { preconditions = {}, ...others } = given.capabilities ?? {};
  const { writeAbsent = false, writeMatch = false } = preconditions;
  return {
    readOnly: !writes,
    attributes: false,
    directories: 'markers',
    maximumSize: Number.POSITIVE_INFINITY,
    maximumKeyBytes: Number.POSITIVE_INFINITY,
    ...others,
    preconditions: {
      writeAbsent,
      writeMatch,
      multipartAbsent: writeAbsent,
      multipartMatch: writeMatch,
      copyAbsent: false,
      removeMatch: false,
      ...preconditions,
    },
  };
}

export const broken = (module: string, what: string, cause?: unknown): MirageError =>
  new MirageError(`${module}: ${what}`, { errno: 'EINVAL', cause, hint: DOCUMENTATION });

export const readOnly = (module: string): MirageError =>
  new MirageError(`${module} can only be read`, { errno: 'EROFS', hint: 'mount it with `mode: read`' });
