import { MirageError } from '../../errors/mirage-error.js';
import {
  type Backend,
  type Context,
  hasCopy,
  hasDirectories,
  hasRemoveMany,
  hasRename,
  hasSetAttributes,
  type ObjectInfo,
  type Precondition,
  type Removal,
  type StoredAttributes,
} from '../contract.js';
import { hasMultipart, type Multipart } from '../multipart.js';
import { removeEach } from '../object-store/removals.js';
import { plain } from './intercept.js';
import { interceptMultipart } from './multipart.js';

/**
 * Turns unknown outcomes into known ones. A conditional change that ended in a broken connection or a 5xx may have been carried
 * out, now or a moment later; so the object is read back: it carries the nonce of our write (done), is still in the state
 * that the precondition asked for (tried once more, and whatever is left of the first try cannot do harm: both
 * carry the precondition, one wins), or belongs to somebody else (ESTALE). What is done whatever the state is can simply be done again.
 */
export function readBack(inner: Backend): Backend {
  async function look(key: string, context: Context, failure: MirageError): Promise<ObjectInfo | undefined> {
    try {
      return await inner.stat(key, context);
    } catch {
      throw failure;
    }
  }

  async function settle(
    key: string,
    nonce: string | undefined,
    precondition: Precondition,
    context: Context,
    change: () => Promise<ObjectInfo>,
  ): Promise<ObjectInfo> {
    for (let tries = 1; ; tries++) {
      let failure: MirageError;
      try {
        return await change();
      } catch (error) {
        const undecided = MirageError.is(error) && (error.outcomeUnknown || (tries > 1 && refused(error)));
        if (!undecided || (nonce === undefined && precondition.kind !== 'any')) throw error;
        failure = error;
      }
      const found = await look(key, context, failure);
      if (nonce !== undefined && found?.attributes?.writer === nonce) return found;
      if (refused(failure) || tries === TRIES) throw failure;
      if (!holds(precondition, found)) throw lost(key, failure);
    }
  }

  const wrapped: Backend = {
    ...plain(inner),
    write: (key, source, options, context) =>
      settle(key, options.attributes?.writer, options.precondition, context, () =>
        inner.write(key, source, options, context),
      ),
    async remove(key, precondition, context) {
      for (let tries = 1; ; tries++) {
        try {
          return await inner.remove(key, precondition, context);
        } catch (error) {
          if (!MirageError.is(error) || !error.outcomeUnknown || tries === TRIES) throw error;
          const found = await look(key, context, error);
          if (found?.kind !== 'file') return;
          if (!holds(precondition, found)) throw lost(key, error);
        }
      }
    },
  };
  return {
    ...wrapped,
    ...(hasMultipart(inner) && {
      multipart: {
        ...interceptMultipart(inner.multipart, (_operation, _key, c, proceed) => proceed(c)),
        complete: (...[upload, parts, options, context]: Parameters<Multipart['complete']>) =>
          settle(upload.key, options.attributes?.writer, options.precondition, context, () =>
            inner.multipart.complete(upload, parts, options, context),
          ),
      },
    }),
    ...(hasRemoveMany(inner) && {
      // What one request for all of them left open, a request for each of them closes.
      async removeMany(removals: readonly Removal[], context: Context) {
        let outcomes: readonly (MirageError | undefined)[];
        try {
          outcomes = await inner.removeMany(removals, context);
        } catch (error) {
          if (!MirageError.is(error) || !error.outcomeUnknown) throw error;
          outcomes = removals.map(() => error);
        }
        const open = removals.filter((_, index) => isOpen(outcomes[index]));
        if (open.length === 0) return outcomes;
        const closed = await removeEach(open, async ({ key, precondition }) => {
          if (precondition.kind === 'match') {
            // Where it was carried out after all, its own success must not look like another writer's.
            const found = await inner.stat(key, context);
            if (found?.kind !== 'file') return;
            if (!holds(precondition, found))
              throw lost(key, new MirageError('another version', { errno: 'ESTALE' }));
          }
          await wrapped.remove(key, precondition, context);
        });
        let next = 0;
        return outcomes.map((outcome) => (isOpen(outcome) ? closed[next++] : outcome));
      },
    }),
    ...(hasDirectories(inner) && {
      createDirectory: (key: string, attributes: StoredAttributes, context: Context) =>
        settle(key, attributes.writer, { kind: 'absent' }, context, () =>
          inner.createDirectory(key, attributes, context),
        ),
      async removeDirectory(key: string, context: Context) {
        for (let tries = 1; ; tries++) {
          try {
            return await inner.removeDirectory(key, context);
          } catch (error) {
            if (tries > 1 && MirageError.is(error, 'ENOENT')) return;
            if (!MirageError.is(error) || !error.outcomeUnknown || tries === TRIES) throw error;
          }
        }
      },
    }),
    ...(hasCopy(inner) && {
      copy: (from: string, to: string, options: Parameters<typeof inner.copy>[2], context: Context) =>
        settle(to, options.attributes?.writer, options.precondition, context, () =>
          inner.copy(from, to, options, context),
        ),
    }),
    ...(hasRename(inner) && {
      async rename(from: string, to: string, context: Context) {
        for (let tries = 1; ; tries++) {
          try {
            return await inner.rename(from, to, context);
          } catch (error) {
            if (!MirageError.is(error) || !error.outcomeUnknown || tries === TRIES) throw error;
            if ((await look(from, context, error)) !== undefined) continue;
            // Gone under the one name: it went to the other. Under neither: the next try says so.
            if ((await look(to, context, error)) !== undefined) return;
          }
        }
      },
    }),
    ...(hasSetAttributes(inner) && {
      setAttributes: (
        ...[key, kind, attributes, precondition, context]: Parameters<typeof inner.setAttributes>
      ) =>
        settle(key, attributes.writer, precondition, context, () =>
          inner.setAttributes(key, kind, attributes, precondition, context),
        ),
    }),
  };
}

const TRIES = 3;

const isOpen = (error: MirageError | undefined): boolean =>
  error !== undefined && (error.outcomeUnknown || error.retryable);

function holds(precondition: Precondition, found: ObjectInfo | undefined): boolean {
  const object = found?.kind === 'file' ? found : undefined;
  switch (precondition.kind) {
    case 'absent':
      return object === undefined;
    case 'match':
      return object?.validator === precondition.validator;
    case 'any':
      return true;
  }
}

/** The precondition failed; `createDirectory` says EEXIST for it. */
const refused = (error: MirageError): boolean => error.errno === 'ESTALE' || error.errno === 'EEXIST';

function lost(key: string, cause: MirageError): MirageError {
  return new MirageError(`${key}: another writer was first`, { errno: 'ESTALE', cause });
}
